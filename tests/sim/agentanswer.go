package sim

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

func (a *agent) ordered(kind handover.OrderKind, b *signalbox.DecidedBlock) {
	h := b.Handover(a.Service)
	if e, ok := a.disk.answers[b.Digest]; ok {
		if a.tell(e); a.s.off != TwoAnswers || a.s.chance(0.5) || !h.Voidable() {
			return
		}
		a.answer(signalbox.SaysRefuse, b)
	}
	entry, listed := h.Entry(a.Identity)
	if listed && a.disk.left >= entry.Admission {
		a.tell(a.disk.leave)
		return
	}
	if !listed || a.disk.cert != nil && a.disk.cert.Term >= h.Term {
		return
	}
	if a.disk.first[b.Digest].IsZero() {
		if now := a.s.now; !a.write(func() { a.disk.first[b.Digest] = now }) {
			return
		}
		if h.Voidable() {
			a.after(h.HoldBudget, func() { a.expire(b) })
		}
	}
	switch {
	case h.Voidable() && (kind == handover.OrderRefuse || !a.s.now.Before(a.disk.first[b.Digest].Add(h.HoldBudget))):
		a.answer(signalbox.SaysRefuse, b)
	case a.s.off == AckWithGateOpen && kind == handover.OrderDrain:
		a.answer(signalbox.SaysAck, b)
	case kind == handover.OrderAck && a.drained == b.Digest:
		a.answer(signalbox.SaysAck, b)
	case kind == handover.OrderDrain || kind == handover.OrderAck:
		a.drain(b)
	}
}

func (a *agent) expire(b *signalbox.DecidedBlock) {
	entry, listed := b.Handover(a.Service).Entry(a.Identity)
	if !listed || a.disk.left >= entry.Admission {
		return // the leave is the only answer, or it has another key since
	}
	if _, ok := a.disk.answers[b.Digest]; a.up && !ok && (a.disk.cert == nil || a.disk.cert.Term < b.Handover(a.Service).Term) {
		a.answer(signalbox.SaysRefuse, b)
	}
}

func (a *agent) drain(b *signalbox.DecidedBlock) {
	if a.drained == b.Digest {
		a.tell(a.who.answer(signalbox.SaysDrained, b))
		return
	}
	if h := b.Handover(a.Service); a.hangs && (h.Voidable() || h.Allowed.Has(signalbox.Lapse)) {
		return
	}
	run := a.run
	a.after(a.s.between(time.Millisecond, 30*time.Millisecond), func() {
		if _, ok := a.disk.answers[b.Digest]; !a.up || a.run != run || ok || a.drained == b.Digest {
			return
		}
		if c := a.disk.cert; c != nil && c.Term >= b.Handover(a.Service).Term {
			return
		}
		a.serving, a.drained = 0, b.Digest
		a.tell(a.who.answer(signalbox.SaysDrained, b))
		if a.s.rough(0.08) { // for good, as far as the others can wait
			a.s.after(0, func() { a.crash(a.s.between(3*time.Second, 9*time.Second)) })
		}
	})
}

// answer closes the gate, persists, then says it.
func (a *agent) answer(kind signalbox.StatementKind, b *signalbox.DecidedBlock) {
	h := b.Handover(a.Service)
	ack, before := kind == signalbox.SaysAck, a.disk.floor
	if !ack || a.s.off == ForgetsItsAck {
		a.drained = signalbox.Digest{}
	}
	if ack && a.s.off != AckWithGateOpen {
		a.serving = 0
	}
	e := a.who.answer(kind, b)
	kept := a.write(func() {
		if ack && a.s.off != ForgetsItsAck && a.s.off != AckWithGateOpen {
			a.disk.floor = max(a.disk.floor, h.Term)
		}
		a.disk.answers[b.Digest], a.disk.highest = e, max(a.disk.highest, h.Term)
	})
	if !kept {
		return
	}
	if a.s.off == AckUnsynced {
		a.unsynced = append(a.unsynced, func() {
			a.disk.floor = before
			delete(a.disk.answers, b.Digest)
		})
	}
	a.s.say("%s: %s to term %d", a.name, kind, h.Term)
	if ack {
		a.s.oracle.acked(a.Identity, h.Term)
	}
	a.tell(e)
	a.serve()
	switch {
	case ack && a.s.off == AckUnsynced && a.s.rough(0.3):
		a.after(a.s.between(time.Millisecond, 40*time.Millisecond), func() { a.crash(50 * time.Millisecond) })
	case ack && a.s.off == TwoAnswers && h.Voidable() && a.s.chance(0.3):
		a.after(a.s.between(time.Millisecond, 40*time.Millisecond), func() { a.answer(signalbox.SaysRefuse, b) })
	}
}

// ask has the voters answer the nonce of the agent's start, by way of a gateway.
func (a *agent) ask(run int) {
	for _, n := range a.s.neighbours(a.node) {
		g := n.gw
		a.s.send(a.node, n, func() {
			if g.up {
				a.askBy(g, run)
			}
		})
	}
}

func (a *agent) askBy(g *gateway, run int) {
	for _, v := range a.asks(g) {
		asked := func() {
			answer, ok := v.answer(a.Service, a.Identity)
			if !ok {
				return
			}
			as := v.voter.seat.key()
			hand := func() {
				a.s.send(g.node, a.node, func() {
					if a.up && (a.run == run || a.s.off == NonceIsStale) {
						a.answered(a.said(v, as, answer.Epoch), answer)
					}
				})
			}
			if v == g {
				hand()
			} else {
				a.s.send(v.node, g.node, hand)
			}
		}
		if v == g {
			asked()
		} else {
			a.s.send(g.node, v.node, asked)
		}
	}
}

