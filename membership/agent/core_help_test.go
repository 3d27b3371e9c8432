package agent

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// serving is an instance's word that it serves a certificate's term.
func (w *world) serving(name, address string, cert []byte, change func(*signalbox.Statement)) *wire.Serving {
	w.t.Helper()
	c, err := rpc.OpenCertificate(w.trust, cert)
	w.must(err)
	s := signalbox.Statement{
		Kind: signalbox.SaysServing, Service: "orders", Term: c.Term, Block: c.Block.Digest, Address: address,
		Incarnation: 2, Admission: c.Block.Index,
	}
	if change != nil {
		change(&s)
	}
	e, err := rpc.SealStatement(testCluster, s, w.key(name))
	w.must(err)
	return &wire.Serving{Statement: e.Envelope, PublicKey: w.key(name).Public().(ed25519.PublicKey)}
}

// An old master becomes a standby of the new one by itself: not before it holds
// the certificate, and again after a start and when the master has moved.
func TestComeback(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	cert := w.certify(block, false)
	r.order(drainOrder, block)
	r.step(granted{serving: []*wire.Serving{w.serving("x", "10.0.0.1:5432", cert, nil)}})
	r.order(ackOrder, block)
	r.expect("persist sync=true", "say ack 8")
	r.step(granted{certificate: cert})
	r.expect("persist sync=false")
	r.step(granted{serving: []*wire.Serving{w.serving("x", "10.0.0.1:5432", cert, nil)}})
	r.expect("follow 10.0.0.1:5432 8")
	r.step(helped{op: r.helping, err: errors.New("no route")})
	r.expect()
	if r.status.Problem == "" {
		t.Error("nobody is told that it cannot follow")
	}
	r.step(ticked{})
	r.expect()
	r.pass(driveBackoff)
	r.expect("follow 10.0.0.1:5432 8")
	r.step(helped{op: r.helping})
	r.pass(time.Minute)
	if r.status.Problem != "" {
		t.Errorf("problem %q", r.status.Problem)
	}
	r.expect() // once
	r.step(granted{serving: []*wire.Serving{w.serving("x", "10.0.0.2:5432", cert, func(s *signalbox.Statement) { s.Incarnation++ })}})
	r.expect("follow 10.0.0.2:5432 8")
	r.step(helped{op: r.helping})
	r.step(granted{serving: []*wire.Serving{w.serving("x", "10.0.0.1:5432", cert, nil)}}) // an old word
	r.expect()
	r.run++ // the instance was started again
	r.reportNow()
	r.expect("follow 10.0.0.2:5432 8")
}

// A gateway that lies cannot have an instance follow somebody who may not serve,
// and one that serves or has a block to answer follows nobody.
func TestFollowsOnlyTheMaster(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	cert := w.certify(block, false)
	r.order(ackOrder, block)
	r.step(granted{certificate: cert})
	admitted := w.serving("y", "10.0.0.9:1", cert, func(s *signalbox.Statement) { s.Admission = 99 })
	forged := w.serving("x", "10.0.0.9:1", cert, nil)
	forged.PublicKey = w.key("y").Public().(ed25519.PublicKey)
	for name, s := range map[string]*wire.Serving{
		"not listed":         w.serving("y", "10.0.0.9:1", cert, nil),
		"not admitted":       admitted,
		"another's key":      forged,
		"another term":       w.serving("x", "10.0.0.9:1", cert, func(s *signalbox.Statement) { s.Term = 9 }),
		"another block":      w.serving("x", "10.0.0.9:1", cert, func(s *signalbox.Statement) { s.Block = adopted.Digest }),
		"not serving":        w.serving("x", "", cert, func(s *signalbox.Statement) { s.Kind = signalbox.SaysAck }),
		"nothing":            {},
		"of another service": w.serving("x", "10.0.0.9:1", cert, func(s *signalbox.Statement) { s.Service = "carts" }),
	} {
		r.step(granted{serving: []*wire.Serving{s}})
		if len(r.script) != 0 {
			t.Errorf("%s: %v", name, r.script)
		}
	}
	back := w.handover(10, "west", "east", []string{"a"}, w.entry("x", "west", block.Index))
	again := w.certify(back, false)
	r.step(granted{certificate: again, serving: []*wire.Serving{w.serving("a", "10.0.0.9:1", again, nil)}})
	r.expect("persist sync=false", "promote 10", "say serving 10")
	r.step(granted{serving: []*wire.Serving{w.serving("x", "10.0.0.1:5432", again, nil)}})
	r.expect()
}

