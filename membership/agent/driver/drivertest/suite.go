// Package drivertest is the suite that every driver passes, against the real
// thing that it drives: what package driver promises, one test each.
//
// It guarantees that a driver which passes keeps the contract in what a client
// and an agent can see. It does not look inside: a service that works on behind
// its closed gate is for the driver's own tests.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// patience bounds every wait of the suite unless a subject has more.
const patience = 2 * time.Minute

// A Subject is one instance, fresh: never promoted, running where the driver
// does not start it itself, ready. What is nil or zero is not tested.
type Subject struct {
	Driver driver.Driver
	// Serves reports whether a client that comes now is served, by asking the
	// service itself and not the driver. It may be called at any time and from
	// several goroutines; required.
	Serves func() bool
	// Busy begins work that keeps a step-down waiting; the function that it
	// returns ends it. It is called while the instance serves.
	Busy func(t *testing.T) (finish func())
	// Restart ends the instance as a crash would, and starts what starts by
	// itself.
	Restart func(t *testing.T)
	// Reopen makes the driver anew, as a restarted agent does.
	Reopen func(t *testing.T) driver.Driver
	// Spoil makes the instance one that should not be promoted, and says by
	// which name the driver has to name that.
	Spoil func(t *testing.T) (name string)
	// Positions is true when the driver says a position.
	Positions bool
	// Beyond is a position that the instance's data has not reached.
	Beyond driver.Position
	// Incoming is whom the service was told of at the newest step-down as those who
	// are to be promoted.
	Incoming func() []driver.Peer
	// Master is the address of a real master to follow, for a driver.Follower.
	Master string
	// Patience bounds every wait; 0: two minutes.
	Patience time.Duration
}

// Run runs the suite. fresh makes an instance for each test and cleans it up
// with t.Cleanup.
func Run(t *testing.T, fresh func(t *testing.T) Subject) {
	for name, test := range map[string]func(*run){
		"nothing starts as master":                  startsClosed,
		"promotion opens":                           promotes,
		"step-down closes":                          stepsDown,
		"a step-down waits for what is in flight":   drains,
		"a step-down is given up":                   givesUp,
		"a standby steps down":                      standbyStepsDown,
		"no term below the newest":                  refusesOldTerms,
		"a restarted instance is closed":            restarts,
		"a restarted agent finds it as it was":      reopens,
		"the position lasts":                        keepsPosition,
		"a step-down says who comes":                tellsIncoming,
		"no promotion behind the position":          refusesBeyond,
		"problems are named":                        namesProblems,
		"status and readiness beside everything":    looksBeside,
		"a look ends with its context":              looksEnd,
		"preparing changes nothing":                 prepares,
		"following never opens":                     follows,
		"a lease that runs out ends the mastership": leases,
	} {
		t.Run(name, func(t *testing.T) {
			s := fresh(t)
			if s.Patience == 0 {
				s.Patience = patience
			}
			r := &run{T: t, Subject: s}
			t.Cleanup(func() {
				if err := r.Driver.Stop(context.Background()); err != nil {
					t.Errorf("stop: %v", err)
				}
			})
			test(r)
		})
	}
}

// service is whom the suite's orders are about.
const service signalbox.Service = "subject"

// run is one test.
type run struct {
	*testing.T
	Subject
}

func (r *run) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), r.Patience)
}

func (r *run) promote(term signalbox.Term, at driver.Position) error {
	ctx, cancel := r.context()
	defer cancel()
	return r.Driver.Promote(ctx, driver.Promotion{Service: service, Term: term, Position: at})
}

func (r *run) mustPromote(term signalbox.Term) {
	r.Helper()
	if err := r.promote(term, nil); err != nil {
		r.Fatalf("promote to term %d: %v", term, err)
	}
	r.mustBe(true, term)
	if !r.Serves() {
		r.Fatalf("promoted to term %d and does not serve", term)
	}
}

func (r *run) stepDown(term signalbox.Term) (driver.Position, error) {
	ctx, cancel := r.context()
	defer cancel()
	return r.Driver.StepDown(ctx, driver.StepDown{Service: service, Term: term, Deadline: time.Now().Add(r.Patience)})
}

func (r *run) mustStepDown(term signalbox.Term) driver.Position {
	r.Helper()
	p, err := r.stepDown(term)
	if err != nil {
		r.Fatalf("step down from term %d: %v", term, err)
	}
	if r.Serves() {
		r.Fatalf("stepped down from term %d and serves", term)
	}
	r.mustBe(false, 0)
	if len(p) > signalbox.MaxPosition {
		r.Errorf("the position has %d bytes", len(p))
	}
	return p
}

func (r *run) status() driver.Status {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	s, err := r.Driver.Status(ctx)
	if err != nil {
		r.Fatalf("status: %v", err)
	}
	return s
}

// busy keeps the instance busy until finish is called, or the test has failed.
func (r *run) busy() (finish func()) {
	finish = sync.OnceFunc(r.Busy(r.T))
	r.Cleanup(finish)
	return finish
}

