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
	voter    *voter // whenever the log says that it is one
	up       bool
	run      int
	book     *book
	desks    []*desk // one for each service
	unsynced []func()
	fed      uint64
	asked    map[lease.Of]time.Time
	proposed time.Time // when a snapshot may be proposed again
	late     bool      // its proxy does not acknowledge
	idle     time.Duration
}

// desk is a gateway's part in one service. The notes survive a crash.
type desk struct {
	*gateway
	service  signalbox.Service
	n        int                  // among the gateway's desks
	notes    []signalbox.Evidence // in the order in which they came, so that a seed is one history
	machine  *handover.Machine
	released signalbox.Term
	leaves   map[signalbox.Identity]signalbox.Evidence
	lapses   map[string]*collection
}

// desk is the one of an instance's service.
func (g *gateway) desk(s signalbox.Service) *desk {
	for _, d := range g.desks {
		if d.service == s {
			return d
		}
	}
	return nil
}

// state is what the log says of the service, nil when it says nothing.
func (d *desk) state() *handover.ServiceState { return d.book.Service(d.service) }

// at is the same desk of another gateway.
func (d *desk) at(p *gateway) *desk { return p.desks[d.n] }

// book is a ledger with its log.
type book struct {
	*handover.Ledger
	trust rpc.Trust                 // with the voters of all epochs that the gateway knows
	log   []*signalbox.DecidedBlock // nil where a snapshot stands for it
	shown map[string]bool           // certificates of others that were verified
	base  compacted
}

func (b *book) take(d *signalbox.DecidedBlock) error {
	if err := b.Apply(d); err != nil {
		return err
	}
	b.log = append(b.log, d)
	return nil
}

func (s *Sim) newBook(trust rpc.Trust) *book {
	l := handover.NewLedger(trust, enrolled)
	l.SetSnapshotBlocks(s.plan.snapshots)
	return &book{Ledger: l, trust: trust, shown: map[string]bool{}}
}

func (g *gateway) start() {
	peers := map[string]signalbox.DataCenter{}
	for _, p := range g.s.gateways {
		if p != g {
			peers[p.name] = p.dc
		}
	}
	g.up, g.run, g.fed, g.asked = true, g.run+1, 0, nil
	g.reload()
	g.unseat()
	for _, d := range g.desks {
		d.released, d.leaves, d.lapses = 0, map[signalbox.Identity]signalbox.Evidence{}, map[string]*collection{}
		d.machine = handover.NewMachine(handover.Options{Service: d.service, Gateway: g.name, DataCenter: g.dc, Peers: peers})
	}
	g.applied()
	for _, d := range g.desks {
		for _, e := range d.notes {
			if d.believes(e) {
				d.step(handover.Said{Evidence: e})
			}
		}
	}
	g.takeSeat()
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
		for i := n - 1; i >= max(0, n-g.s.rnd.IntN(10)); i-- {
			g.unsynced[i]()
		}
	}
	g.unsynced = nil
	g.voter.replica, g.voter.grantor = nil, nil
	if g.s.off == VotesForgotten || g.s.off == LostDiskVotes {
		g.voter.disk.votes = nil
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
	for _, d := range g.desks {
		d.step(handover.Tick{})
	}
	next := g.book.Index()
	for _, p := range g.s.gateways {
		if p != g && p.book.Index() > next {
			upTo := min(p.book.Index(), next+16)
			if base := p.book.base; next < base.index {
				g.s.send(p.node, g.node, func() { g.install(base) })
				continue
			}
			blocks := slices.Clone(p.book.log[next:upTo])
			g.s.send(p.node, g.node, func() { g.follow(blocks) })
		}
	}
	v := g.voter
	if v.replica != nil {
		g.carry(v.replica.Tick(g.s.now))
		g.keepUp()
	} else {
		g.comeBack()
	}
	if v.liar != nil && g.up {
		v.liar.lie(g)
	}
	for _, d := range g.desks {
		d.remove()
	}
	if g.up {
		g.snapshots()
	}
	g.s.after(g.untilTick(), func() { g.tick(run) })
}

// untilTick is short when something has just happened, and grows while nothing
// does: a tick that does nothing is no part of a history.
func (g *gateway) untilTick() time.Duration {
	g.idle = min(2*g.idle+20*time.Millisecond, 150*time.Millisecond)
	wait := g.idle
	if v := g.voter; v.replica != nil {
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
			opened := g.s.open(g, b)
			if opened == nil {
				return
			}
			g.append(opened)
		}
	}
	g.keepUp()
}

// append takes a decided block into the log, durable before anybody sees it.
func (g *gateway) append(b *signalbox.DecidedBlock) {
	if b.Index != g.book.Index()+1 {
		return
	}
	if err := g.book.Accepts(b); err != nil {
		g.s.oracle.foreign(g, b)
		g.s.oracle.fork(g, b)
		g.s.fail("%s cannot apply block %d: %v", g.name, b.Index, err)
		return
	}
	kept := g.write(true, func() {
		if err := g.book.take(b); err != nil {
			g.s.fail("%s cannot apply block %d: %v", g.name, b.Index, err)
			return
		}
		g.s.oracle.block(g, b)
	}, nil)
	if kept {
		g.reseat()
		g.applied()
	}
}

