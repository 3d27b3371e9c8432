package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

const (
	drainOrder  = wire.OrderKind_ORDER_DRAIN
	ackOrder    = wire.OrderKind_ORDER_ACK
	refuseOrder = wire.OrderKind_ORDER_REFUSE
)

// Design, section 3: drain, ack; rule 4: persisted before it is said, and only
// once nothing is in flight.
func TestHandoverOut(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.inFlight = 2
	r.order(drainOrder, block)
	r.expect("persist sync=false", "step down 1")
	r.expectState(StateDraining)
	r.order(ackOrder, block)
	r.expect()
	r.inFlight = 0
	r.step(ticked{})
	r.expect("say drained 8", "persist sync=true", "say ack 8")
	r.expectState(StateAcked)
	if r.disk.Floor != 8 || r.held.park == 0 {
		t.Errorf("floor %d, park %v: stragglers wait for the fallback", r.disk.Floor, r.held.park)
	}
	r.order(ackOrder, block)
	r.expect("say ack 8")
	r.order(refuseOrder, block)
	r.expect("say ack 8") // one answer, whatever is asked
	r.step(granted{certificate: w.certify(block, false)})
	r.expectState(StateStandby)
	if r.held.park != 0 || r.held.known != 8 {
		t.Errorf("hold %+v: mastership is elsewhere at 8", r.held)
	}
	r.pass(time.Minute)
	if r.master {
		t.Error("serves after its ack")
	}
}

// What the old master's data had reached goes into its ack or leave and to
// nobody's statement else, and from the certificate to who is promoted.
func TestPosition(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	r.position = []byte("0/3000148")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(drainOrder, block)
	r.order(ackOrder, block)
	for _, s := range r.said {
		if want := s.Kind == signalbox.SaysAck; (string(s.Position) == "0/3000148") != want {
			t.Errorf("%s says position %q", s.Kind, s.Position)
		}
	}
	ack, err := rpc.SealStatement(testCluster, r.said[len(r.said)-1], w.key("a"))
	w.must(err)
	cert, err := rpc.BuildCertificate(w.trust, block, "orders", 8, [][]byte{ack.Envelope})
	w.must(err)
	x := newRig(t, w, "x", "west")
	x.reportNow()
	x.voters(1, block)
	x.step(granted{certificate: cert.Raw})
	if !x.master || string(x.promoted) != "0/3000148" {
		t.Errorf("master %t, promoted to position %q", x.master, x.promoted)
	}
	x.position = bytes.Repeat([]byte("x"), signalbox.MaxPosition+1)
	x.step(stopping{})
	x.voters(1, block)
	x.step(quieted{})
	if x.core.gate.drained || !strings.Contains(x.core.problem, "position") {
		t.Errorf("drained %t with a position that fits no statement: %q", x.core.gate.drained, x.core.problem)
	}
	x.position = x.position[:signalbox.MaxPosition]
	x.pass(driveBackoff)
	if s := x.said[len(x.said)-1]; s.Kind != signalbox.SaysLeave || len(s.Position) != signalbox.MaxPosition {
		t.Errorf("said %s with %d bytes of position", s.Kind, len(s.Position))
	}
}

// The gate is closed first, the ack waits for the order.
func TestDrainedWaitsForAckOrder(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(drainOrder, block)
	r.expect("persist sync=false", "step down 1", "say drained 8")
	r.expectState(StateDrained)
	r.order(drainOrder, block)
	r.expect("say drained 8")
	r.order(ackOrder, block)
	r.expect("persist sync=true", "say ack 8")
}

// Rules 4 and 5: it refuses by itself when the budget has run out since it first
// received the block, reopens at the certified term, and goes on at the fallback.
func TestBudgetRefuses(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.inFlight = 1
	r.order(drainOrder, block)
	r.pass(5*time.Second - time.Millisecond)
	if r.master || len(r.disk.Answers) != 0 {
		t.Fatal("gave up early")
	}
	r.pass(time.Millisecond)
	if !r.master || r.term != 1 || r.disk.Answers[0].Kind != signalbox.SaysRefuse {
		t.Fatalf("master %t at %d, answers %v", r.master, r.term, r.disk.Answers)
	}
	r.inFlight = 0
	r.order(ackOrder, block)
	r.expect("say refuse 8")
	r.step(granted{certificate: w.certify(block, true)})
	r.expect("persist sync=false", "promote 9", "say serving 9")
	if r.disk.Admission != adopted.Index {
		t.Errorf("admission %d, want the roster's %d: a fallback keeps it", r.disk.Admission, adopted.Index)
	}
}

