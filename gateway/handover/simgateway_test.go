package handover_test

import (
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// simGateway does what gateway/coordinator does around a machine. The log and
// the notes survive a crash.
type simGateway struct {
	s        *sim
	name     string
	dc       signalbox.DataCenter
	up       bool
	run      int
	book     *book
	notes    []signalbox.Evidence // in the order in which they came, so that a seed is one history
	machine  *handover.Machine
	fed      uint64
	released signalbox.Term
	leaves   map[signalbox.Identity]signalbox.Evidence
	late     bool // its proxy does not acknowledge
}

func (g *simGateway) start() {
	peers := map[string]signalbox.DataCenter{}
	for _, p := range g.s.gateways {
		if p != g {
			peers[p.name] = p.dc
		}
	}
	g.up, g.run, g.fed, g.released = true, g.run+1, 0, 0
	g.leaves = map[signalbox.Identity]signalbox.Evidence{}
	g.machine = handover.NewMachine(handover.Options{Service: orders, Gateway: g.name, DataCenter: g.dc, Peers: peers})
	g.applied()
	for _, e := range g.notes {
		g.step(handover.Said{Evidence: e})
	}
	for _, n := range g.s.neighbours(g.name) {
		g.s.connect(g.name, n)
	}
	g.tick(g.run)
}

func (g *simGateway) crash(down time.Duration) {
	g.up = false
	for _, n := range g.s.neighbours(g.name) {
		g.s.cut(g.name, n, down+time.Millisecond)
	}
	g.s.say("%s down for %v", g.name, down)
	g.s.after(down, func() {
		if !g.up {
			g.start()
		}
	})
}

// tick also follows the log of whoever has more of it.
func (g *simGateway) tick(run int) {
	if !g.up || g.run != run {
		return
	}
	g.step(handover.Tick{})
	for _, p := range g.s.gateways {
		if next := g.book.Index(); p != g && p.book.Index() > next {
			block := p.book.log[next]
			g.s.send(p.name, g.name, func() { g.follow(block) })
		}
	}
	g.remove()
	g.s.after(20*time.Millisecond, func() { g.tick(run) })
}

func (g *simGateway) follow(b *signalbox.DecidedBlock) {
	if g.up && b.Index == g.book.Index()+1 {
		if err := g.book.Apply(b); err != nil {
			g.s.fail("%s cannot apply block %d: %v", g.name, b.Index, err)
			return
		}
		g.book.log = append(g.book.log, b)
		g.applied()
	}
}

// applied feeds new blocks to the machine, in order.
func (g *simGateway) applied() {
	resumed := g.fed == 0
	for g.fed < g.book.Index() {
		b := g.book.log[g.fed]
		g.fed++
		r := &b.Requests[0]
		if c := g.book.Service(orders); c != nil && c.Certificate != nil {
			g.step(handover.Certified{Certificate: c.Certificate})
		}
		switch {
		case r.Handover != nil:
			g.step(handover.Decided{Block: b, Resumed: resumed})
		case r.Outcome != nil:
			g.step(handover.Logged{Block: r.Outcome.Block, Certified: r.Outcome.Certified})
		case r.Remove != nil:
			g.step(handover.Removed{Identity: r.Remove.Identity, Index: b.Index})
		case r.Admit != nil:
			g.grant(g.s.agent(r.Admit.Name))
		}
	}
	g.notes = g.machine.Statements()
}

func (g *simGateway) linkChanged(other string, up bool) {
	if a := g.s.agent(other); a != nil {
		g.agentChanged(a)
		for _, p := range g.s.gateways {
			if p != g && p.dc == g.dc && p.up {
				g.s.send(g.name, p.name, func() { p.agentChanged(a) })
			}
		}
		if up {
			g.grant(a)
		}
		return
	}
	if up {
		g.everything(g.s.gateway(other))
	}
	g.step(handover.PeerChanged{Gateway: other, Up: up})
}

// agentChanged: whether a gateway of the data center has a session with it.
func (g *simGateway) agentChanged(a *simAgent) {
	if !g.up {
		return
	}
	up := false
	for _, p := range g.s.gateways {
		up = up || p.up && g.s.link(p.name, a.name).up
	}
	g.step(handover.AgentChanged{Identity: a.Identity, Up: up})
}

func (g *simGateway) everything(p *simGateway) {
	cert, said, holds := g.machine.Certificate(), g.machine.Statements(), g.machine.OwnHolds()
	g.s.send(g.name, p.name, func() {
		if cert != nil {
			p.step(handover.Certified{Certificate: cert})
		}
		for _, e := range said {
			p.said(e)
		}
		for _, h := range holds {
			p.step(h)
		}
	})
	for _, a := range g.s.agents {
		if a.name[0] == g.name[0] && a.serving != 0 {
			term := a.serving
			g.s.send(g.name, p.name, func() { p.step(handover.Serves{Identity: a.Identity, Term: term}) })
		}
	}
}

// statement comes from an agent: passed on to the peers.
func (g *simGateway) statement(e signalbox.Evidence) {
	if g.machine.RelayNow(e) {
		g.broadcast(func(p *simGateway) { p.said(e) })
	} else {
		g.later(func() { g.broadcast(func(p *simGateway) { p.said(e) }) })
	}
	g.said(e)
}

// later does what nobody waits for, unless the gateway crashes before.
func (g *simGateway) later(f func()) {
	run := g.run
	g.s.after(60*time.Millisecond, func() {
		if g.up && g.run == run {
			f()
		}
	})
}

func (g *simGateway) said(e signalbox.Evidence) {
	switch e.Kind {
	case signalbox.SaysAck, signalbox.SaysRefuse, signalbox.SaysLeave, signalbox.SaysFence, signalbox.SaysAttest:
		if !slices.ContainsFunc(g.notes, func(old signalbox.Evidence) bool {
			return rpc.StatementKey(old.Statement) == rpc.StatementKey(e.Statement)
		}) {
			g.notes = append(g.notes, e)
		}
	}
	if e.Kind == signalbox.SaysLeave {
		g.leaves[e.Identity] = e
	}
	g.step(handover.Said{Evidence: e})
}

func (g *simGateway) broadcast(f func(p *simGateway)) {
	for _, p := range g.s.gateways {
		g.tell(p, f)
	}
}

func (g *simGateway) tell(p *simGateway, f func(p *simGateway)) {
	if p == g {
		return
	}
	g.s.send(g.name, p.name, func() {
		if p.up {
			f(p)
		}
	})
}

func (g *simGateway) step(e handover.Event) {
	events := []handover.Event{e}
	for len(events) > 0 && g.up {
		next := events[0]
		events = events[1:]
		for _, effect := range g.machine.Step(next, g.s.now) {
			events = append(events, g.do(effect)...)
		}
	}
}

func (g *simGateway) do(effect handover.Effect) []handover.Event {
	switch e := effect.(type) {
	case handover.Route:
		g.hold(e.Block)
	case handover.TellPrepared:
		g.broadcast(func(p *simGateway) { p.step(handover.Prepared{Gateway: g.name, Block: e.Block}) })
	case handover.TellHeld:
		told := func(p *simGateway) { p.step(e.Held) }
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
	case handover.TellGiveUp:
		g.broadcast(func(p *simGateway) { p.step(handover.GiveUp(e)) })
	case handover.Order:
		for _, a := range g.s.agents {
			for _, id := range e.To {
				if a.Identity == id {
					g.s.send(g.name, a.name, func() {
						if a.up {
							a.ordered(e.Kind, e.Block)
						}
					})
				}
			}
		}
	case handover.Collect:
		g.collect(e)
	case handover.Certify:
		c, err := rpc.BuildCertificate(trust, e.Block, orders, e.Term, e.Evidence)
		if err != nil {
			g.s.fail("%s: evidence makes no certificate: %v", g.name, err)
			return nil
		}
		return []handover.Event{handover.Certified{Certificate: c, Built: true}}
	case handover.Spread:
		if e.To&handover.ToPeers != 0 {
			g.broadcast(func(p *simGateway) { p.step(handover.Certified{Certificate: e.Certificate}) })
		}
		if e.To&handover.ToAgents != 0 {
			for _, a := range g.s.agents {
				g.grant(a)
			}
		}
	case handover.Release:
		g.release(e.Certificate)
	case handover.ProposeOutcome:
		g.propose(outcome(e.Certificate.Block, e.Certificate.Term, e.Certificate.Evidence...))
	case handover.ProposeReturn:
		g.proposeReturn(e)
	}
	return nil
}

// hold has the own proxy take the route, if it does.
func (g *simGateway) hold(block signalbox.Digest) {
	proxy := "proxy-" + g.name
	g.s.after(0, func() {
		g.step(handover.Held{Gateway: g.name, Block: block, Proxies: []handover.ProxyHold{{ID: proxy}}})
	})
	if g.late && g.s.faults {
		return
	}
	run := g.run
	g.s.after(g.s.between(time.Millisecond, 8*time.Millisecond), func() {
		if g.up && g.run == run {
			g.step(handover.Held{Gateway: g.name, Block: block, Complete: true, Proxies: []handover.ProxyHold{{ID: proxy, Acknowledged: true}}})
		}
	})
}

func (g *simGateway) release(c *signalbox.Certificate) {
	if _, err := rpc.OpenCertificate(trust, c.Raw); err != nil || c.Term < g.released {
		g.s.fail("%s released %d after %d: %v", g.name, c.Term, g.released, err)
	}
	g.released = c.Term
}

func (g *simGateway) grant(a *simAgent) {
	c := g.machine.Certificate()
	if c == nil || a.name[0] != g.name[0] {
		return
	}
	var admitted *signalbox.DecidedBlock
	if st := g.book.Service(orders); st != nil && st.Term() == c.Term {
		admitted = st.Admissions[a.Identity]
	}
	g.s.send(g.name, a.name, func() {
		if a.up {
			a.granted(c, admitted)
		}
	})
}