// applied feeds new blocks to the machines, in order.
func (g *gateway) applied() {
	resumed := g.fed == 0
	for g.fed < g.book.Index() && g.up {
		if g.fed < g.book.base.index {
			g.skip(g.book.base.index)
			continue
		}
		b := g.book.log[g.fed]
		g.fed++
		for _, d := range g.desks {
			if st := d.state(); st != nil && st.Certificate != nil {
				d.step(handover.Certified{Certificate: st.Certificate})
			}
		}
		for i := range b.Requests {
			if d := g.desk(b.Requests[i].Service()); d != nil {
				d.told(b, &b.Requests[i], resumed)
			}
		}
	}
	if resumed {
		return // its notes are not in yet
	}
	for _, d := range g.desks {
		d.notes = d.machine.Statements()
	}
}

func (d *desk) told(b *signalbox.DecidedBlock, r *signalbox.Request, resumed bool) {
	switch {
	case r.Handover != nil:
		d.step(handover.Decided{Block: b, Resumed: resumed})
	case r.Outcome != nil:
		d.step(handover.Logged{Block: r.Outcome.Block, Certified: r.Outcome.Certified})
	case r.Remove != nil && !r.Remove.Announces():
		d.step(handover.Removed{Identity: r.Remove.Identity, Index: b.Index})
	case r.Admit != nil:
		if a := d.s.agentOf(r.Admit.Identity); a != nil {
			d.hand(a)
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
			g.tellVoters(a) // before anything that they signed
			g.desk(a.Service).hand(a)
		}
		return
	}
	for _, d := range g.desks {
		if up {
			d.everything(other.gw)
		}
		d.step(handover.PeerChanged{Gateway: other.name, Up: up})
	}
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
	g.desk(a.Service).step(handover.AgentChanged{Identity: a.Identity, Up: up})
}

func (d *desk) everything(p *gateway) {
	to := d.at(p)
	cert, said, holds := d.machine.Certificate(), d.machine.Statements(), d.machine.OwnHolds()
	d.s.send(d.node, p.node, func() {
		if cert != nil {
			to.shown(cert)
		}
		for _, e := range said {
			to.said(e)
		}
		for _, h := range holds {
			to.step(h)
		}
	})
	for _, a := range d.s.agents {
		if a.zone == d.zone && a.Service == d.service && a.open() {
			serves := handover.Serves{Identity: a.Identity, Term: a.serving}
			d.s.send(d.node, p.node, func() { to.step(serves) })
		}
	}
}

// statement comes from an agent: passed on to the peers.
func (d *desk) statement(e signalbox.Evidence) {
	if !d.up {
		return
	}
	pass := func() { d.broadcast(func(p *desk) { p.said(e) }) }
	if d.machine.RelayNow(e) {
		pass()
	} else {
		d.later(pass)
	}
	d.said(e)
}

// later does what nobody waits for, unless the gateway crashes before.
func (d *desk) later(f func()) {
	run := d.run
	d.s.after(60*time.Millisecond, func() {
		if d.up && d.run == run {
			f()
		}
	})
}

// believes verifies others' evidence with the voters that the gateway knows, who may
// be older than those that signed it: it comes again.
func (d *desk) believes(e signalbox.Evidence) bool {
	if d.s.plan.changes == 0 || !e.Kind.ByOthers() {
		return true
	}
	if _, err := rpc.OpenEvidence(d.book.trust, e.Envelope, nil); err != nil {
		d.s.Stats["evidence by voters who are not known yet"]++
		return false
	}
	return true
}

// shown takes a certificate of another gateway, which brings the voters who signed it.
func (d *desk) shown(c *signalbox.Certificate) {
	if d.s.plan.changes > 0 && d.up && !d.book.shown[string(c.Raw)] {
		d.book.shown[string(c.Raw)] = true
		if _, err := rpc.OpenCertificate(d.book.trust, c.Raw); err != nil {
			d.s.fail("%s does not believe the certificate of term %d: %v", d.name, c.Term, err)
			return
		}
	}
	d.step(handover.Certified{Certificate: c})
}

func (d *desk) said(e signalbox.Evidence) {
	if !d.believes(e) {
		return
	}
	switch e.Kind {
	case signalbox.SaysAck, signalbox.SaysRefuse, signalbox.SaysLeave, signalbox.SaysLapse, signalbox.SaysFence, signalbox.SaysAttest:
		key := rpc.StatementKey(e.Statement)
		if !slices.ContainsFunc(d.notes, func(old signalbox.Evidence) bool { return rpc.StatementKey(old.Statement) == key }) {
			d.notes = append(d.notes, e)
		}
	}
	if e.Kind == signalbox.SaysLeave {
		d.leaves[e.Identity] = e
	}
	d.step(handover.Said{Evidence: e})
}

func (d *desk) broadcast(f func(p *desk)) {
	for _, p := range d.s.gateways {
		d.tell(p, f)
	}
}

func (d *desk) tell(p *gateway, f func(p *desk)) {
	if p == d.gateway {
		return
	}
	d.s.send(d.node, p.node, func() {
		if p.up {
			f(d.at(p))
		}
	})
}
