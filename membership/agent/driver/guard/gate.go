// Package guard drives a Go service from inside its own process: a gate in
// front of its http.Handler.
//
// Guarantees: "closed and nothing in flight" is one atomic word; once StepDown
// returned nil no request is inside and none gets in before the next Promote. A
// request is served only while the gate is open and when it does not ask for a
// term above the gate's. An admitted request costs no allocation.
//
// Where the term uses leases (see Lease), the gate looks at the clock by itself, at
// entry and again before a reply goes out: an instance that was frozen, and wakes
// up when another is master, answers nothing as master.
//
// It does not guarantee that a handler has nothing left to do after it returned:
// work that a handler leaves behind (goroutines, queues) must check the term
// that TermFrom gave it, as a fencing token, where it takes effect. A connection
// that a handler hijacked counts as in flight until the handler returns.
package guard

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// The gate's word: one bit says closed, the low half counts what is in flight.
const (
	closedBit = 1 << 63
	countMask = 1<<32 - 1
)

// DefaultMaxParked is how many requests wait in a closed gate at most.
const DefaultMaxParked = 4096

// Streams says what becomes of long-lived requests (upgraded connections and
// event streams) when the instance steps down.
type Streams int

const (
	// StreamsWait leaves it to the service's policy in the gateways' configuration
	// (drain: wait, cut or abort). Without one they are drained like any other
	// request: they delay the handover, and one that outlives the hold budget makes
	// the instance refuse it.
	StreamsWait Streams = iota
	// StreamsCut cancels their contexts when the instance steps down, whatever the
	// service's policy. The handler has to return then; a hijacked connection it has to close.
	StreamsCut
)

// Options configure a Gate.
type Options struct {
	// MaxParked is how many requests wait while closed; 0: DefaultMaxParked.
	MaxParked int
	Streams   Streams
	// Stale is told the term of a request from above the gate's own, once as
	// long as no other one comes. It must not block. May be nil.
	Stale func(signalbox.Term)
}

// Gate admits requests while its instance is master. New returns a closed one.
// Safe for concurrent use.
type Gate struct {
	opts    Options
	run     string // names this gate: it is made once in a process
	word    atomic.Uint64
	serving atomic.Pointer[mastership]
	tenure  atomic.Pointer[tenure] // nil: no lease was ever given
	clock   clock
	stale   atomic.Uint64 // the term that was last reported as stale
	last    atomic.Int64  // when the last request came, since epoch
	epoch   time.Time
	empty   chan struct{} // something changed of what is in a closed gate

	refused, parkedTotal atomic.Uint64
	late                 atomic.Uint64 // replies that came after the lease
	parked               atomic.Int64

	streams streamSet

	mu sync.Mutex // changes of mastership; never held while serving
	// turn is closed and replaced whenever parked requests should look again.
	turn     chan struct{}
	park     time.Duration
	known    signalbox.Term
	promoted uint64 // counts openings, so that a StepDown notices one
}

var (
	_ driver.Driver  = (*Gate)(nil)
	_ driver.Quieter = (*Gate)(nil)
	_ driver.Holder  = (*Gate)(nil)
)

// mastership is the term that is served and its text.
type mastership struct {
	term signalbox.Term
	text string
}

// New returns a closed gate at term 0.
func New(opts Options) *Gate {
	if opts.MaxParked == 0 {
		opts.MaxParked = DefaultMaxParked
	}
	g := &Gate{opts: opts, run: rand.Text(), epoch: time.Now(), empty: make(chan struct{}, 1), turn: make(chan struct{})}
	g.word.Store(closedBit)
	g.clock.epoch = g.epoch
	g.serving.Store(&mastership{text: "0"})
	return g
}

// OpenUnmanaged opens a gate that was never promoted at term 0: a live service
// that is not adopted yet. The next StepDown or Promote ends that.
func (g *Gate) OpenUnmanaged() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promoted == 0 {
		g.word.And(^uint64(closedBit))
	}
}

// enter counts a request in and reports whether the gate was open. After false
// nothing has to be undone.
func (g *Gate) enter() bool {
	if g.word.Add(1)&closedBit != 0 {
		g.leave()
		return false
	}
	g.last.Store(int64(time.Since(g.epoch)))
	return true
}

// leave counts a request out.
func (g *Gate) leave() {
	w := g.word.Add(^uint64(0))
	if w&closedBit != 0 {
		g.tellDrain()
	}
}

