package sim

import (
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

func (d *desk) step(e handover.Event) {
	events := []handover.Event{e}
	for len(events) > 0 && d.up {
		next := events[0]
		events = events[1:]
		effects := d.machine.Step(next, d.s.now)
		if len(effects) > 0 {
			d.idle = 0
		}
		for _, effect := range effects {
			events = append(events, d.do(effect)...)
		}
	}
}

func (d *desk) do(effect handover.Effect) []handover.Event {
	switch e := effect.(type) {
	case handover.Route:
		d.hold(e.Block)
	case handover.TellPrepared:
		d.broadcast(func(p *desk) { p.step(handover.Prepared{Gateway: d.name, Block: e.Block}) })
	case handover.TellHeld:
		d.tellHeld(e)
	case handover.TellGiveUp:
		d.broadcast(func(p *desk) { p.step(handover.GiveUp(e)) })
	case handover.Order:
		for _, id := range e.To {
			if a := d.s.agentOf(id); a != nil {
				d.s.send(d.node, a.node, func() {
					if a.up {
						a.ordered(e.Kind, e.Block)
					}
				})
			}
		}
	case handover.Collect:
		d.collect(e)
	case handover.Certify:
		c, err := rpc.BuildCertificate(d.book.trust, e.Block, d.service, e.Term, e.Evidence)
		if err != nil {
			d.s.fail("%s: evidence makes no certificate: %v", d.name, err)
			return nil
		}
		d.s.oracle.certified(d.s, c)
		return []handover.Event{handover.Certified{Certificate: c, Built: true}}
	case handover.Spread:
		if e.To&handover.ToPeers != 0 {
			d.broadcast(func(p *desk) { p.shown(e.Certificate) })
		}
		if e.To&handover.ToAgents != 0 {
			for _, a := range d.s.agents {
				d.hand(a)
			}
		}
	case handover.Release:
		d.s.genuine(d.gateway, e.Certificate)
		if e.Certificate.Term < d.released {
			d.s.fail("%s released %d after %d", d.name, e.Certificate.Term, d.released)
		}
		d.released = e.Certificate.Term
	case handover.ProposeOutcome:
		d.propose(outcome(e.Certificate))
	case handover.ProposeReturn:
		d.proposeReturn(e)
	}
	return nil
}

func outcome(c *signalbox.Certificate) signalbox.Request {
	o := &signalbox.Outcome{Service: c.Service, Block: c.Block.Digest, Certified: c.Term}
	for _, e := range c.Evidence {
		o.Evidence = append(o.Evidence, e.Envelope)
	}
	return signalbox.Request{Outcome: o}
}

func (d *desk) tellHeld(e handover.TellHeld) {
	told := func(p *desk) { p.step(e.Held) }
	for _, name := range e.Now {
		d.tell(d.s.gateway(name), told)
	}
	d.later(func() {
		for _, p := range d.s.gateways {
			if !slices.Contains(e.Now, p.name) {
				d.tell(p, told)
			}
		}
	})
}

// hold has the own proxy take the route, if it does.
func (d *desk) hold(block signalbox.Digest) {
	proxy, run := "proxy-"+d.name, d.run
	d.s.after(0, func() {
		if d.up && d.run == run {
			d.step(handover.Held{Gateway: d.name, Block: block, Proxies: []handover.ProxyHold{{ID: proxy}}})
		}
	})
	if d.late && d.s.faults {
		return
	}
	d.s.after(d.s.between(time.Millisecond, 8*time.Millisecond), func() {
		if d.up && d.run == run {
			d.step(handover.Held{Gateway: d.name, Block: block, Complete: true, Proxies: []handover.ProxyHold{{ID: proxy, Acknowledged: true}}})
		}
	})
}

// hand gives an agent of the own data center the certificate, and its admission.
func (d *desk) hand(a *agent) {
	c := d.machine.Certificate()
	if c == nil || a.zone != d.zone || a.Service != d.service {
		return
	}
	var admitted *signalbox.DecidedBlock
	if st := d.state(); st != nil && st.Term() == c.Term {
		admitted = st.Admissions[a.Identity]
	}
	d.s.send(d.node, a.node, func() {
		if a.up {
			a.granted(c, admitted)
		}
	})
}
