package signalbox

import (
	"fmt"
	"time"
)

// Leases say how the leases of a term run. The zero value means that the term
// uses none: instances serve on their certificate until they give evidence.
type Leases struct {
	// TTL is how long a lease lasts, counted from when it was asked for.
	TTL time.Duration
	// Drift bounds how far clocks run apart, in parts per million (10000: 1%).
	Drift uint32
}

// Used reports whether the term uses leases.
func (l Leases) Used() bool { return l.TTL > 0 }

// Bounds of Leases.
const (
	MinLeaseTTL   = 200 * time.Millisecond
	MaxLeaseTTL   = time.Minute
	MaxLeaseDrift = 100_000
)

// Check returns nil when the leases can be used, or are none.
func (l Leases) Check() error {
	if l == (Leases{}) {
		return nil
	}
	if l.TTL < MinLeaseTTL || l.TTL > MaxLeaseTTL || l.Drift > MaxLeaseDrift {
		return fmt.Errorf("%w: leases of %v with drift %d ppm: want %v to %v and at most %d ppm", ErrInvalid, l.TTL, l.Drift, MinLeaseTTL, MaxLeaseTTL, MaxLeaseDrift)
	}
	return nil
}

// LapseWait is how long a voter waits on its own clock since its last grant
// before it signs a lapse: TTL x (1 + drift) / (1 - drift), rounded up.
func (l Leases) LapseWait() time.Duration {
	const million = 1_000_000
	drift := time.Duration(min(l.Drift, MaxLeaseDrift))
	return (l.TTL*(million+drift) + million - drift - 1) / (million - drift)
}
