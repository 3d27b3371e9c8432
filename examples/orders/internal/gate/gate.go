// Package gate decides whether this instance takes a request: it is the
// smallest honest implementation of what Signalbox asks of an instance.
//
// It guarantees that "closed and nothing in flight" is one state under one
// lock: once StepDown said Drained, no request is inside and none gets in
// until a later Promote. It does not persist anything: a new process starts
// closed, and the agent beside it knows which terms it may be promoted to.
package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// Quiet is how long no new request may have come before a gate that
	// steps down closes: stragglers that a proxy sent before it held are
	// still served.
	Quiet = 2 * time.Millisecond
	// QuietMost bounds the wait for Quiet under steady traffic.
	QuietMost = 50 * time.Millisecond
)

// ErrStale is returned when an order names a term below what the gate has
// been promoted to or was told to step down for.
var ErrStale = errors.New("stale term")

// Gate admits requests while its instance is master. The zero value is not
// usable; New returns one that is closed at term 0.
type Gate struct {
	mu       sync.Mutex
	open     bool
	term     uint64 // highest term promoted to
	floor    uint64 // highest term that a step-down was for
	turn     uint64 // counts promotions, so that a step-down notices one
	lease    lease  // of which term, until when
	inFlight int
	last     time.Time     // when the last request was admitted
	changed  chan struct{} // closed when the gate becomes drained and at a promotion
}

// New returns a closed gate at term 0.
func New() *Gate {
	return &Gate{changed: make(chan struct{})}
}

// Status is what a gate says about itself.
type Status struct {
	Master   bool
	Term     uint64
	InFlight int
}

// Status returns one consistent view.
func (g *Gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Status{Master: g.masterLocked(), Term: g.term, InFlight: g.inFlight}
}

func (g *Gate) masterLocked() bool {
	return g.open && g.liveLocked()
}

func (g *Gate) liveLocked() bool {
	return g.lease.term != g.term || g.lease.live(time.Now())
}

// Live reports whether the lease, where one was given for the term, has not run
// out. A request checks it again before it takes effect, and before it is answered.
func (g *Gate) Live() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.liveLocked()
}

// Enter admits a request that was routed for term asked (0: it did not say)
// and returns the gate's term. Every admitted request must Leave.
func (g *Gate) Enter(asked uint64) (term uint64, admitted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.masterLocked() || asked > g.term {
		return g.term, false
	}
	g.inFlight++
	g.last = time.Now()
	return g.term, true
}

// Leave ends an admitted request.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight == 0 {
		panic("gate: Leave without Enter")
	}
	g.inFlight--
	if !g.open && g.inFlight == 0 {
		g.announceLocked()
	}
}

func (g *Gate) announceLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Promote opens the gate at term. Repeating it is harmless. It returns
// ErrStale for a term below the gate's own or below a step-down's.
func (g *Gate) Promote(term uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if lowest := max(g.term, g.floor, 1); term < lowest {
		return fmt.Errorf("promote to term %d: %w, the lowest that this instance may serve is %d", term, ErrStale, lowest)
	}
	if g.open && term == g.term {
		return nil
	}
	g.open, g.term = true, term
	g.turn++
	g.announceLocked()
	return nil
}

// lease is until when the instance may serve a term.
type lease struct {
	term uint64
	// deadline is by the wall clock alone, until by the monotonic one, which
	// nobody sets. The first that passes counts: a machine that slept, or whose
	// clock was set back, serves no longer than it may.
	deadline, until time.Time
}

func (l lease) live(now time.Time) bool {
	return now.Before(l.until) && now.Round(0).Before(l.deadline)
}

// Lease makes the gate enforce a deadline of a term: past it the instance is no
// longer master, whoever is silent. It comes before the promotion to the term, and
// then again and again; left is what remains by the agent's clock. An earlier
// deadline takes nothing back. It returns ErrStale for a term below the gate's.
func (g *Gate) Lease(term uint64, deadline time.Time, left time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if term < max(g.term, g.lease.term) {
		return fmt.Errorf("lease for term %d: %w, this instance is at term %d", term, ErrStale, max(g.term, g.lease.term))
	}
	if left <= 0 {
		return fmt.Errorf("lease for term %d: %w, it ran out %s ago", term, ErrStale, -left)
	}
	next := lease{term: term, deadline: deadline.Round(0), until: time.Now().Add(left)}
	if g.lease.term != term || next.until.After(g.lease.until) {
		g.lease = next
	}
	return nil
}

// Leased reports whether a live lease of the term was given.
func (g *Gate) Leased(term uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease.term == term && g.lease.live(time.Now())
}

// AwaitDrained returns when the gate is closed with nothing in flight, or with
// the context's error when that ends first. It closes nothing.
func (g *Gate) AwaitDrained(ctx context.Context) error {
	for {
		g.mu.Lock()
		drained, changed := !g.open && g.inFlight == 0, g.changed
		g.mu.Unlock()
		if drained {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("await step-down: %w", ctx.Err())
		}
	}
}

// Drain is what became of a StepDown.
type Drain struct {
	Drained  bool // closed and nothing in flight
	InFlight int
}

// StepDown closes the gate for term (0: the caller did not say): it goes on
// admitting until Quiet has passed without a new request, QuietMost at most,
// then closes and waits for the requests inside. It stays closed, drained or
// not, until promoted. It returns early when deadline or ctx ends, and
// ErrStale when the gate is, or meanwhile was, promoted to something newer.
func (g *Gate) StepDown(ctx context.Context, term uint64, deadline time.Time) (Drain, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	g.mu.Lock()
	if term != 0 && term < g.term {
		defer g.mu.Unlock()
		return Drain{InFlight: g.inFlight}, fmt.Errorf("step down for term %d: %w, this instance is at term %d", term, ErrStale, g.term)
	}
	g.floor = max(g.floor, term)
	turn := g.turn
	g.mu.Unlock()

	g.awaitQuiet(ctx, turn)
	for {
		g.mu.Lock()
		if g.turn != turn {
			defer g.mu.Unlock()
			return Drain{InFlight: g.inFlight}, fmt.Errorf("step down for term %d: %w, promoted to %d meanwhile", term, ErrStale, g.term)
		}
		if g.open {
			g.open = false
			if g.inFlight == 0 {
				g.announceLocked()
			}
		}
		drain := Drain{Drained: g.inFlight == 0, InFlight: g.inFlight}
		changed := g.changed
		g.mu.Unlock()
		if drain.Drained || ctx.Err() != nil {
			return drain, nil
		}
		select {
		case <-changed:
		case <-ctx.Done(): // look once more: the last request may just have left
		}
	}
}

// awaitQuiet returns when the gate may close. A request that slips in after
// it is served like any other in flight.
func (g *Gate) awaitQuiet(ctx context.Context, turn uint64) {
	start := time.Now()
	most := start.Add(QuietMost)
	for {
		g.mu.Lock()
		moot := !g.open || g.turn != turn
		until := start
		if g.last.After(until) {
			until = g.last
		}
		g.mu.Unlock()
		until = until.Add(Quiet)
		if until.After(most) {
			until = most
		}
		wait := time.Until(until)
		if moot || wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
