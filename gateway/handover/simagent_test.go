package handover_test

import (
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// simAgent is the simplest agent that keeps rules 2 and 4: one persisted answer
// to a block, never below what it acked. The fields of simDisk survive.
type simAgent struct {
	*who
	s    *sim
	name string
	up   bool
	run  int // counts starts, so that what an earlier process began is void
	disk simDisk

	serving signalbox.Term // the gate is open at this term
	drained signalbox.Digest
	order   handover.OrderKind
	hangs   bool
	fresh   bool // the voter answered the nonce of this start, with nothing newer
	held    bool // the voter's answer keeps it closed
}

type simDisk struct {
	cert      *signalbox.Certificate
	floor     signalbox.Term
	admission uint64 // newest known
	admitted  signalbox.Term
	left      uint64
	highest   signalbox.Term
	answers   map[signalbox.Digest]signalbox.Evidence
	first     map[signalbox.Digest]time.Time
	leave     signalbox.Evidence
}

func (a *simAgent) start() {
	a.up, a.run, a.serving, a.drained, a.order = true, a.run+1, 0, signalbox.Digest{}, 0
	a.fresh, a.held = a.s.broken == "asks after a start", false
	a.hangs = a.s.faults && a.s.chance(0.1)
	for _, n := range a.s.neighbours(a.name) {
		a.s.connect(a.name, n)
	}
	a.serve()
	a.tick(a.run)
}

func (a *simAgent) crash(down time.Duration) {
	a.up, a.serving = false, 0
	for _, n := range a.s.neighbours(a.name) {
		a.s.cut(a.name, n, down+time.Millisecond)
	}
	a.s.say("%s down for %v", a.name, down)
	a.s.after(down, func() {
		if !a.up {
			a.start()
		}
	})
}

// stop is the orderly one: gate closed, leave persisted, said, exit.
func (a *simAgent) stop() {
	if a.disk.admission > a.disk.left {
		a.serving = 0
		a.disk.left = a.disk.admission
		a.disk.leave = a.leaves(a.disk.admission, a.disk.highest)
		a.s.say("%s leaves admission %d", a.name, a.disk.left)
		a.say(a.disk.leave)
	}
	a.s.after(5*time.Millisecond, func() { a.crash(a.s.between(100*time.Millisecond, 2*time.Second)) })
}

func (a *simAgent) say(e signalbox.Evidence) {
	for _, n := range a.s.neighbours(a.name) {
		g := a.s.gateway(n)
		a.s.send(a.name, n, func() { g.statement(e) })
	}
}

// tick looks at the own clock: budgets that ran out, admission that is missing.
func (a *simAgent) tick(run int) {
	if !a.up || a.run != run {
		return
	}
	a.serve()
	if !a.fresh {
		a.ask(run)
	}
	if c := a.disk.cert; c != nil && a.serving == 0 && c.DataCenter() == a.DataCenter && c.Term >= a.disk.floor && (a.basis() == 0 || a.held) {
		for _, n := range a.s.neighbours(a.name) {
			g := a.s.gateway(n)
			a.s.send(a.name, n, func() { g.wants(a) })
		}
	}
	a.s.after(100*time.Millisecond, func() { a.tick(run) })
}

func (a *simAgent) ordered(kind handover.OrderKind, b *signalbox.DecidedBlock) {
	h := b.Handover(orders)
	if e, ok := a.disk.answers[b.Digest]; ok {
		if a.say(e); a.s.broken != "one answer" || a.s.chance(0.5) {
			return
		}
		a.answer(signalbox.SaysRefuse, b)
	}
	entry, listed := h.Entry(a.Identity)
	if !listed || a.disk.cert != nil && a.disk.cert.Term >= h.Term {
		return
	}
	if a.disk.left >= entry.Admission {
		a.say(a.disk.leave)
		return
	}
	if a.disk.first[b.Digest].IsZero() {
		a.disk.first[b.Digest] = a.s.now
		if h.Voidable() {
			a.s.after(h.HoldBudget, func() { a.expire(b) })
		}
	}
	switch {
	case h.Voidable() && (kind == handover.OrderRefuse || !a.s.now.Before(a.disk.first[b.Digest].Add(h.HoldBudget))):
		a.answer(signalbox.SaysRefuse, b)
	case a.s.broken == "gate closed before the ack" && kind == handover.OrderDrain:
		a.answer(signalbox.SaysAck, b)
	case kind == handover.OrderAck && a.drained == b.Digest:
		a.answer(signalbox.SaysAck, b)
	case kind == handover.OrderDrain || kind == handover.OrderAck:
		a.drain(b)
	}
}

func (a *simAgent) expire(b *signalbox.DecidedBlock) {
	entry, _ := b.Handover(orders).Entry(a.Identity)
	if a.disk.left >= entry.Admission {
		return // the leave is the only answer
	}
	if _, ok := a.disk.answers[b.Digest]; a.up && !ok && (a.disk.cert == nil || a.disk.cert.Term < b.Handover(orders).Term) {
		a.answer(signalbox.SaysRefuse, b)
	}
}

func (a *simAgent) drain(b *signalbox.DecidedBlock) {
	if a.drained == b.Digest {
		a.say(a.who.answer(signalbox.SaysDrained, b))
		return
	}
	if a.hangs && b.Handover(orders).Voidable() {
		return
	}
	run := a.run
	a.s.after(a.s.between(time.Millisecond, 30*time.Millisecond), func() {
		if _, ok := a.disk.answers[b.Digest]; !a.up || a.run != run || ok || a.drained == b.Digest {
			return
		}
		a.serving, a.drained = 0, b.Digest
		a.say(a.who.answer(signalbox.SaysDrained, b))
		if a.s.faults && a.s.chance(0.1) { // for good, as far as the others can wait
			a.s.after(0, func() { a.crash(a.s.between(3*time.Second, 9*time.Second)) })
		}
	})
}

func (a *simAgent) answer(kind signalbox.StatementKind, b *signalbox.DecidedBlock) {
	h := b.Handover(orders)
	switch {
	case kind == signalbox.SaysAck && a.s.broken == "gate closed before the ack":
	case kind == signalbox.SaysAck && a.s.broken == "never below the ack":
		a.serving, a.drained = 0, signalbox.Digest{}
	case kind == signalbox.SaysAck:
		a.serving, a.disk.floor = 0, max(a.disk.floor, h.Term)
	default:
		a.drained = signalbox.Digest{}
	}
	e := a.who.answer(kind, b)
	a.disk.answers[b.Digest], a.disk.highest = e, max(a.disk.highest, h.Term)
	a.s.say("%s: %s to term %d", a.name, kind, h.Term)
	a.say(e)
	a.serve()
}

// granted takes a certificate, and the block that admits it.
func (a *simAgent) granted(c *signalbox.Certificate, admitted *signalbox.DecidedBlock) {
	if a.disk.cert == nil || c.Term > a.disk.cert.Term {
		a.disk.cert = c
		a.drained = signalbox.Digest{}
		if c.Handover().Lists(a.Identity, c.Term) && !c.IsFallback() {
			a.disk.admission = max(a.disk.admission, c.Block.Index)
		}
	}
	if admitted != nil {
		if ad := admitted.Admission(orders); ad != nil && ad.Identity == a.Identity {
			a.disk.admitted, a.disk.admission = ad.Term, max(a.disk.admission, admitted.Index)
		}
	}
	run := a.run
	a.s.after(a.s.between(time.Millisecond, 10*time.Millisecond), func() {
		if a.up && a.run == run {
			a.serve()
		}
	})
}

// basis is the admission by which it may serve the certificate's term, 0 for none.
func (a *simAgent) basis() uint64 {
	c := a.disk.cert
	var by uint64
	if h := c.Handover(); h.Lists(a.Identity, c.Term) {
		by = c.Block.Index
		if e, ok := h.Entry(a.Identity); ok && c.IsFallback() {
			by = e.Admission
		}
	}
	if a.disk.admitted == c.Term {
		by = max(by, a.disk.admission)
	}
	if by <= a.disk.left && a.s.broken != "a leave is final" {
		return 0
	}
	return by
}

func (a *simAgent) serve() {
	c := a.disk.cert
	if !a.up || !a.fresh || c == nil || c.DataCenter() != a.DataCenter || c.Term < a.disk.floor || a.basis() == 0 || !a.drained.IsZero() {
		return
	}
	if a.serving != c.Term {
		a.serving = c.Term
		a.s.say("%s serves term %d", a.name, c.Term)
		a.s.judge()
	}
	for _, n := range a.s.neighbours(a.name) { // its status, unsigned
		g, term := a.s.gateway(n), a.serving
		a.s.send(a.name, n, func() {
			serves := handover.Serves{Identity: a.Identity, Term: term}
			g.broadcast(func(p *simGateway) { p.step(serves) })
			g.step(serves)
		})
	}
}