// An order ends a follow, and what it brings is not waited for.
func TestOrderEndsFollow(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	cert := w.certify(block, false)
	r.order(ackOrder, block)
	r.step(granted{certificate: cert, serving: []*wire.Serving{w.serving("x", "10.0.0.1:5432", cert, nil)}})
	r.expect("persist sync=false", "follow 10.0.0.1:5432 8")
	late := r.helping
	back := w.handover(10, "west", "east", []string{"a"}, w.entry("x", "west", block.Index))
	r.step(granted{certificate: w.certify(back, false)})
	r.expect("persist sync=false", "promote 10", "say serving 10")
	r.step(helped{op: late})
	r.expect()
}

// A preparation is for who is concerned, once, and is said when it is over,
// whatever came of it; it is not begun while a block waits for its answer.
func TestPrepare(t *testing.T) {
	w := newWorld(t, 1, 1)
	r, adopted := serving(t, w, "a")
	own, other := rpc.IdentityToBytes(w.id("a")), rpc.IdentityToBytes(w.id("x"))
	r.step(preparing{&wire.Prepare{Service: "orders", Term: 8, Id: 5, StepDown: [][]byte{other}}})
	r.expect()
	r.step(preparing{&wire.Prepare{Service: "orders", Term: 8, Id: 6, StepDown: [][]byte{own}, Promote: [][]byte{other}}})
	r.expect("prepare 8 promote=false")
	if r.status.Prepared != 0 {
		t.Error("prepared before it was")
	}
	r.step(helped{op: r.helping, err: errors.New("disk full")})
	if r.status.Prepared != 6 {
		t.Errorf("prepared %d, want 6", r.status.Prepared)
	}
	r.step(preparing{&wire.Prepare{Service: "orders", Term: 8, Id: 6, StepDown: [][]byte{own}}})
	r.expect()
	r.step(preparing{&wire.Prepare{Service: "orders", Term: 8, Id: 7, Promote: [][]byte{own}}})
	r.expect("prepare 8 promote=true")
	block := w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index))
	r.order(ackOrder, block)
	r.expect("persist sync=false", "step down 1", "say drained 8", "persist sync=true", "say ack 8")
	r.pass(time.Minute)
	if r.status.Prepared != 6 {
		t.Error("a preparation that an order ended counts as done")
	}
}

// A step-down says for whom it is, by what a preparation said of the incoming
// instances of the very block; a half answer, or one about others, is none, and
// neither is what could not be passed on in a line. It makes no difference whether
// the driver has something to prepare.
func TestStepDownSaysForWhom(t *testing.T) {
	const address, told = "10.0.0.1:5432", "step down 1 for ledger-west at 10.0.0.1:5432"
	for _, c := range []struct {
		said, address, want string
		noPreparer          bool
	}{
		{"x", address, told, false}, {"x", address, told, true}, {"y", address, "step down 1", false}, {"", address, "step down 1", true},
		{"x", "10.0.0.1:5432 y=10.0.0.2:1", "step down 1", false}, {"x", "10.0.0.1\n:5432", "step down 1", true}, {"x", "10.0.0.1\x00", "step down 1", true},
	} {
		w := newWorld(t, 1, 1)
		r, adopted := serving(t, w, "a")
		r.core.cfg.prepares = !c.noPreparer
		p := &wire.Prepare{Service: "orders", Term: 8, Id: 5}
		if c.said != "" {
			p.Incoming = []*wire.Incoming{
				{Identity: rpc.IdentityToBytes(w.id(c.said)), Name: "ledger-west", Address: c.address},
				{Identity: []byte("short"), Name: "nobody"},
				{Identity: rpc.IdentityToBytes(w.id("z")), Name: strings.Repeat("long", 100)},
			}
		}
		r.step(preparing{p})
		r.expect()
		r.order(ackOrder, w.handover(8, "east", "west", []string{"x"}, w.entry("a", "east", adopted.Index)))
		r.expect("persist sync=false", c.want, "say drained 8", "persist sync=true", "say ack 8")
	}
}
