package agent

import (
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A block that came by gossip is drained, and acked without a gateway's order
// once everybody else of the roster has said, signed, that they drained: not
// before, and not for what somebody else signed (section 5).
func TestOverheard(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"},
		w.entry("a", "east", adopted.Index), w.entry("b", "east", adopted.Index), w.entry("c", "east", adopted.Index))
	say := func(signer string, kind signalbox.StatementKind, b *signalbox.DecidedBlock) overheard {
		s := signalbox.Statement{Kind: kind, Service: "orders", Incarnation: 1, Term: 8, Block: b.Digest, Admission: adopted.Index}
		e, err := rpc.SealStatement(testCluster, s, w.key(signer))
		w.must(err)
		return overheard{raw: e.Envelope}
	}
	r.step(ordered{kind: drainOrder, decided: block.Raw})
	r.expect("persist sync=false", "step down 1", "say drained 8")
	r.step(say("b", signalbox.SaysDrained, block))
	r.step(say("stranger", signalbox.SaysDrained, block))
	forged := say("c", signalbox.SaysDrained, block)
	forged.raw[len(forged.raw)-1] ^= 1
	r.step(forged)
	other := w.handover(8, "east", "west", []string{"y"}, w.entry("c", "east", adopted.Index))
	r.step(say("c", signalbox.SaysDrained, other))
	r.step(say("c", signalbox.SaysRefuse, block))
	r.pass(overhearAfter)
	if len(r.disk.Answers) != 0 {
		t.Fatalf("answers %v while one has not drained", r.disk.Answers)
	}
	r.step(say("c", signalbox.SaysAck, block))
	r.expect("persist sync=true", "say ack 8")
}

// While gateways give orders, theirs is waited for: they may have given up.
func TestOverheardBesideGateways(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(drainOrder, block)
	r.step(ordered{kind: drainOrder, decided: block.Raw})
	r.pass(overhearLate - time.Millisecond)
	if len(r.disk.Answers) != 0 {
		t.Fatalf("answered %v too soon", r.disk.Answers)
	}
	r.order(refuseOrder, block)
	r.expect("persist sync=true", "say refuse 8", "promote 1")
}
