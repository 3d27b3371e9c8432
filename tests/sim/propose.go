package sim

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// propose reaches voters or is lost: the own one, or whichever is heard.
func (g *gateway) propose(r signalbox.Request) {
	raw, err := rpc.EncodeRequest(&r)
	if err != nil {
		g.s.fail("%s cannot encode a request: %v", g.name, err)
		return
	}
	if g.voter != nil {
		run := g.run
		g.s.after(time.Millisecond, func() {
			if g.up && g.run == run {
				g.ask(raw)
			}
		})
		if g.voter.replica != nil {
			return
		}
	}
	for _, p := range g.s.voters {
		if p != g {
			g.s.send(g.node, p.node, func() {
				if p.up {
					p.ask(raw)
				}
			})
		}
	}
}

// wants: an agent asks to be enrolled, admitted, or told.
func (g *gateway) wants(a *agent) {
	st := g.book.Service(orders)
	if !g.up || st == nil {
		return
	}
	if _, known := g.book.Enrolled(a.Identity); !known {
		g.propose(a.admit(0))
		return
	}
	if st.Master() != a.DataCenter || len(st.Open) > 0 && g.s.off != AdmitsWhileOpen {
		g.hand(a)
		return
	}
	if c := a.disk.cert; c != nil && st.Term() == c.Term && (st.Outstanding[a.Identity].Admission <= a.disk.left || a.held) {
		g.propose(a.admit(st.Term()))
		return
	}
	if _, outstanding := st.Outstanding[a.Identity]; !outstanding && a.disk.cert != nil && st.Term() == a.disk.cert.Term {
		g.propose(a.admit(st.Term()))
		return
	}
	g.hand(a)
}

// remove takes those who left out of the outstanding.
func (g *gateway) remove() {
	st := g.book.Service(orders)
	if st == nil || len(st.Open) > 0 {
		return
	}
	for _, a := range g.s.agents {
		if e, ok := g.leaves[a.Identity]; ok {
			delete(g.leaves, a.Identity)
			if st.Outstanding[a.Identity].Admission == e.Admission {
				g.propose(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: a.Identity, Evidence: e.Envelope}})
			}
		}
		if _, outstanding := st.Outstanding[a.Identity]; outstanding && g.s.off == SilenceRemoves && g.s.rough(0.02) && a.zone == g.zone && !g.s.link(g.node, a.node).up {
			g.propose(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: a.Identity, Evidence: []byte("silence")}})
		}
	}
}

// candidates are the enrolled instances of a data center that are connected.
func (g *gateway) candidates(dc signalbox.DataCenter) []signalbox.Identity {
	var out []signalbox.Identity
	for _, a := range g.s.agents {
		if _, known := g.book.Enrolled(a.Identity); a.DataCenter != dc || !known {
			continue
		}
		for _, p := range g.s.gateways {
			if p.dc == dc && g.s.link(p.node, a.node).up {
				out = append(out, a.Identity)
				break
			}
		}
	}
	return out
}

// handover is a valid one, superseding when one is open.
func (g *gateway) handover(to signalbox.DataCenter, incoming []signalbox.Identity) *signalbox.Handover {
	st := g.book.Service(orders)
	h := &signalbox.Handover{
		Service: orders, Term: st.Last + 1, Fallback: st.Last + 2, From: st.Master(), To: to, Incoming: incoming,
		Roster: g.book.Roster(orders, to), Allowed: signalbox.AckOnly, HoldBudget: time.Duration(1+g.s.rnd.IntN(4)) * time.Second,
		Leases: g.s.plan.leases, FallbackLeases: st.Certificate.Leases(),
	}
	h.ID = fmt.Sprintf("%s-%s-%d", to, g.name, h.Term)
	if n := len(st.Open); n > 0 {
		h.Fallback, h.FallbackLeases, h.AllowLateProxies = 0, signalbox.Leases{}, true
		h.From = st.Open[n-1].Handover(orders).To
	}
	if g.s.off == RosterUnchecked {
		h.Roster = g.seen(h.Roster)
	}
	return h
}

// seen is of a roster who is connected.
func (g *gateway) seen(roster []signalbox.RosterEntry) (out []signalbox.RosterEntry) {
	for _, e := range roster {
		if a := g.s.agentOf(e.Identity); a != nil && a.up {
			out = append(out, e)
		}
	}
	return out
}

func (g *gateway) proposeReturn(e handover.ProposeReturn) {
	back := e.Block.Handover(orders).From
	if who := g.candidates(back); len(who) > 0 && len(g.book.Service(orders).Open) > 0 {
		g.propose(signalbox.Request{Handover: g.handover(back, who)})
	}
}

func other(dc signalbox.DataCenter) signalbox.DataCenter {
	if dc == west {
		return east
	}
	return west
}

// order starts a switchover: now, or when what is open has ended.
func (g *gateway) order() {
	st := g.book.Service(orders)
	if !g.up || st == nil || st.Certificate == nil {
		return
	}
	if len(st.Open) > 0 {
		g.s.wanted++
		return
	}
	if who := g.candidates(other(st.Master())); len(who) > 0 {
		h := g.handover(other(st.Master()), who)
		h.AllowLateProxies = g.s.chance(0.5)
		g.propose(signalbox.Request{Handover: h})
	}
}

// failover orders one: the way to the other side, or what may supersede an open
// block.
func (g *gateway) failover() {
	st := g.book.Service(orders)
	if !g.up || st == nil || st.Certificate == nil {
		return
	}
	to, from := other(st.Master()), st.Master()
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
	h := g.handover(to, who)
	h.Fallback, h.FallbackLeases = 0, signalbox.Leases{}
	h.From, h.HoldBudget = from, time.Second
	h.Allowed |= signalbox.EvidenceKinds(signalbox.Attest)
	if g.s.chance(0.6) {
		h.Allowed |= signalbox.EvidenceKinds(signalbox.Fence)
	}
	if h.Leases.Used() {
		h.Allowed |= signalbox.EvidenceKinds(signalbox.Lapse)
		if g.s.chance(0.5) {
			h.Allowed &^= signalbox.EvidenceKinds(signalbox.Fence)
		}
	}
	g.propose(signalbox.Request{Handover: h})
}
