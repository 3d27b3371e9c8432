package gate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func promoted(t *testing.T, term uint64) *Gate {
	t.Helper()
	g := New()
	if err := g.Promote(term); err != nil {
		t.Fatal(err)
	}
	return g
}

func in(d time.Duration) time.Time { return time.Now().Add(d) }

// Rule: an instance starts as not master, serves what is not above its term,
// and refuses the rest.
func TestEnterByTerm(t *testing.T) {
	g := New()
	if _, ok := g.Enter(0); ok {
		t.Error("a new gate let a request in")
	}
	if err := g.Promote(7); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		asked uint64
		want  bool
	}{{0, true}, {6, true}, {7, true}, {8, false}} {
		term, ok := g.Enter(c.asked)
		if ok != c.want || term != 7 {
			t.Errorf("Enter(%d) = %d, %t", c.asked, term, ok)
		}
	}
}

// Rule: drained means closed and nothing in flight, as one state. Requests
// hammer the gate while it is stepped down and promoted again and again.
func TestDrainedIsOneState(t *testing.T) {
	g := promoted(t, 1)
	var inside atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if _, ok := g.Enter(0); ok {
					inside.Add(1)
					inside.Add(-1)
					g.Leave()
				}
			}
		})
	}
	for term := uint64(2); term < 12; term++ {
		drain, err := g.StepDown(ctx, term, in(time.Minute))
		if err != nil || !drain.Drained {
			t.Fatalf("step down for %d: %+v, %v", term, drain, err)
		}
		for range 1000 {
			if n := inside.Load(); n != 0 {
				t.Fatalf("%d requests inside a drained gate", n)
			}
		}
		if err := g.Promote(term); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	clients.Wait()
}

// Rule: a gate closes when 2 ms have passed without a new request.
func TestStepDownClosesWhenQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := promoted(t, 7)
		start := time.Now()
		done := make(chan time.Duration)
		go func() {
			if drain, err := g.StepDown(t.Context(), 8, in(time.Second)); err != nil || !drain.Drained {
				t.Errorf("step down: %+v, %v", drain, err)
			}
			done <- time.Since(start)
		}()
		time.Sleep(1500 * time.Microsecond) // virtual: a straggler, still served
		if _, ok := g.Enter(7); !ok {
			t.Error("a straggler was refused before the gate was quiet")
		}
		g.Leave()
		if took := <-done; took != 1500*time.Microsecond+Quiet {
			t.Errorf("closed after %v", took)
		}
		if _, ok := g.Enter(7); ok {
			t.Error("a drained gate let a request in")
		}
	})
}

// Rule: 50 ms at most, however many requests come.
func TestStepDownClosesUnderTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := promoted(t, 7)
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, ok := g.Enter(0); !ok {
					return
				}
				g.Leave()
				time.Sleep(time.Millisecond) // virtual
			}
		}()
		drain, err := g.StepDown(t.Context(), 8, in(time.Second))
		if took := time.Since(start); err != nil || !drain.Drained || took < QuietMost || took > QuietMost+time.Millisecond {
			t.Errorf("%+v, %v after %v", drain, err, took)
		}
		<-done
	})
}

// Rule: at the deadline an instance that cannot drain says so, with the
// number of requests inside, and stays closed until promoted again.
func TestStepDownGivesUpAtDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := promoted(t, 7)
		g.Enter(7)
		start := time.Now()
		drain, err := g.StepDown(t.Context(), 8, in(300*time.Millisecond))
		if err != nil || drain.Drained || drain.InFlight != 1 || time.Since(start) != 300*time.Millisecond {
			t.Fatalf("%+v, %v after %v", drain, err, time.Since(start))
		}
		if _, ok := g.Enter(7); ok {
			t.Error("open after a step-down that failed")
		}
		if err := g.Promote(9); err != nil {
			t.Fatal(err)
		}
		if _, ok := g.Enter(9); !ok {
			t.Error("closed after the fallback's promotion")
		}
	})
}

// Rule: drained comes with the last request's end, not at the deadline.
func TestStepDownWaitsForLastRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := promoted(t, 7)
		g.Enter(7)
		g.Enter(7)
		start := time.Now()
		go func() {
			time.Sleep(100 * time.Millisecond) // virtual
			g.Leave()
			time.Sleep(100 * time.Millisecond)
			g.Leave()
		}()
		drain, err := g.StepDown(t.Context(), 8, in(time.Second))
		if err != nil || !drain.Drained || time.Since(start) != 200*time.Millisecond {
			t.Errorf("%+v, %v after %v", drain, err, time.Since(start))
		}
	})
}

// Rule: a step-down that was overtaken by a promotion never says drained.
func TestPromotionVoidsStepDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := promoted(t, 7)
		g.Enter(7)
		result := make(chan error)
		go func() {
			drain, err := g.StepDown(t.Context(), 8, in(time.Second))
			if drain.Drained {
				t.Error("drained although promoted meanwhile")
			}
			result <- err
		}()
		time.Sleep(10 * time.Millisecond) // virtual: past the quiet wait
		if err := g.Promote(9); err != nil {
			t.Fatal(err)
		}
		if err := <-result; !errors.Is(err, ErrStale) {
			t.Errorf("step down: %v", err)
		}
	})
}

// Rule: terms only grow; an order from the past changes nothing.
func TestStaleOrders(t *testing.T) {
	g := promoted(t, 9)
	if _, err := g.StepDown(t.Context(), 8, in(time.Minute)); !errors.Is(err, ErrStale) {
		t.Errorf("stale step-down: %v", err)
	}
	if err := g.Promote(8); !errors.Is(err, ErrStale) {
		t.Errorf("stale promotion: %v", err)
	}
	if err := g.Promote(9); err != nil {
		t.Errorf("repeated promotion: %v", err)
	}
	if !g.Status().Master {
		t.Error("a stale order closed the gate")
	}
	if drain, err := g.StepDown(t.Context(), 10, in(time.Minute)); err != nil || !drain.Drained {
		t.Fatalf("%+v, %v", drain, err)
	}
	if err := g.Promote(9); !errors.Is(err, ErrStale) {
		t.Errorf("promotion below what was stepped down for: %v", err)
	}
}

// Rule: a lease ends mastership of its term by itself, whether it was given before
// the promotion or after; a term without one has no end.
func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		if err := g.Lease(7, in(time.Second), time.Second); err != nil {
			t.Fatal(err)
		}
		if err := g.Promote(7); err != nil {
			t.Fatal(err)
		}
		if err := g.Lease(6, in(time.Second), time.Second); !errors.Is(err, ErrStale) {
			t.Errorf("lease of an older term: %v", err)
		}
		if err := g.Lease(7, in(time.Millisecond), time.Millisecond); err != nil {
			t.Errorf("an earlier one: %v", err)
		}
		time.Sleep(999 * time.Millisecond) // virtual
		if _, ok := g.Enter(7); !ok {
			t.Error("refused within the lease")
		}
		time.Sleep(time.Millisecond)
		if _, ok := g.Enter(7); ok || g.Live() || g.Status().Master {
			t.Error("still master after the lease")
		}
		if err := g.Lease(7, in(time.Hour), time.Second); err != nil || !g.Status().Master {
			t.Errorf("renewed: %v", err)
		}
		time.Sleep(time.Second)
		if g.Live() {
			t.Error("a wall clock that was set back lengthened the lease")
		}
		if err := g.Promote(8); err != nil || !g.Status().Master {
			t.Errorf("promotion to a term without leases: %v", err)
		}
	})
}
