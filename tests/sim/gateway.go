package sim

import (
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

// gateway does what gateway/coordinator does around a machine. The log, the notes
// and the voter's disk survive a crash.
type gateway struct {
	*node
	s        *Sim
	dc       signalbox.DataCenter
	voter    *voter // nil: it follows
	up       bool
	run      int
	book     *book
	notes    []signalbox.Evidence // in the order in which they came, so that a seed is one history
	unsynced []func()
	machine  *handover.Machine
	fed      uint64
	released signalbox.Term
	leaves   map[signalbox.Identity]signalbox.Evidence
	lapses   map[string]*collection
	asked    map[lease.Of]time.Time
	late     bool // its proxy does not acknowledge
	idle     time.Duration
}

// book is a ledger with its log.
type book struct {
	*handover.Ledger
	log []*signalbox.DecidedBlock
	ids map[string]bool
}

func (s *Sim) newBook() *book {
	return &book{Ledger: handover.NewLedger(s.trust(), enrolled), ids: map[string]bool{}}
}

func (g *gateway) start() {
	peers := map[string]signalbox.DataCenter{}
	for _, p := range g.s.gateways {
		if p != g {
			peers[p.name] = p.dc
		}
	}
	g.up, g.run, g.fed, g.released = true, g.run+1, 0, 0
	g.leaves, g.lapses, g.asked = map[signalbox.Identity]signalbox.Evidence{}, map[string]*collection{}, nil
	g.machine = handover.NewMachine(handover.Options{Service: orders, Gateway: g.name, DataCenter: g.dc, Peers: peers})
	g.applied()
	for _, e := range g.notes {
		g.step(handover.Said{Evidence: e})
	}
	if g.voter != nil {
		g.startVoter()
	}
	for _, n := range g.s.neighbours(g.node) {
		g.s.connect(g.node, n)
	}
	g.tick(g.run)
}

func (g *gateway) crash(down time.Duration) {
	if !g.up {
		return
	}
	g.up = false
	g.s.Stats["crashes of gateways"]++
	if n := len(g.unsynced); n > 0 {
		for i := n - 1; i >= max(0, n-g.s.rnd.IntN(5)); i-- {
			g.unsynced[i]()
		}
	}
	g.unsynced = nil
	if g.voter != nil {
		g.voter.replica, g.voter.grantor = nil, nil
		if g.s.off == VotesForgotten || g.s.off == LostDiskVotes {
			g.voter.disk.votes = nil
		}
	}
	for _, n := range g.s.neighbours(g.node) {
		g.s.cut(g.node, n, down+time.Millisecond)
	}
	g.s.say("%s down for %v", g.name, down)
	g.s.after(down, func() {
		if !g.up {
			g.start()
		}
	})
}

// tick also follows the log of whoever has more of it.
func (g *gateway) tick(run int) {
	if !g.up || g.run != run {
		return
	}
	g.step(handover.Tick{})
	next := g.book.Index()
	for _, p := range g.s.gateways {
		if p != g && p.book.Index() > next {
			upTo := min(p.book.Index(), next+16)
			blocks := p.book.log[next:upTo]
			g.s.send(p.node, g.node, func() { g.follow(blocks) })
		}
	}
	if v := g.voter; v != nil {
		if v.replica != nil {
			g.carry(v.replica.Tick(g.s.now))
			g.keepUp()
		} else {
			g.comeBack()
		}
		if v.liar != nil && g.up {
			v.liar.lie(g)
		}
	}
	g.remove()
	g.s.after(g.untilTick(), func() { g.tick(run) })
}

// untilTick is short when something has just happened, and grows while nothing
// does: a tick that does nothing is no part of a history.
func (g *gateway) untilTick() time.Duration {
	g.idle = min(2*g.idle+20*time.Millisecond, 150*time.Millisecond)
	wait := g.idle
	if v := g.voter; v != nil && v.replica != nil {
		if at := v.replica.Deadline(); !at.IsZero() {
			wait = min(wait, max(at.Sub(g.s.now), time.Millisecond))
		}
		if v.liar != nil {
			wait = min(wait, 40*time.Millisecond)
		}
	}
	return wait
}

func (g *gateway) follow(blocks []*signalbox.DecidedBlock) {
	for _, b := range blocks {
		if g.up && b.Index == g.book.Index()+1 {
			opened, err := rpc.OpenBlock(g.s.trust(), b.Raw)
			if err != nil {
				g.s.fail("%s cannot open block %d: %v", g.name, b.Index, err)
				return
			}
			g.append(opened)
		}
	}
	if g.up && g.voter != nil {
		g.keepUp()
	}
}

// append takes a decided block into the log, durable before anybody sees it.
func (g *gateway) append(b *signalbox.DecidedBlock) {
	if b.Index != g.book.Index()+1 {
		return
	}
	if err := g.book.Accepts(b); err != nil {
		g.s.oracle.fork(g, b)
		g.s.fail("%s cannot apply block %d: %v", g.name, b.Index, err)
		return
	}
	kept := g.write(true, func() {
		if err := g.book.Apply(b); err != nil {
			g.s.fail("%s cannot apply block %d: %v", g.name, b.Index, err)
			return
		}
		g.book.log = append(g.book.log, b)
		for i := range b.Requests {
			if h := b.Requests[i].Handover; h != nil {
				g.book.ids[h.ID] = true
			}
		}
		g.s.oracle.block(g, b)
	}, nil)
	if kept {
		g.applied()
	}
}

// applied feeds new blocks to the machine, in order.
func (g *gateway) applied() {
	resumed := g.fed == 0
	for g.fed < g.book.Index() && g.up {
		b := g.book.log[g.fed]
		g.fed++
		if c := g.book.Service(orders); c != nil && c.Certificate != nil {
			g.step(handover.Certified{Certificate: c.Certificate})
		}
		for i := range b.Requests {
			g.told(b, &b.Requests[i], resumed)
		}
	}
	g.notes = g.machine.Statements()
}

func (g *gateway) told(b *signalbox.DecidedBlock, r *signalbox.Request, resumed bool) {
	switch {
	case r.Handover != nil:
		g.step(handover.Decided{Block: b, Resumed: resumed})
	case r.Outcome != nil:
		g.step(handover.Logged{Block: r.Outcome.Block, Certified: r.Outcome.Certified})
	case r.Remove != nil && !r.Remove.Announces():
		g.step(handover.Removed{Identity: r.Remove.Identity, Index: b.Index})
	case r.Admit != nil:
		if a := g.s.agentOf(r.Admit.Identity); a != nil {
			g.hand(a)
		}
	}
}

func (g *gateway) linkChanged(other *node, up bool) {
	if a := other.ag; a != nil {
		g.agentChanged(a)
		for _, p := range g.s.gateways {
			if p != g && p.dc == g.dc && p.up {
				g.s.send(g.node, p.node, func() { p.agentChanged(a) })
			}
		}
		if up {
			g.hand(a)
		}
		return
	}
	if up {
		g.everything(other.gw)
	}
	g.step(handover.PeerChanged{Gateway: other.name, Up: up})
}

// agentChanged: whether a gateway of the data center has a session with it.
func (g *gateway) agentChanged(a *agent) {
	if !g.up {
		return
	}
	up := false
	for _, p := range g.s.gateways {
		up = up || p.up && p.dc == g.dc && g.s.link(p.node, a.node).up
	}
	g.step(handover.AgentChanged{Identity: a.Identity, Up: up})
}

func (g *gateway) everything(p *gateway) {
	cert, said, holds := g.machine.Certificate(), g.machine.Statements(), g.machine.OwnHolds()
	g.s.send(g.node, p.node, func() {
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
		if a.zone == g.zone && a.open() {
			serves := handover.Serves{Identity: a.Identity, Term: a.serving}
			g.s.send(g.node, p.node, func() { p.step(serves) })
		}
	}
}

// statement comes from an agent: passed on to the peers.
func (g *gateway) statement(e signalbox.Evidence) {
	if !g.up {
		return
	}
	pass := func() { g.broadcast(func(p *gateway) { p.said(e) }) }
	if g.machine.RelayNow(e) {
		pass()
	} else {
		g.later(pass)
	}
	g.said(e)
}

// later does what nobody waits for, unless the gateway crashes before.
func (g *gateway) later(f func()) {
	run := g.run
	g.s.after(60*time.Millisecond, func() {
		if g.up && g.run == run {
			f()
		}
	})
}

func (g *gateway) said(e signalbox.Evidence) {
	switch e.Kind {
	case signalbox.SaysAck, signalbox.SaysRefuse, signalbox.SaysLeave, signalbox.SaysLapse, signalbox.SaysFence, signalbox.SaysAttest:
		key := rpc.StatementKey(e.Statement)
		if !slices.ContainsFunc(g.notes, func(old signalbox.Evidence) bool { return rpc.StatementKey(old.Statement) == key }) {
			g.notes = append(g.notes, e)
		}
	}
	if e.Kind == signalbox.SaysLeave {
		g.leaves[e.Identity] = e
	}
	g.step(handover.Said{Evidence: e})
}

func (g *gateway) broadcast(f func(p *gateway)) {
	for _, p := range g.s.gateways {
		g.tell(p, f)
	}
}

func (g *gateway) tell(p *gateway, f func(p *gateway)) {
	if p == g {
		return
	}
	g.s.send(g.node, p.node, func() {
		if p.up {
			f(p)
		}
	})
}
