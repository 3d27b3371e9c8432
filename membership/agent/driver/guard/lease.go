package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/lease"
)

var _ driver.Leaser = (*Gate)(nil)

// tenure is until when the gate may serve a term. A term without one uses no
// leases.
type tenure struct {
	term     signalbox.Term
	deadline lease.Instant
}

// ErrLeaseOver is what a handler's writes return once the lease has run out.
var ErrLeaseOver = errors.New("the lease has run out: this instance may no longer be master")

// Lease implements driver.Leaser. Given before the promotion to its term, it binds
// from the first request on. The gate needs nobody to enforce it: past the
// deadline it admits nothing and lets no reply out as a success (see Wrap).
func (g *Gate) Lease(_ context.Context, order driver.LeaseOrder) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own := g.serving.Load().term; order.Term < own || order.Term == 0 {
		return fmt.Errorf("lease of term %d: %w: the gate has served term %d", order.Term, signalbox.ErrRefused, own)
	}
	deadline := lease.Instant{Boot: order.Boot, Wall: time.Duration(order.Deadline.UnixNano())}
	before := g.tenure.Load()
	if before != nil && (before.term > order.Term || before.term == order.Term && before.deadline.Boot >= deadline.Boot) {
		return nil // an earlier one never takes the place of a later one
	}
	g.tenure.Store(&tenure{order.Term, deadline})
	return nil
}

// Live reports whether what an admitted request is about to do may still take
// effect: the term uses no leases, or its lease is live. A handler that does
// something outside looks just before; what remains is what Wrap says.
func (g *Gate) Live() bool {
	_, live := g.leased()
	return live
}

// leased reports whether the term that is served now uses leases, and whether its
// lease is live.
func (g *Gate) leased() (uses, live bool) {
	t := g.tenure.Load()
	if t == nil || t.term != g.serving.Load().term {
		return false, true
	}
	return true, !t.deadline.Passed(g.clock.now())
}
