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
	if g.voter.seat.self >= 0 {
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
	for _, p := range g.voter.seat.who {
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
func (d *desk) wants(a *agent) {
	st := d.state()
	if !d.up || st == nil {
		return
	}
	if _, known := d.book.Enrolled(a.Identity); !known {
		d.propose(a.admit(0))
		return
	}
	if st.Master() != a.DataCenter || len(st.Open) > 0 && d.s.off != AdmitsWhileOpen {
		d.hand(a)
		return
	}
	if c := a.disk.cert; c != nil && st.Term() == c.Term && (st.Outstanding[a.Identity].Admission <= a.disk.left || a.held) {
		d.propose(a.admit(st.Term()))
		return
	}
	if _, outstanding := st.Outstanding[a.Identity]; !outstanding && a.disk.cert != nil && st.Term() == a.disk.cert.Term {
		d.propose(a.admit(st.Term()))
		return
	}
	d.hand(a)
}

// remove takes those who left out of the outstanding.
func (d *desk) remove() {
	st := d.state()
	if st == nil || len(st.Open) > 0 {
		return
	}
	for _, a := range d.s.agents {
		if e, ok := d.leaves[a.Identity]; ok {
			delete(d.leaves, a.Identity)
			if st.Outstanding[a.Identity].Admission == e.Admission {
				d.propose(signalbox.Request{Remove: &signalbox.Removal{Service: d.service, Identity: a.Identity, Evidence: e.Envelope}})
			}
		}
		if _, outstanding := st.Outstanding[a.Identity]; outstanding && d.s.off == SilenceRemoves && d.s.rough(0.02) && a.zone == d.zone && !d.s.link(d.node, a.node).up {
			d.propose(signalbox.Request{Remove: &signalbox.Removal{Service: d.service, Identity: a.Identity, Evidence: []byte("silence")}})
		}
	}
}

// candidates are the enrolled instances of a data center that are connected; for a
// singleton one of them.
func (d *desk) candidates(dc signalbox.DataCenter) []signalbox.Identity {
	var out []signalbox.Identity
	for _, a := range d.s.agents {
		if _, known := d.book.Enrolled(a.Identity); a.Service != d.service || a.DataCenter != dc || !known {
			continue
		}
		for _, p := range d.s.gateways {
			if p.dc == dc && d.s.link(p.node, a.node).up {
				out = append(out, a.Identity)
				break
			}
		}
	}
	if d.s.singleton(d.service) && len(out) > 1 {
		one := d.s.rnd.IntN(len(out))
		out = out[one : one+1]
	}
	return out
}

// handover is a valid one, superseding when one is open; nil when nobody could
// come in.
func (d *desk) handover(to signalbox.DataCenter) *signalbox.Handover {
	st, incoming := d.state(), d.candidates(to)
	if len(incoming) == 0 {
		return nil
	}
	h := &signalbox.Handover{
		Service: d.service, Term: st.Last + 1, Fallback: st.Last + 2, From: st.Master(), To: to, Incoming: incoming,
		Singleton: d.s.singleton(d.service), Allowed: signalbox.AckOnly, HoldBudget: time.Duration(1+d.s.rnd.IntN(4)) * time.Second,
		Leases: d.s.plan.leases, FallbackLeases: st.Certificate.Leases(),
	}
	h.ID = fmt.Sprintf("%s-%s-%s-%d", d.service, to, d.name, h.Term)
	if n := len(st.Open); n > 0 {
		d.withoutFallback(h)
		h.AllowLateProxies, h.From = true, st.Open[n-1].Handover(d.service).To
	} else if h.Singleton {
		h.Previous, _ = st.Previous()
	}
	h.Roster = d.book.RosterOf(h)
	if d.s.off == RosterUnchecked {
		h.Roster = d.seen(h.Roster)
	}
	return h
}

func (d *desk) withoutFallback(h *signalbox.Handover) {
	h.Fallback, h.FallbackLeases, h.Previous = 0, signalbox.Leases{}, ""
}

// seen is of a roster who is connected.
func (d *desk) seen(roster []signalbox.RosterEntry) (out []signalbox.RosterEntry) {
	for _, e := range roster {
		if a := d.s.agentOf(e.Identity); a != nil && a.up {
			out = append(out, e)
		}
	}
	return out
}

func (d *desk) proposeReturn(e handover.ProposeReturn) {
	if len(d.state().Open) == 0 {
		return
	}
	if h := d.handover(e.Block.Handover(d.service).From); h != nil {
		d.propose(signalbox.Request{Handover: h})
	}
}

func other(dc signalbox.DataCenter) signalbox.DataCenter {
	if dc == west {
		return east
	}
	return west
}

// order starts a switchover: now, or when what is open has ended.
func (d *desk) order() {
	st := d.state()
	if !d.up || st == nil || st.Certificate == nil {
		return
	}
	if len(st.Open) > 0 {
		d.s.wanted[d.n]++
		return
	}
	if h := d.handover(other(st.Master())); h != nil {
		h.AllowLateProxies = d.s.chance(0.5)
		d.propose(signalbox.Request{Handover: h})
	}
}

// failover orders one: the way to the other side, or what may supersede an open
// block.
func (d *desk) failover() {
	st := d.state()
	if !d.up || st == nil || st.Certificate == nil {
		return
	}
	to, from := other(st.Master()), st.Master()
	if n := len(st.Open); n > 0 {
		open := st.Open[n-1].Handover(d.service)
		if to, from = open.To, open.From; d.s.chance(0.3) {
			to, from = from, to
		}
	}
	h := d.handover(to)
	if h == nil {
		return
	}
	d.withoutFallback(h)
	h.From, h.HoldBudget = from, time.Second
	h.Allowed |= signalbox.EvidenceKinds(signalbox.Attest)
	if d.s.chance(0.6) {
		h.Allowed |= signalbox.EvidenceKinds(signalbox.Fence)
	}
	if h.Leases.Used() {
		h.Allowed |= signalbox.EvidenceKinds(signalbox.Lapse)
		if d.s.chance(0.5) || d.s.off.dividing() || d.s.off == NewVotersForgetPromises {
			h.Allowed &^= signalbox.EvidenceKinds(signalbox.Fence)
		}
	}
	d.propose(signalbox.Request{Handover: h})
}
