package sim

import (
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

func (g *gateway) step(e handover.Event) {
	events := []handover.Event{e}
	for len(events) > 0 && g.up {
		next := events[0]
		events = events[1:]
		effects := g.machine.Step(next, g.s.now)
		if len(effects) > 0 {
			g.idle = 0
		}
		for _, effect := range effects {
			events = append(events, g.do(effect)...)
		}
	}
}

func (g *gateway) do(effect handover.Effect) []handover.Event {
	switch e := effect.(type) {
	case handover.Route:
		g.hold(e.Block)
	case handover.TellPrepared:
		g.broadcast(func(p *gateway) { p.step(handover.Prepared{Gateway: g.name, Block: e.Block}) })
	case handover.TellHeld:
		g.tellHeld(e)
	case handover.TellGiveUp:
		g.broadcast(func(p *gateway) { p.step(handover.GiveUp(e)) })
	case handover.Order:
		for _, id := range e.To {
			if a := g.s.agentOf(id); a != nil {
				g.s.send(g.node, a.node, func() {
					if a.up {
						a.ordered(e.Kind, e.Block)
					}
				})
			}
		}
	case handover.Collect:
		g.collect(e)
	case handover.Certify:
		c, err := rpc.BuildCertificate(g.s.trust(), e.Block, orders, e.Term, e.Evidence)
		if err != nil {
			g.s.fail("%s: evidence makes no certificate: %v", g.name, err)
			return nil
		}
		g.s.oracle.certified(g.s, c)
		return []handover.Event{handover.Certified{Certificate: c, Built: true}}
	case handover.Spread:
		if e.To&handover.ToPeers != 0 {
			g.broadcast(func(p *gateway) { p.step(handover.Certified{Certificate: e.Certificate}) })
		}
		if e.To&handover.ToAgents != 0 {
			for _, a := range g.s.agents {
				g.hand(a)
			}
		}
	case handover.Release:
		if e.Certificate.Term < g.released {
			g.s.fail("%s released %d after %d", g.name, e.Certificate.Term, g.released)
		}
		g.released = e.Certificate.Term
	case handover.ProposeOutcome:
		g.propose(outcome(e.Certificate))
	case handover.ProposeReturn:
		g.proposeReturn(e)
	}
	return nil
}

func outcome(c *signalbox.Certificate) signalbox.Request {
	o := &signalbox.Outcome{Service: orders, Block: c.Block.Digest, Certified: c.Term}
	for _, e := range c.Evidence {
		o.Evidence = append(o.Evidence, e.Envelope)
	}
	return signalbox.Request{Outcome: o}
}

func (g *gateway) tellHeld(e handover.TellHeld) {
	told := func(p *gateway) { p.step(e.Held) }
	for _, name := range e.Now {
		g.tell(g.s.gateway(name), told)
	}
	g.later(func() {
		for _, p := range g.s.gateways {
			if !slices.Contains(e.Now, p.name) {
				g.tell(p, told)
			}
		}
	})
}

// hold has the own proxy take the route, if it does.
func (g *gateway) hold(block signalbox.Digest) {
	proxy, run := "proxy-"+g.name, g.run
	g.s.after(0, func() {
		if g.up && g.run == run {
			g.step(handover.Held{Gateway: g.name, Block: block, Proxies: []handover.ProxyHold{{ID: proxy}}})
		}
	})
	if g.late && g.s.faults {
		return
	}
	g.s.after(g.s.between(time.Millisecond, 8*time.Millisecond), func() {
		if g.up && g.run == run {
			g.step(handover.Held{Gateway: g.name, Block: block, Complete: true, Proxies: []handover.ProxyHold{{ID: proxy, Acknowledged: true}}})
		}
	})
}

// hand gives an agent of the own data center the certificate, and its admission.
func (g *gateway) hand(a *agent) {
	c := g.machine.Certificate()
	if c == nil || a.zone != g.zone {
		return
	}
	var admitted *signalbox.DecidedBlock
	if st := g.book.Service(orders); st != nil && st.Term() == c.Term {
		admitted = st.Admissions[a.Identity]
	}
	g.s.send(g.node, a.node, func() {
		if a.up {
			a.granted(c, admitted)
		}
	})
}
