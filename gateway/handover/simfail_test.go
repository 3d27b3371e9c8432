package handover_test

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// ask has the voter answer the nonce of the agent's start, by way of a gateway.
// An answer to an earlier start, or one that was cut off, says nothing.
func (a *simAgent) ask(run int) {
	voter := a.s.gateways[0]
	for _, n := range a.s.neighbours(a.name) {
		g := a.s.gateway(n)
		reply := func() {
			answer := voter.book.Answer(orders, a.Identity)
			back := func() {
				a.s.send(g.name, a.name, func() {
					if a.up && a.run == run {
						a.answered(answer.Beyond, answer.Index, answer.Allowed)
					}
				})
			}
			if g == voter {
				back()
			} else {
				a.s.send(voter.name, g.name, back)
			}
		}
		a.s.send(a.name, n, func() {
			if g == voter {
				reply()
			} else {
				a.s.send(g.name, voter.name, reply)
			}
		})
	}
}

// answered is rule 2: nothing newer than its own entry may have taken the
// mastership away.
func (a *simAgent) answered(beyond, index uint64, allowed signalbox.EvidenceKinds) {
	var own uint64
	if a.disk.cert != nil {
		own = max(a.disk.cert.Block.Index, a.basis())
	}
	a.held = !a.fresh && (beyond > own || index > own && allowed&signalbox.ByOthers != 0)
	a.fresh = a.fresh || !a.held
	if a.fresh {
		a.serve()
	}
}

// collect carries handover.Collect out: a fence ends a process that runs, and is
// signed when that is sure.
func (g *simGateway) collect(e handover.Collect) {
	if e.Kind != signalbox.Fence {
		return
	}
	for _, entry := range e.Of {
		a := g.s.agent(entry.Name)
		g.s.after(g.s.between(10*time.Millisecond, 900*time.Millisecond), func() { g.fence(a, e.Block, entry) })
	}
}

func (g *simGateway) fence(a *simAgent, b *signalbox.DecidedBlock, entry signalbox.RosterEntry) {
	if !g.up || g.s.chance(0.2) { // the plugin failed: it is asked again
		return
	}
	if a.up {
		g.s.say("%s fences %s", g.name, a.name)
		a.crash(g.s.between(50*time.Millisecond, 4*time.Second))
	}
	g.s.stats["fence"]++
	g.statement(testify(signalbox.SaysFence, entry.Identity, entry.Admission, b.Digest, b.Handover(orders).Term))
}

// failover orders one: the way to the other side, or what may supersede an open
// block.
func (g *simGateway) failover() {
	st := g.book.Service(orders)
	if !g.up || st == nil || st.Certificate == nil {
		return
	}
	to := west
	if st.Master() == west {
		to = east
	}
	from := st.Master()
	if n := len(st.Open); n > 0 {
		open := st.Open[n-1].Handover(orders)
		if to, from = open.To, open.From; g.s.chance(0.3) {
			to, from = from, to
		}
	}
	who := g.candidates(to)
	if len(who) == 0 {
		return
	}
	h := g.book.failover(fmt.Sprintf("f%d", st.Last+1), to, signalbox.EvidenceKinds(signalbox.Attest|signalbox.Fence), who...)
	h.From, h.HoldBudget = from, time.Second
	if g.s.chance(0.3) {
		h.Allowed &^= signalbox.EvidenceKinds(signalbox.Fence)
	}
	g.propose(signalbox.Request{Handover: h})
}

// attend is the operator: attests, truly, for instances that are off, for open
// failovers and announced removals, and announces some.
func (s *sim) attend() {
	s.after(200*time.Millisecond, s.attend)
	var g *simGateway
	for _, other := range s.gateways {
		if other.up {
			g = other
		}
	}
	st := s.gateways[0].book.Service(orders)
	if g == nil || st == nil {
		return
	}
	for _, a := range s.agents {
		if a.up {
			continue
		}
		for _, b := range st.Open {
			h := b.Handover(orders)
			if e, listed := h.Entry(a.Identity); listed && h.Allowed.Has(signalbox.Attest) && s.chance(0.5) {
				s.stats["attest"]++
				g.statement(testify(signalbox.SaysAttest, a.Identity, e.Admission, b.Digest, h.Term))
			}
		}
		s.attestRemoval(g, st, a)
	}
}

func (s *sim) attestRemoval(g *simGateway, st *handover.ServiceState, a *simAgent) {
	if _, outstanding := st.Outstanding[a.Identity]; !outstanding || len(st.Open) > 0 {
		return
	}
	if an := st.Announced[a.Identity]; an == nil {
		if s.faults && s.chance(0.3) {
			g.propose(g.book.announce(a.name, signalbox.EvidenceKinds(signalbox.Attest)))
		}
	} else if s.chance(0.5) {
		e := testify(signalbox.SaysAttest, a.Identity, an.Admission, an.Digest, an.Below)
		// Evidence that was true once comes late, too.
		s.after(s.between(0, 3*time.Second), func() {
			g.propose(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: a.Identity, Evidence: e.Envelope}})
		})
	}
}
