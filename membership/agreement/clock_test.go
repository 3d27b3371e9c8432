package agreement

import (
	"testing"
	"time"
)

// TestUnreachableLeader guards that a leader that is dead costs less where voters
// know that they cannot reach it, how little that is, and that r of them alone do
// not end the others' view.
func TestUnreachableLeader(t *testing.T) {
	const moment = 7 * time.Millisecond
	for name, c := range map[string]struct {
		n, u, dead int
		know       []int
		after      time.Duration
		want       time.Duration
	}{
		"all know":                 {n: 4, u: 1, dead: 1, know: []int{1, 2, 3}, want: 125 * time.Millisecond},
		"all know soon":            {n: 4, u: 1, dead: 1, know: []int{1, 2, 3}, after: 300 * time.Millisecond, want: 425 * time.Millisecond},
		"all know late":            {n: 4, u: 1, dead: 1, know: []int{1, 2, 3}, after: 950 * time.Millisecond, want: time.Second},
		"two leaders in a row":     {n: 7, u: 2, dead: 2, know: []int{2, 3, 4, 5, 6}, want: 375 * time.Millisecond},
		"one of three knows":       {n: 3, u: 1, dead: 1, know: []int{2}, want: 125 * time.Millisecond},
		"r + 1 know":               {n: 4, u: 1, dead: 1, know: []int{2, 3}, want: 125 * time.Millisecond},
		"r know, who may be lying": {n: 4, u: 1, dead: 1, know: []int{2}, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, c.n, c.u)
			w.want = 1
			for _, n := range w.nodes[:c.dead] {
				n.r = nil
			}
			for _, n := range w.nodes {
				w.settle(n)
			}
			w.now = w.now.Add(c.after)
			for _, know := range c.know {
				for dead := range c.dead {
					w.nodes[know].r.SetUnreachable(dead, true, w.now)
				}
			}
			w.heal(time.Minute)
			if took := w.now.Sub(start); took < c.want || took > c.want+moment {
				t.Errorf("decided after %v, want %v", took, c.want)
			}
		})
	}
}

// TestUnreachableIsAHint guards that a voter that is held to be unreachable leads
// nevertheless: what it proposes is voted for.
func TestUnreachableIsAHint(t *testing.T) {
	w := newNetwork(t, 4, 1)
	for _, n := range w.nodes {
		for voter := range 4 {
			n.r.SetUnreachable(voter, true, w.now)
		}
	}
	w.want = 3
	w.heal(time.Minute)
	for _, d := range w.nodes[3].log {
		if d.View != 1 {
			t.Errorf("slot %d was decided in view %d", d.Slot, d.View)
		}
	}
}

// TestFlapping guards what a connection that comes and goes can cost: each time the
// leader has its short time again, never more than a view's; and once every voter
// has led, views are as long as without any hint, so they outgrow every delay.
func TestFlapping(t *testing.T) {
	r := newReplica(t, config(4, 1, 3, 0), nil)
	r.SetPending(true, start)
	due := func(want time.Duration) {
		t.Helper()
		if got := r.deadline.Sub(start); got != want {
			t.Errorf("view %d ends after %v, want %v", r.View(), got, want)
		}
	}
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	due(time.Second)
	r.SetUnreachable(1, true, at(0)) // leads another view
	due(time.Second)
	r.SetUnreachable(0, true, at(100))
	due(225 * time.Millisecond)
	r.SetUnreachable(0, true, at(200)) // known
	due(225 * time.Millisecond)
	r.SetUnreachable(0, false, at(200))
	due(time.Second)
	r.SetUnreachable(0, true, at(900))
	due(time.Second)

	for voter := range 3 {
		r.SetUnreachable(voter, true, at(1000))
	}
	now := at(1000)
	for view, want := range []time.Duration{
		125 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, 8 * time.Second, // the fourth is its own
		16 * time.Second, 16 * time.Second, 16 * time.Second,
	} {
		r.begin(1, 0)
		r.st.View, r.deadline, r.now = uint64(view+1), time.Time{}, now
		if r.wait(); r.deadline.Sub(now) != want {
			t.Errorf("view %d: %v, want %v", view+1, r.deadline.Sub(now), want)
		}
	}
}

// TestEndedViewKeepsItsTime guards that a voter that ended a view does not repeat
// itself faster because the leader cannot be reached.
func TestEndedViewKeepsItsTime(t *testing.T) {
	r := newReplica(t, config(4, 1, 3, 0), nil)
	r.SetPending(true, start)
	r.SetUnreachable(0, true, start)
	now := r.Deadline()
	if e, err := r.Tick(now); err != nil || len(e.Send) != 1 || !r.EndedView() {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, unreachable := range []bool{false, true} {
		r.SetUnreachable(0, unreachable, now)
		if got := r.deadline.Sub(now); got != time.Second {
			t.Errorf("the next end after %v", got)
		}
	}
}

// TestLostIsRepeated guards that what a broken connection lost is repeated as soon as
// there is one again.
func TestLostIsRepeated(t *testing.T) {
	w := newNetwork(t, 3, 1)
	w.want = 1
	w.settle(w.nodes[0])
	w.bag = nil
	for _, n := range w.nodes {
		n.r.Lost(w.now)
	}
	w.heal(time.Minute)
	if took := w.now.Sub(start); took > 7*time.Millisecond {
		t.Errorf("decided after %v", took)
	}
}