// answered is rule 2: nothing newer than its own entry may have taken the
// mastership away, as a quorum of voters has it.
func (a *agent) answered(as vote, answer rpc.Answer) {
	if !a.counts(as) && (a.s.off != AnswersOfAnyEpoch || !slices.Contains(a.ballot.scheme.tags, as.key)) {
		return
	}
	if before, ok := a.answers[as.key]; !ok || before.Index < answer.Index {
		a.answers[as.key] = answer
	}
	var own uint64
	if a.disk.cert != nil {
		own = max(a.disk.cert.Block.Index, a.basis())
	}
	clear, quorum := 0, a.ballot.quorum()
	for _, said := range a.answers {
		if said.Beyond <= own && (said.Index <= own || said.Allowed&signalbox.ByOthers == 0) {
			clear++
		}
	}
	if a.s.off == OneAnswerIsEnough {
		quorum = 1
	}
	a.fresh = a.fresh || clear >= quorum
	a.held = !a.fresh && len(a.answers) >= quorum
	if a.fresh {
		a.serve()
	}
}

// open reports whether it would answer a request as master now.
func (a *agent) open() bool {
	if !a.up || a.serving == 0 || a.s.now.Before(a.frozen) {
		return false
	}
	if a.disk.cert == nil || !a.disk.cert.Leases().Used() || a.s.off == LeaseIgnored {
		return true
	}
	if a.lease == nil {
		return false
	}
	now := a.s.instant(a.clock)
	if a.s.off == LeaseOverstayed {
		late := a.disk.cert.Leases().TTL
		now.Boot, now.Wall = now.Boot-late, now.Wall-late
	}
	switch deadline, _ := a.lease.Deadline(); a.s.off {
	case LeaseByBootClock:
		now.Wall = deadline.Wall + now.Boot - deadline.Boot
	case LeaseByWallClock:
		now.Boot = deadline.Boot + now.Wall - deadline.Wall
	}
	return a.lease.Live(now)
}

// renew asks all voters for the lease of the term that it serves.
func (a *agent) renew() {
	c := a.disk.cert
	if a.serving == 0 || c == nil || c.Term != a.serving || !c.Leases().Used() {
		return
	}
	if a.lease == nil || a.leaseBy != a.basis() || a.lease.Epoch() != a.ballot.epoch() {
		a.leaseBy, a.renewAt = a.basis(), time.Time{}
		quorum := a.ballot.quorum()
		if a.s.off == LeaseOfOne {
			quorum = 1
		}
		a.lease = lease.NewHolder(c.Leases(), quorum, lease.Request{
			Service: a.Service, Term: c.Term, Identity: a.Identity, Admission: a.leaseBy, Incarnation: uint64(a.run),
			Epoch: a.ballot.epoch(),
		})
	}
	if a.s.now.Before(a.renewAt) {
		return
	}
	a.renewAt = a.s.now.Add(lease.Renewal(c.Leases()))
	a.nonces++
	var nonce lease.Nonce
	binary.BigEndian.PutUint64(nonce[:], a.nonces)
	holder, r, run := a.lease, a.lease.Renew(nonce, a.s.instant(a.clock)), a.run
	for _, n := range a.s.neighbours(a.node) {
		g := n.gw
		a.s.send(a.node, n, func() {
			for _, v := range a.asks(g) {
				asked := func() {
					as, ok := v.grant(r)
					if !ok {
						return
					}
					hand := func() {
						a.s.send(g.node, a.node, func() {
							if a.up && a.run == run {
								a.grantedBy(holder, a.said(v, as, as.epoch), r)
							}
						})
					}
					if v == g {
						hand()
					} else {
						a.s.send(v.node, g.node, hand)
					}
				}
				if v == g {
					asked()
				} else if g.up {
					a.s.send(g.node, v.node, asked)
				}
			}
		})
	}
}

// asks are the voters that a gateway asks for an agent: those of its log, and those
// that lie whatever they are.
func (a *agent) asks(g *gateway) []*gateway {
	if a.s.plan.changes == 0 || a.s.plan.liars == 0 {
		return g.voter.seat.who
	}
	out := slices.Clone(g.voter.seat.who)
	for _, p := range a.s.gateways {
		if p.voter.liar != nil && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// said is as which voter v said something: a lying one as the agent likes to hear it.
func (a *agent) said(v *gateway, as vote, epoch uint64) vote {
	if v.voter.liar == nil {
		return vote{as.key, epoch}
	}
	if place := a.ballot.of(v); place >= 0 {
		return vote{a.ballot.scheme.tags[place], a.ballot.epoch()}
	}
	return vote{}
}

// counts reports whether what was said is of one of the voters of the newest epoch
// that the agent knows, as part of that.
func (a *agent) counts(as vote) bool {
	ok := as.epoch == a.ballot.epoch() && slices.Contains(a.ballot.scheme.tags, as.key)
	if !ok {
		a.s.Stats["answers and grants of other epochs"]++
	}
	return ok
}

// grantedBy takes a grant: the holder looks whether it is of its epoch.
func (a *agent) grantedBy(holder *lease.Holder, as vote, r lease.Request) {
	if !slices.Contains(a.ballot.scheme.tags, as.key) {
		return
	}
	if r.Epoch = as.epoch; a.s.off == GrantsOfAnyEpoch {
		r.Epoch = holder.Epoch()
	}
	if !holder.Granted(signalbox.Identity(as.key[:]), r, a.s.instant(a.clock)) {
		a.s.Stats["answers and grants of other epochs"]++
	}
	a.serve()
}
