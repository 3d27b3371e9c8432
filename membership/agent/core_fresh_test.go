package agent

import (
	"fmt"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// beyond is voter v's reply that names an entry which could have taken the
// instance's mastership away.
func (w *world) beyond(v int, id signalbox.Identity, nonce []byte, block *signalbox.DecidedBlock, entry uint64) []byte {
	h := block.Handover("orders")
	raw, err := rpc.SealAnswer(testCluster, rpc.Answer{
		Voter: fmt.Sprint("v", v), Service: "orders", Identity: id, Nonce: nonce,
		Index: block.Index, Block: block.Digest, Allowed: h.Allowed, Term: h.Term, Beyond: entry,
	}, w.voters[v])
	w.must(err)
	return raw
}

// Rule 2: a newer block that allows acks only does not hide an older one, or an
// announced removal, that took the mastership of the instance away; another
// admission after that opens it again.
func TestNonceSeesEveryEntry(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	announced := w.decide(signalbox.Request{Remove: &signalbox.Removal{
		Service: "orders", Identity: w.id("a"), Admission: adopted.Index, Below: 2, Allowed: signalbox.ByOthers,
	}})
	acks := w.handover(8, "east", "west", []string{"x"}, w.entry("b", "east", adopted.Index))
	r.restart()
	for v := range 2 {
		r.step(answered{raw: w.beyond(v, w.id("a"), r.nonce, acks, announced.Index)})
	}
	if r.master {
		t.Fatal("serves although its removal was announced and perhaps it was fenced")
	}
	before := r.wants
	r.step(ticked{})
	r.now = r.now.Add(2 * repeatAfter)
	r.step(ticked{})
	if r.wants == before {
		t.Fatal("does not ask to be admitted again")
	}
	r.step(granted{admission: w.admission("a", 1).Raw})
	if !r.master || r.term != 1 {
		t.Fatal("does not serve although it was admitted again")
	}
}

// One voter that lies, or has voted for what the others have not, keeps nobody
// closed as long as a quorum says otherwise; without that quorum it does.
func TestNonceNeedsAQuorumThatClears(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, adopted := serving(t, w, "a")
	r.restart()
	r.step(answered{raw: w.beyond(0, w.id("a"), r.nonce, adopted, 99)})
	r.step(answered{raw: w.answer(1, w.id("a"), r.nonce, adopted)})
	if r.master {
		t.Fatal("serves although only one voter of two says that nothing is newer")
	}
	r.step(answered{raw: w.answer(2, w.id("a"), r.nonce, adopted)})
	if !r.master {
		t.Fatal("does not serve although a quorum says that nothing is newer")
	}
}