// mustBe checks what the driver says of the instance.
func (r *run) mustBe(master bool, term signalbox.Term) {
	r.Helper()
	s := r.status()
	if s.Master != master || master && s.Term != term || !master && s.InFlight != 0 {
		r.Fatalf("status %+v, want master %t of term %d", s, master, term)
	}
}

// eventually waits for a condition that nothing announces.
func (r *run) eventually(what string, ok func() bool) {
	r.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := r.context()
	defer cancel()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.Fatalf("waited in vain for %s", what)
		}
	}
}

func startsClosed(r *run) {
	if r.Serves() {
		r.Error("serves")
	}
	r.mustBe(false, 0)
	ctx, cancel := r.context()
	defer cancel()
	if ready, err := r.Driver.Ready(ctx); err != nil || !ready.Ready {
		r.Errorf("ready: %+v, %v", ready, err)
	}
}

func promotes(r *run) {
	r.mustPromote(7)
	r.mustPromote(7)
	r.mustPromote(9) // a higher one while open
}

func stepsDown(r *run) {
	r.mustPromote(7)
	first := r.mustStepDown(7)
	if again := r.mustStepDown(7); !bytes.Equal(first, again) {
		r.Errorf("position %s, and then %s", first, again)
	}
	if (len(first) > 0) != r.Positions {
		r.Errorf("position %q", first)
	}
	r.mustStepDown(9) // of a higher term that it never served
	r.mustPromote(10)
	r.mustStepDown(10)
}

func drains(r *run) {
	if r.Busy == nil {
		return
	}
	r.mustPromote(7)
	finish := r.busy()
	done := make(chan error, 1)
	go func() {
		_, err := r.stepDown(7)
		done <- err
	}()
	r.eventually("new work to be refused", func() bool { return !r.Serves() })
	select {
	case err := <-done:
		r.Fatalf("stepped down while something is in flight: %v", err)
	default:
	}
	finish()
	if err := <-done; err != nil {
		r.Fatalf("step down: %v", err)
	}
	r.mustBe(false, 0)
}

func givesUp(r *run) {
	r.mustPromote(7)
	ctx, cancel := r.context()
	defer cancel()
	if r.Busy != nil {
		defer r.busy()()
	} else {
		cancel() // nothing would keep it waiting
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.Driver.StepDown(ctx, driver.StepDown{Service: service, Term: 7, Deadline: time.Now().Add(r.Patience)})
		done <- err
	}()
	if r.Busy != nil {
		r.eventually("new work to be refused", func() bool { return !r.Serves() })
	}
	cancel()
	if err := <-done; err == nil && r.Busy != nil {
		r.Error("stepped down while something is in flight")
	} else if err != nil && r.Busy != nil && !errors.Is(err, context.Canceled) {
		r.Errorf("a step-down that was ended says %v", err)
	}
	r.mustPromote(7) // the handover was given up: the same term goes on
	r.mustPromote(8)
}

func standbyStepsDown(r *run) {
	if p := r.mustStepDown(7); len(p) > 0 {
		r.Errorf("position %s of one that was never master", p)
	}
	r.mustPromote(8)
}

func refusesOldTerms(r *run) {
	r.mustPromote(7)
	if err := r.promote(6, nil); err == nil {
		r.Error("promoted below the term that it serves")
	}
	if _, err := r.stepDown(6); err == nil && !r.Serves() {
		r.Error("a step-down below its term closes it") // it may refuse, or do nothing
	}
	r.mustPromote(7)
	r.mustStepDown(7)
	if err := r.promote(6, nil); err == nil || r.Serves() {
		r.Errorf("promoted below the term that it served: %v", err)
	}
	r.mustBe(false, 0)
	if r.Reopen != nil {
		r.Driver = r.Reopen(r.T)
		if err := r.promote(6, nil); err == nil || r.Serves() {
			r.Errorf("promoted below the term that it served by another driver: %v", err)
		}
	}
}

func restarts(r *run) {
	if r.Restart == nil {
		return
	}
	r.mustPromote(7)
	before := r.status()
	r.Restart(r.T)
	r.eventually("the instance to be heard of", func() bool {
		ctx, cancel := r.context()
		defer cancel()
		after, err := r.Driver.Status(ctx)
		if err == nil && after.Master && after.Run == before.Run {
			r.Fatalf("status %+v after a restart, %+v before", after, before)
		}
		return err == nil
	})
	if r.Serves() {
		r.Error("serves without having been promoted")
	}
	r.mustBe(false, 0)
	r.mustPromote(7)
}

func reopens(r *run) {
	if r.Reopen == nil {
		return
	}
	r.mustPromote(7)
	r.Driver = r.Reopen(r.T)
	r.mustBe(true, 7)
	if !r.Serves() {
		r.Error("does not serve any more")
	}
	r.mustStepDown(7)
	r.Driver = r.Reopen(r.T)
	r.mustBe(false, 0)
}
