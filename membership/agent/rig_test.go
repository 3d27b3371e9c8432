package agent

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// rig runs one core by hand: a disk, an instance and a clock of its own.
type rig struct {
	epoch uint64 // of the voters that it knows
	t     testing.TB
	w     *world
	name  string
	dc    signalbox.DataCenter
	core  *core
	disk  state             // what a crash of the process leaves
	hard  state             // what a crash of the machine leaves for sure
	watch func(effect) bool // sees each effect first; false: crash before it
	dead  bool              // crashed until the next start
	now   time.Time
	drawn byte // nonces so far

	// the instance
	master   bool
	term     signalbox.Term
	inFlight uint64
	run      int
	closing  *stepDown // an order that waits for inFlight
	closed   uint64    // the last order that was carried out
	down     bool      // the driver fails
	helping  uint64    // the last preparation or follow
	position []byte    // what a step-down says its data reached
	promoted []byte    // the position of the last promotion

	said     []signalbox.Statement // everything signed, in order, repeated or not
	script   []string              // the effects of the last step, in words
	nonce    []byte                // of the last question
	wants    int
	attested [][]byte // told to gateways
	exited   *exit
	renewed  bool
	status   *wire.InstanceStatus
	held     hold

	// leases
	noDeadMan bool
	requests  [][]byte            // that the voters were asked for
	until     []driver.LeaseOrder // what the driver was told
	deaf      bool                // it takes none
	ahead     time.Duration       // of the boot-time clock
}

func newRig(t testing.TB, w *world, name string, dc signalbox.DataCenter) *rig {
	r := &rig{t: t, w: w, name: name, dc: dc, now: time.Unix(1_000_000, 0), run: 1}
	r.start()
	return r
}

// start starts the agent from its disk.
func (r *rig) start() {
	r.disk.Incarnation++
	r.hard, r.dead = r.disk.clone(), false
	r.closing, r.nonce, r.closed = nil, nil, 0
	r.core = newCore(coreConfig{
		prepares: true, follows: true, deadMan: !r.noDeadMan,
		trust: r.w.trust, address: "127.0.0.1:80", key: r.w.key(r.name),
		instance: signalbox.Instance{Service: "orders", DataCenter: r.dc, Name: r.name, Identity: r.w.id(r.name)},
		mandate:  func(proof []byte, _ time.Time) (*signalbox.Mandate, error) { return rpc.InspectMandate(proof) },
		voting:   func() voting { return votingOf(r.w, r.epoch) }, nonce: func() []byte {
			r.drawn++
			n := make([]byte, rpc.NonceSize)
			n[0], n[1] = r.drawn, byte(r.disk.Incarnation)
			return n
		},
	}, r.disk)
	r.step(ticked{})
}

func keysOf(w *world) rpc.KeyLookup {
	return func(id signalbox.Identity) ed25519.PublicKey {
		for _, key := range w.voterKeys() {
			if rpc.IdentityOf(key) == id {
				return key
			}
		}
		return nil
	}
}

// restart starts instance and agent again.
func (r *rig) restart() {
	r.master, r.inFlight = false, 0
	r.run++
	r.start()
	r.reportNow()
}

// instant is the clocks of leases, which agree.
func (r *rig) instant() lease.Instant {
	d := time.Duration(r.now.UnixNano())
	return lease.Instant{Boot: d + r.ahead, Wall: d}
}

// step feeds an event and carries the effects out at once; what the driver does
// comes back as further events.
func (r *rig) step(ev event) {
	r.script = nil
	r.feed(ev)
}

func (r *rig) feed(ev event) {
	if r.dead {
		return
	}
	for _, e := range r.core.Step(ev, r.now, r.instant()) {
		if r.watch != nil && !r.watch(e) {
			r.dead = true
		}
		if r.dead {
			return
		}
		r.do(e)
	}
	r.work()
}

// work lets the instance finish a step-down once nothing is in flight.
func (r *rig) work() {
	if c := r.closing; c != nil && (r.inFlight == 0 || r.down) {
		r.closing = nil
		var err error
		if r.down {
			err = errors.New("connection refused")
		}
		r.closed = c.op
		r.feed(drove{op: c.op, err: err, position: r.position})
	}
}

