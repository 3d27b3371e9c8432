package managed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Turn is the right to carry out an order: one at a time has it.
type Turn chan struct{}

// NewTurn returns a turn that nobody has.
func NewTurn() Turn {
	t := make(Turn, 1)
	t.Give()
	return t
}

// Take waits for the turn; its error is ctx's.
func (t Turn) Take(ctx context.Context) error {
	select {
	case <-t:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Try takes the turn if nobody has it.
func (t Turn) Try() bool {
	select {
	case <-t:
		return true
	default:
		return false
	}
}

// Give gives the turn back.
func (t Turn) Give() { t <- struct{}{} }

// Run carries out an order when it has the turn. Its error says what it was.
func (t Turn) Run(ctx context.Context, what string, order func() error) error {
	err := t.Take(ctx)
	if err == nil {
		defer t.Give()
		err = order()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Pace keeps what is tried again and again apart. Safe for concurrent use.
type Pace struct {
	mu   sync.Mutex // guards last
	last time.Time
}

// Due reports whether the last time is long enough ago, and begins anew then.
func (p *Pace) Due(every time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.last) < every {
		return false
	}
	p.last = time.Now()
	return true
}

// Lease is the newest that the agent gave. Safe for concurrent use.
type Lease struct {
	mu     sync.Mutex // guards newest
	newest driver.LeaseOrder
}

// Offer takes a lease unless a newer one is known.
func (l *Lease) Offer(o driver.LeaseOrder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.Term > l.newest.Term || o.Term == l.newest.Term && o.Boot > l.newest.Boot {
		l.newest = o
	}
}

// Newest is the newest lease, zero without one.
func (l *Lease) Newest() driver.LeaseOrder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// Of is the lease of a term, zero without one.
func (l *Lease) Of(term signalbox.Term) driver.LeaseOrder {
	if o := l.Newest(); o.Term == term {
		return o
	}
	return driver.LeaseOrder{}
}

// poll is how often a condition is looked at that nothing announces.
const poll = time.Millisecond

// Until looks at a condition until it holds, fails, or ctx ends. what says for
// what it waits, in the error.
func Until(ctx context.Context, what string, met func() (bool, error)) error {
	for {
		ok, err := met()
		if ok || err != nil {
			return err
		}
		timer := time.NewTimer(poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
}