// tellDrain has whoever drains look again at what is in flight.
func (g *Gate) tellDrain() {
	select {
	case g.empty <- struct{}{}:
	default: // somebody is being told already
	}
}

// Promote opens the gate; see driver.Driver.
func (g *Gate) Promote(_ context.Context, order driver.Promotion) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own := g.serving.Load().term; order.Term < own || order.Term == 0 {
		return promoteError(order.Term, own)
	}
	if t := g.tenure.Load(); order.Leased && (t == nil || t.term != order.Term || t.deadline.Passed(g.clock.now())) {
		return fmt.Errorf("promote to term %d: %w: the gate has no live lease of it", order.Term, signalbox.ErrRefused)
	}
	g.serving.Store(&mastership{term: order.Term, text: strconv.FormatUint(uint64(order.Term), 10)})
	g.promoted++
	g.known = max(g.known, order.Term)
	g.word.And(^uint64(closedBit))
	g.wake()
	return nil
}

// StepDown closes the gate and waits until nothing is in flight; see
// driver.Driver. The gate stays closed when ctx ends before that.
func (g *Gate) StepDown(ctx context.Context, order driver.StepDown) (driver.Position, error) {
	g.mu.Lock()
	if own := g.serving.Load().term; order.Term < own {
		g.mu.Unlock()
		return nil, stepDownError(order.Term, own)
	}
	turn := g.promoted
	g.mu.Unlock()
	if g.word.Load()&closedBit == 0 {
		g.Quiet(ctx, driver.Idle, driver.MaxIdle)
	}
	policy := order.Streams
	if g.opts.Streams == StreamsCut {
		policy = signalbox.StreamsCut
	}
	return nil, g.drain(ctx, turn, order.Term, policy)
}

// drain closes the gate and waits until nothing is in flight, or, where streams
// make it give up, nothing else.
func (g *Gate) drain(ctx context.Context, turn uint64, term signalbox.Term, policy signalbox.StreamPolicy) error {
	g.streams.keep(policy)
	if err := g.shut(ctx, turn, term); err != nil {
		return err
	}
	for {
		overtaken, _ := g.waiting()
		inFlight := g.word.Load() & countMask
		if err := g.confirm(turn, term); err != nil || inFlight == 0 {
			return err
		}
		// A stream is counted in before it is known as one, and leaves the other
		// way round: the gate is closed, so streams alone cannot be taken for more.
		if policy == signalbox.StreamsAbort && g.streams.count() >= inFlight {
			return driver.ErrStreams
		}
		if policy == signalbox.StreamsCut {
			g.streams.cut()
		}
		select {
		case <-g.empty:
		case <-overtaken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shut closes the gate unless it was promoted or the order withdrawn meanwhile.
func (g *Gate) shut(ctx context.Context, turn uint64, term signalbox.Term) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promoted != turn {
		return stepDownError(term, g.serving.Load().term)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	g.word.Or(closedBit)
	return nil
}

// confirm says that the gate was not promoted since.
func (g *Gate) confirm(turn uint64, term signalbox.Term) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promoted != turn {
		return stepDownError(term, g.serving.Load().term)
	}
	return nil
}

// Hold implements driver.Holder.
func (g *Gate) Hold(park time.Duration, known signalbox.Term) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.park, g.known = park, max(g.known, known)
	g.wake()
}

// wake has every parked request look again. g.mu is held.
func (g *Gate) wake() {
	close(g.turn)
	g.turn = make(chan struct{})
}

// Quiet implements driver.Quieter. It counts from the last request, so that a
// gate to which none came for idle is quiet at once.
func (g *Gate) Quiet(ctx context.Context, idle, most time.Duration) {
	began := time.Since(g.epoch)
	for {
		left := min(time.Duration(g.last.Load())+idle, began+most) - time.Since(g.epoch)
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Status implements driver.Driver. It never fails.
func (g *Gate) Status(context.Context) (driver.Status, error) {
	w := g.word.Load()
	_, live := g.leased()
	return driver.Status{
		Master: w&closedBit == 0 && live, Term: g.serving.Load().term, InFlight: w & countMask, Run: g.run,
	}, nil
}

// Ready implements driver.Driver: a Go service is ready when it runs.
func (g *Gate) Ready(context.Context) (driver.Readiness, error) {
	return driver.Readiness{Ready: true}, nil
}

// Stop implements driver.Driver; there is nothing to release.
func (g *Gate) Stop(context.Context) error { return nil }
