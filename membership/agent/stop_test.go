package agent

import (
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
)

// The orderly stop: the gateways are told first, requests are served until no
// new ones come, then it drains, and the leave is persisted before it is said.
func TestLeave(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	r.step(stopping{})
	r.expect("await quiet")
	r.expectState(StateLeaving)
	if !r.master || r.status.State != StateLeaving {
		t.Fatal("closed before the proxies were told")
	}
	r.voters(2, adopted)
	r.inFlight = 1
	r.step(quieted{})
	r.expect("step down 1")
	r.inFlight = 0
	r.step(ticked{})
	r.expect("persist sync=true", "say leave 0")
	if r.exited == nil || !r.exited.left || r.held.park != 0 {
		t.Fatalf("exit %v, park %v", r.exited, r.held.park)
	}
	if s := r.said[len(r.said)-1]; s.Admission != adopted.Index {
		t.Errorf("the leave names admission %d, want %d", s.Admission, adopted.Index)
	}
	// Its only answer to every later block that names the admission, also
	// after a restart; and it serves only when it is admitted again.
	r.restart()
	r.voters(2, adopted)
	if r.master || r.wants == 0 {
		t.Fatalf("master %t, wants %d: it left", r.master, r.wants)
	}
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(ackOrder, block)
	r.expect("say leave 0")
	r.step(granted{admission: w.admission("a", 1).Raw})
	r.expect("persist sync=false", "promote 1", "say serving 1")
}

// Without a quorum it drains and signs nothing: the certificate still lists it.
func TestStopWithoutQuorum(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	r.step(stopping{})
	r.voters(1, adopted)
	r.step(quieted{})
	r.pass(4 * time.Second)
	if r.exited == nil || r.exited.left || r.master || r.disk.Left != 0 {
		t.Fatalf("exit %v, master %t, left %d", r.exited, r.master, r.disk.Left)
	}
	r.restart()
	r.voters(2, adopted)
	if !r.master {
		t.Fatal("does not serve again")
	}
}

// A known open block is answered first (rule 4).
func TestStopAnswersOpenBlockFirst(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(drainOrder, block)
	r.step(stopping{})
	r.voters(1, adopted)
	r.step(quieted{})
	if r.exited != nil {
		t.Fatal("left with an open block")
	}
	r.order(ackOrder, block)
	r.expect("persist sync=true", "say ack 8", "persist sync=true", "say leave 8")
	if s := r.said[len(r.said)-1]; s.Term != 8 || s.Block != block.Digest {
		t.Errorf("the leave names %d %s, want the highest block answered", s.Term, s.Block)
	}
	if r.exited == nil {
		t.Fatal("does not stop")
	}
}

// An instance may ask for the leave itself; when its process is back, it starts
// anew beside the same agent.
func TestInstanceLeavesByItself(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	leaving := reported{op: r.closed}
	leaving.readiness.Ready, leaving.status.Master, leaving.status.Term, leaving.status.Leaving = true, true, 1, true
	leaving.status.Run = "1"
	r.step(leaving)
	r.voters(1, adopted)
	r.step(quieted{})
	r.expect("step down 1", "persist sync=true", "say leave 0")
	if r.exited != nil {
		t.Fatal("the agent stops although only its instance does")
	}
	r.run++
	r.reportNow()
	r.voters(1, adopted)
	r.pass(2 * time.Second)
	if r.master || r.wants == 0 {
		t.Fatal("serves by the admission that it left")
	}
	r.step(granted{admission: w.admission("a", 1).Raw})
	if !r.master {
		t.Fatal("does not serve after it was admitted again")
	}
}

// A stop of what serves unmanaged leaves it alone.
func TestStopUnmanaged(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := newRig(t, w, "a", "east")
	r.master = true
	r.reportNow()
	r.step(stopping{})
	if r.exited == nil || !r.master {
		t.Fatalf("exit %v, master %t", r.exited, r.master)
	}
}

// A driver that cannot be reached does not hold a stop up for ever, and nothing
// is signed for it: silence is no evidence (rule 6).
func TestStopWithDeadDriver(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	r.down = true
	r.step(stopping{})
	r.voters(1, adopted)
	r.step(quieted{})
	r.pass(20 * time.Second)
	if r.exited == nil || r.exited.left || r.disk.Left != 0 {
		t.Fatalf("exit %+v", r.exited)
	}
	for _, s := range r.said {
		if s.Kind == signalbox.SaysLeave {
			t.Error("signed a leave")
		}
	}
}