// A gateway's order refuses at once; a block that cannot be voided is acked once
// drained, however long that takes.
func TestRefuseOnlyWhatCanBeVoided(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.inFlight = 1
	r.order(refuseOrder, block)
	r.expect("persist sync=false", "persist sync=true", "say refuse 8")

	superseding := w.request(10, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	superseding.Fallback = 0
	next := w.decide(signalbox.Request{Handover: superseding})
	r.order(drainOrder, next)
	r.order(refuseOrder, next)
	r.expect()
	r.pass(time.Hour)
	if len(r.disk.Answers) != 1 || r.master {
		t.Fatalf("answers %v, master %t", r.disk.Answers, r.master)
	}
	r.inFlight = 0
	r.step(ticked{})
	r.expect("say drained 10", "persist sync=true", "say ack 10")
}

// After a restart past the budget it refuses at once (rule 4), and serves again
// only after the voters' answer (rule 2).
func TestRestartPastBudget(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(drainOrder, block)
	r.now = r.now.Add(time.Minute)
	r.restart()
	if n := len(r.disk.Answers); n != 1 || r.disk.Answers[0].Kind != signalbox.SaysRefuse {
		t.Fatalf("answers %v", r.disk.Answers)
	}
	if r.master {
		t.Fatal("serves before the voters answered")
	}
	r.voters(1, block)
	if r.master {
		t.Fatal("serves on one of three voters")
	}
	r.step(answered{raw: w.answer(0, w.id("a"), r.nonce, adopted)}) // other bytes of the same voter
	if r.master {
		t.Fatal("counted a voter twice")
	}
	r.voters(2, block)
	if !r.master || r.term != 1 {
		t.Fatal("does not serve after a quorum answered")
	}
}

// Rule 2: it stays closed while the newest block is newer than its own and
// allows more than acks and leaves.
func TestNonceHoldsBackUnderLapse(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	h := w.request(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	h.Allowed |= signalbox.EvidenceKinds(signalbox.Lapse)
	block := w.decide(signalbox.Request{Handover: h})
	r.restart()
	r.step(answered{raw: w.answer(0, w.id("a"), []byte("another nonce, as long as one is"), block)})
	r.voters(2, block)
	if r.master {
		t.Fatal("serves although a newer block allows lapse")
	}
	r.restart()
	r.voters(2, adopted)
	if !r.master {
		t.Fatal("does not serve although its own block is the newest")
	}
}

// Acked once, it never serves below, also after a restart; the fallback is
// above.
func TestFloorSurvivesRestart(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index), w.entry("b", "east", adopted.Index))
	r.order(ackOrder, block)
	r.expect("persist sync=false", "step down 1", "say drained 8", "persist sync=true", "say ack 8")
	r.restart()
	r.voters(1, block)
	if r.master {
		t.Fatal("serves below its floor")
	}
	r.order(drainOrder, block)
	r.expect("say ack 8")
	// b refused: the fallback of the same block lists a again.
	h := block.Handover("orders")
	h.Roster[0], h.Roster[1] = h.Roster[1], h.Roster[0]
	r.step(granted{certificate: w.certify(block, true)})
	if !r.master || r.term != 9 {
		t.Fatal("does not serve the fallback")
	}
}

// The agent's restart does not interrupt an instance that serves on, and asks
// nobody for it (rule 2 speaks of the instance's start).
func TestAgentRestartDoesNotInterrupt(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, _ := serving(t, w, "a")
	r.start()
	r.reportNow()
	r.expect("say serving 1")
	r.expectState(StateServing)
	if !r.master {
		t.Fatal("interrupted")
	}
	r.pass(time.Minute)
	r.reportNow()
	r.expect()
}

// An instance that serves what it may not is stepped down when the agent comes.
func TestServesWhatItMayNot(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := newRig(t, w, "a", "east")
	r.master, r.term = true, 7
	r.reportNow()
	r.expect("step down 7")
}