func (r *rig) do(e effect) {
	switch e := e.(type) {
	case persist:
		r.disk.apply(e.record)
		if e.sync {
			r.hard = r.disk.clone()
		}
		r.script = append(r.script, fmt.Sprintf("persist sync=%t", e.sync))
	case say:
		s := r.w.open(r.name, e.evidence.Envelope)
		r.said = append(r.said, s)
		r.script = append(r.script, fmt.Sprintf("say %s %d", s.Kind, s.Term))
	case tell:
		r.status = e.status
	case ask:
		r.nonce = e.question.Nonce
	case want:
		r.wants++
	case attested:
		r.attested = append(r.attested, e.proof)
	case stepDown:
		line := fmt.Sprintf("step down %d", e.order.Term)
		for _, peer := range e.order.Incoming {
			line += " for " + peer.Name + " at " + peer.Address
		}
		r.script = append(r.script, line)
		r.master = false
		r.closing = &e
	case promote:
		r.script = append(r.script, fmt.Sprintf("promote %d", e.order.Term))
		r.closing = nil
		r.closed = e.op
		if r.down {
			r.feed(drove{op: e.op, err: errors.New("connection refused")})
			return
		}
		r.master, r.term, r.promoted = true, e.order.Term, e.order.Position
		r.feed(drove{op: e.op})
	case prepare:
		r.script = append(r.script, fmt.Sprintf("prepare %d promote=%t", e.order.Term, e.order.Promote))
		r.helping = e.op
	case follow:
		r.script = append(r.script, fmt.Sprintf("follow %s %d", e.order.Address, e.order.Term))
		r.helping = e.op
	case askLease:
		r.requests = append(r.requests, e.request)
	case giveLease:
		var err error
		if r.deaf {
			err = errors.New("not found")
		} else {
			r.until = append(r.until, e.order)
		}
		r.feed(leaseGiven{op: e.op, err: err})
	case hold:
		r.held = e
	case awaitQuiet:
		r.script = append(r.script, "await quiet")
	case newKey:
		r.renewed = true
	case exit:
		r.exited = &e
	}
}

// reportNow has the driver report the instance as it is.
func (r *rig) reportNow() {
	ev := reported{op: r.closed, readiness: driver.Readiness{Ready: true}, status: driver.Status{
		Master: r.master, InFlight: r.inFlight, Run: fmt.Sprint(r.run),
	}}
	if r.master {
		ev.status.Term = r.term
	}
	if r.down {
		ev.err = errors.New("connection refused")
	}
	r.step(ev)
}

// pass lets time pass, with the ticks that the core asks for.
func (r *rig) pass(d time.Duration) {
	end := r.now.Add(d)
	r.feed(ticked{})
	for {
		next := r.core.Next(r.now)
		if next.IsZero() || next.After(end) {
			r.now = end
			return
		}
		r.now = next
		r.feed(ticked{})
	}
}

// voters answers the last question by the first n voters.
func (r *rig) voters(n int, block *signalbox.DecidedBlock) {
	for v := range n {
		r.step(answered{raw: r.w.answer(v, r.w.id(r.name), r.nonce, block)})
	}
}

func (r *rig) order(kind wire.OrderKind, block *signalbox.DecidedBlock) {
	r.step(ordered{gateway: "g1", kind: kind, decided: block.Raw})
}

// serving starts the instance as master of term 1.
func serving(t testing.TB, w *world, name string) (*rig, *signalbox.DecidedBlock) {
	t.Helper()
	r := newRig(t, w, name, "east")
	block, cert := w.adopt(name)
	r.reportNow()
	r.voters(len(w.voters), block)
	r.step(granted{certificate: cert})
	if !r.master || r.term != 1 {
		t.Fatalf("not master of term 1: %v", r.script)
	}
	return r, block
}

func (r *rig) expect(want ...string) {
	r.t.Helper()
	if got := strings.Join(r.script, ", "); got != strings.Join(want, ", ") {
		r.t.Errorf("effects:\n got %s\nwant %s", got, strings.Join(want, ", "))
	}
}

func (r *rig) expectState(state string) {
	r.t.Helper()
	if r.core.stateName() != state {
		r.t.Errorf("state %s, want %s", r.core.stateName(), state)
	}
}

// votingOf is who votes in a world; epoch 0: the voters never change.
func votingOf(w *world, epoch uint64) voting {
	return voting{epoch: epoch, voter: keysOf(w), quorum: len(w.voters)/2 + 1}
}
