package drivertest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

func keepsPosition(r *run) {
	if !r.Positions {
		return
	}
	r.mustPromote(7)
	first := r.mustStepDown(7)
	same := func(when string) {
		r.Helper()
		if p := r.mustStepDown(7); !bytes.Equal(p, first) {
			r.Errorf("position %s %s, %s before", p, when, first)
		}
	}
	if r.Reopen != nil {
		r.Driver = r.Reopen(r.T)
		same("by another driver")
	}
	if r.Restart != nil {
		r.Restart(r.T)
		same("after a restart")
	}
	if err := r.promote(8, first); err != nil {
		r.Errorf("promote to its own position: %v", err)
	}
}

func tellsIncoming(r *run) {
	if r.Incoming == nil {
		return
	}
	comes := []driver.Peer{{Name: "subject-2", Address: "10.2.0.9:8080"}, {Name: "subject-3", Address: "[2001:db8::9]:8080"}}
	for n, want := range [][]driver.Peer{comes, nil, comes[:1]} {
		term := signalbox.Term(7 + n)
		r.mustPromote(term)
		ctx, cancel := r.context()
		if _, err := r.Driver.StepDown(ctx, driver.StepDown{Service: service, Term: term, Deadline: time.Now().Add(r.Patience), Incoming: want}); err != nil {
			r.Fatalf("step down from term %d: %v", term, err)
		}
		cancel()
		if got := r.Incoming(); !slices.Equal(got, want) {
			r.Errorf("the service was told that %v are to be promoted, want %v", got, want)
		}
	}
}

func refusesBeyond(r *run) {
	if r.Beyond == nil {
		return
	}
	if err := r.promote(7, r.Beyond); err == nil || r.Serves() {
		r.Errorf("promoted without the data: %v", err)
	}
	r.mustBe(false, 0)
}

func namesProblems(r *run) {
	if r.Spoil == nil {
		return
	}
	name := r.Spoil(r.T)
	r.eventually("the problem "+name, func() bool {
		ctx, cancel := r.context()
		defer cancel()
		ready, err := r.Driver.Ready(ctx)
		if err != nil {
			return false
		}
		for _, p := range ready.Problems {
			if p.Name == "" || p.What == "" || p.Do == "" {
				r.Fatalf("problem %+v: a name, what is wrong, what to do", p)
			}
		}
		return slices.ContainsFunc(ready.Problems, func(p driver.Problem) bool { return p.Name == name })
	})
}

func looksBeside(r *run) {
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			for ctx.Err() == nil {
				look, done := r.context()
				s, err := r.Driver.Status(look)
				if err == nil && s.Master && s.Term < 7 {
					r.Errorf("status %+v", s)
				}
				_, _ = r.Driver.Ready(look) // that it returns is what counts
				done()
			}
		})
	}
	for n := range 3 {
		term := signalbox.Term(7 + 2*n)
		r.mustPromote(term)
		r.mustStepDown(term)
	}
	cancel()
	looking.Wait()
}

func looksEnd(r *run) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	began := time.Now()
	_, _ = r.Driver.Status(ctx)
	_, _ = r.Driver.Ready(ctx)
	if took := time.Since(began); took > r.Patience/2 {
		r.Errorf("a look whose time is over took %s", took)
	}
}

func prepares(r *run) {
	p, ok := r.Driver.(driver.Preparer)
	if !ok {
		return
	}
	ctx, cancel := r.context()
	defer cancel()
	if err := p.Prepare(ctx, driver.Preparation{Service: service, Term: 7, Promote: true}); err != nil {
		r.Errorf("prepare to be promoted: %v", err)
	}
	r.mustBe(false, 0)
	r.mustPromote(7)
	if err := p.Prepare(ctx, driver.Preparation{Service: service, Term: 8}); err != nil {
		r.Errorf("prepare to step down: %v", err)
	}
	r.mustBe(true, 7)
	if !r.Serves() {
		r.Error("does not serve any more")
	}
}

func follows(r *run) {
	f, ok := r.Driver.(driver.Follower)
	if !ok || r.Master == "" {
		return
	}
	ctx, cancel := r.context()
	defer cancel()
	order := driver.Follow{Service: service, Term: 7, Master: "0123456789abcdef0123456789abcdef", Address: r.Master}
	for range 2 {
		if err := f.Follow(ctx, order); err != nil {
			r.Fatalf("follow: %v", err)
		}
		if r.Serves() {
			r.Fatal("serves while it follows")
		}
		r.mustBe(false, 0)
	}
	if p := r.mustStepDown(8); len(p) > 0 {
		r.Errorf("position %s of a standby", p)
	}
}

// leaseTime is the lease that is let run out: long enough to be promoted in, on a
// machine that is not busy.
const leaseTime = 5 * time.Second

func leases(r *run) {
	l, ok := r.Driver.(driver.Leaser)
	if !ok {
		return
	}
	ctx, cancel := r.context()
	defer cancel()
	lease := func(term signalbox.Term, of time.Duration) (end time.Duration) {
		r.Helper()
		end = driver.BootTime() + of
		if err := l.Lease(ctx, driver.LeaseOrder{Service: service, Term: term, Deadline: time.Now().Add(of), Boot: end}); err != nil {
			r.Fatalf("lease of term %d: %v", term, err)
		}
		return end
	}
	lease(7, 4*r.Patience)
	r.mustPromote(7)
	early := lease(7, time.Millisecond) // it changes nothing
	r.eventually("the earlier deadline", func() bool { return driver.BootTime() > early })
	r.mustBe(true, 7)
	if !r.Serves() {
		r.Error("an earlier deadline took the place of a later one")
	}
	r.mustStepDown(7)
	end := lease(8, leaseTime)
	if err := r.promote(8, nil); err != nil && driver.BootTime() < end-leaseTime/2 { // it is killed from before the end on
		r.Fatalf("promote: %v", err)
	}
	r.eventually("the end of the lease", func() bool { return driver.BootTime() >= end })
	if r.Serves() {
		r.Error("serves without a lease")
	}
}