// Design, section 7: a live service is adopted without interrupting it.
func TestAdoption(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := newRig(t, w, "a", "east")
	r.master = true
	r.reportNow()
	r.expect()
	r.expectState(StateServing)
	block, cert := w.adopt("a")
	r.step(granted{certificate: cert})
	r.expect("persist sync=false")
	r.voters(1, block)
	r.expect("promote 1", "say serving 1")
}

// An instance that was started again beside a living agent is one more start.
func TestInstanceRestart(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	before := string(r.nonce)
	r.master = false
	r.run++
	r.reportNow()
	r.expectState(StateStarting)
	if string(r.nonce) == before {
		t.Fatal("the same nonce again")
	}
	r.pass(time.Second)
	if r.master {
		t.Fatal("promoted without the voters")
	}
	r.voters(2, adopted)
	if !r.master {
		t.Fatal("not promoted again")
	}
}

// Certificates: below the one held ignored, forged and foreign ones refused,
// repeated ones change nothing.
func TestCertificates(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	old := r.disk.Certificate
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	cert := w.certify(block, true)
	r.step(granted{certificate: cert})
	r.expect("persist sync=false", "promote 9", "say serving 9")
	for _, again := range [][]byte{cert, old, w.certify(block, false), nil, []byte("rubbish"), cert[:len(cert)-1]} {
		r.step(granted{certificate: again, admission: again})
		r.expect()
	}
	stranger := newWorld(t, 1, 1)
	stranger.lists[0] = newWorld(t, 2, 2).lists[1]
	if r.term != 9 || !r.master {
		t.Errorf("term %d", r.term)
	}
}

// A new instance is not listed: it wants, and serves when it is admitted to the
// term that is certified, and to no other.
func TestAdmission(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := newRig(t, w, "n", "east")
	adopted, cert := w.adopt("a")
	r.reportNow()
	r.voters(1, adopted)
	r.step(granted{certificate: cert})
	if r.wants == 0 || r.master {
		t.Fatalf("wants %d, master %t", r.wants, r.master)
	}
	r.step(granted{certificate: cert, admission: w.admission("m", 1).Raw})
	r.step(granted{certificate: cert, admission: w.admission("n", 2).Raw})
	if r.master {
		t.Fatal("serves by somebody else's or another term's admission")
	}
	block := w.admission("n", 1)
	r.step(granted{certificate: cert, admission: block.Raw})
	r.expect("persist sync=false", "promote 1", "say serving 1")
	if s := r.said[len(r.said)-1]; s.Admission != block.Index || s.Address != "127.0.0.1:80" {
		t.Errorf("said %+v", s)
	}
}

// A roster entry for an older admission is not this identity's; one for a newer
// admission is: the agreed log knows better.
func TestRosterAdmission(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.index = 5
	r, adopted := serving(t, w, "a")
	r.order(drainOrder, w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index-1)))
	r.expect()
	if !r.master {
		t.Fatal("stepped down for an admission that is not its own")
	}
	r.order(ackOrder, w.handover(10, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index+1)))
	r.expect("persist sync=false", "step down 1", "say drained 10", "persist sync=true", "say ack 10")
	if s := r.said[len(r.said)-1]; s.Admission != adopted.Index+1 {
		t.Errorf("the ack names admission %d", s.Admission)
	}
}

// Rule 8's reaction: a gateway that has seen a higher incarnation.
func TestRefusal(t *testing.T) {
	w := newWorld(t, 1, 1)
	r := newRig(t, w, "a", "east")
	r.reportNow()
	r.step(disowned{gateway: "g", problem: "unknown service"})
	if r.renewed {
		t.Fatal("a new key cures no unknown service")
	}
	r.step(disowned{gateway: "g", problem: "incarnation 7 was seen", newKey: true})
	if !r.renewed {
		t.Fatal("keeps an identity that was rolled back")
	}
	if out := r.core.Step(ticked{}, r.now.Add(time.Hour), r.instant()); len(out) != 0 {
		t.Fatalf("the given-up identity still acts: %v", out)
	}
	s, _ := serving(t, w, "b")
	s.step(disowned{gateway: "g", problem: "x", newKey: true})
	if s.renewed || !s.master {
		t.Fatal("one gateway ended a service")
	}
}
