package agreement

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// Maxima of what other voters send, in bytes unless said.
const (
	// MaxValue is the largest value; a decided block holds it and a signature.
	MaxValue = 128 << 10
	// MaxShare is the largest share of a signature.
	MaxShare = 128
	// MaxSignature is the largest combined signature: a list of all voters'.
	MaxSignature = signature.MaxVoters * (MaxShare/2 + 1)
	// MaxMessage is the largest encoded message.
	MaxMessage = MaxValue + 2*MaxSignature + signature.MaxVoters*(MaxShare+32) + 1024
	// MaxRequest is the largest forwarded request.
	MaxRequest = MaxValue
)

// Defaults of Config's times.
const (
	DefaultTimeout    = time.Second
	DefaultMaxTimeout = 16 * time.Second
)

// A Config is what a replica is told once.
type Config struct {
	Cluster string
	// Epoch numbers the voter set; every signed message carries it.
	Epoch uint64
	// Self is this voter's index in the voter set.
	Self int
	// Voters (n) and Unavailable (u) fix the quorum, n - u, and with it how
	// many may lie: r = n - 1 - 2u.
	Voters, Unavailable int
	Scheme              signature.Scheme
	// Validate returns nil for a value that this voter may vote for in a slot,
	// by what it can check itself; proposer is the voter that leads. The
	// decisions of all slots before it are in the caller's log.
	Validate func(slot uint64, proposer int, value []byte) error
	// Timeout is how long the first view of a slot may take; each next one may
	// take twice as long, MaxTimeout at most. Zero: the defaults.
	Timeout, MaxTimeout time.Duration
	// UnreachableTimeout is the same for a view whose leader cannot be reached (see
	// SetUnreachable), in the first views of a slot, one for each voter. Zero: an
	// eighth of Timeout.
	UnreachableTimeout time.Duration
	// NotBefore is the first slot that this voter may vote in: a voter that
	// lost its state may have voted in those below.
	NotBefore uint64
	// Without switches rules off, for tests that show what each is for. The
	// zero value keeps all.
	Without Rule
	// lead, in tests, says who leads a view.
	lead func(view uint64) int
}

// Quorum is how many voters have to sign.
func (c *Config) Quorum() int { return c.Voters - c.Unavailable }

// Lying is how many of those away may lie (r).
func (c *Config) Lying() int { return c.Voters - 1 - 2*c.Unavailable }

// check refuses what no cluster can be: the voters number 2u + r + 1, r <= u.
func (c *Config) check() error {
	n, u, r := c.Voters, c.Unavailable, c.Lying()
	switch {
	case n < 1 || n > signature.MaxVoters || u < 0 || r < 0 || r > u:
		return fmt.Errorf("%w: %d voters with %d unavailable: want 2u + r + 1 voters, r at most u", signalbox.ErrInvalid, n, u)
	case c.Self < 0 || c.Self >= n:
		return fmt.Errorf("%w: voter %d of %d", signalbox.ErrInvalid, c.Self, n)
	case c.Scheme == nil || c.Validate == nil:
		return fmt.Errorf("%w: agreement without a signature scheme or a validator", signalbox.ErrInvalid)
	}
	return nil
}

func (c *Config) withDefaults() Config {
	out := *c
	if out.Timeout <= 0 {
		out.Timeout = DefaultTimeout
	}
	if out.MaxTimeout <= 0 {
		out.MaxTimeout = max(DefaultMaxTimeout, out.Timeout)
	}
	if out.UnreachableTimeout <= 0 {
		out.UnreachableTimeout = out.Timeout / unreachablePart
	}
	return out
}

// unreachablePart is the part of a view's time that a leader gets that cannot be
// reached: long enough for a connection that broke to be made again.
const unreachablePart = 8

// timeout is how long a view may take.
func (c *Config) timeout(view uint64) time.Duration { return c.doubled(c.Timeout, view) }

// unreachable is how long a view may take whose leader cannot be reached. After as
// many views as there are voters it counts no more: whatever is said of who can be
// reached, views become as long as they would have been.
func (c *Config) unreachable(view uint64) time.Duration {
	if view > uint64(c.Voters) {
		return c.timeout(view)
	}
	return min(c.doubled(c.UnreachableTimeout, view), c.timeout(view))
}

func (c *Config) doubled(d time.Duration, view uint64) time.Duration {
	for v := uint64(1); v < view && d < c.MaxTimeout; v++ {
		d *= 2
	}
	return min(d, c.MaxTimeout)
}
