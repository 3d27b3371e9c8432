package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// shapes are how many voters there may be, how many of them may be away, and how many
// of those may lie.
var shapes = [][3]int{{1, 0, 0}, {3, 1, 0}, {4, 1, 1}, {5, 2, 0}, {6, 2, 1}}

// newest is a gateway with as much of the log as anybody has.
func (s *Sim) newest() *gateway {
	newest := s.gateways[0]
	for _, g := range s.gateways {
		if g.book.Index() > newest.book.Index() {
			newest = g
		}
	}
	return newest
}

// reform is the operator who has other voters decided, in the midst of everything
// else: now and then two sets for one epoch, or the same one again, late.
func (s *Sim) reform() {
	if !s.faults || len(s.signed) > 3*s.plan.changes {
		return
	}
	s.after(s.between(100*time.Millisecond, 2500*time.Millisecond), s.reform)
	if s.now.Before(s.calm) {
		return
	}
	if int(s.newest().book.Voters().Epoch-s.first.Epoch) >= s.plan.changes {
		return
	}
	for range 1 + s.rnd.IntN(5)/4 {
		g := s.anyGateway()
		if !g.up || g.voter.liar != nil {
			continue
		}
		if c := g.otherVoters(); c != nil && g.reforms(c) && s.chance(0.3) {
			s.after(s.between(0, 5*time.Second), func() { g.again(c) })
		}
	}
}

// reforms signs a change as the operator does and has it proposed, when the gateway's
// own log takes it.
func (g *gateway) reforms(c *signalbox.VoterChange) bool {
	if err := rpc.SignVoters(cluster, c, operatorKey); err != nil {
		g.s.fail("%s: a change of voters cannot be signed: %v", g.name, err)
		return false
	}
	if g.book.Check(&signalbox.Request{Voters: c}) != nil {
		return false
	}
	g.s.signed = append(g.s.signed, c)
	g.s.Stats["changes of voters proposed"]++
	g.s.say("%s proposes voters of epoch %d: %v", g.name, c.Epoch, c.Names())
	g.propose(signalbox.Request{Voters: c})
	return true
}

// again brings what was signed once more.
func (g *gateway) again(c *signalbox.VoterChange) {
	if g.up {
		g.propose(signalbox.Request{Voters: c})
	}
}

// change is the next epoch's, of somebody.
func (g *gateway) change() *signalbox.VoterChange {
	now := g.book.Voters()
	c := &signalbox.VoterChange{By: "ada", Reason: "moved"}
	c.Epoch, c.Scheme, c.Unavailable, c.Lying = now.Epoch+1, now.Scheme, now.Unavailable, now.Lying
	return c
}

// otherVoters draws the next set: of voters that stay, with their key or another one,
// and of gateways that are there and caught up. nil: there is none.
func (g *gateway) otherVoters() *signalbox.VoterChange {
	s, now, c := g.s, g.book.Voters(), g.change()
	n := len(now.Voters)
	if s.chance(0.4) {
		shape := shapes[s.rnd.IntN(len(shapes))]
		if shape[0] == 1 && s.chance(0.7) {
			shape = shapes[1]
		}
		n, c.Unavailable, c.Lying = shape[0], shape[1], shape[2]
	}
	stays := 0.6
	if s.off.dividing() || s.off == NewVotersForgetPromises {
		stays = 0.15
	}
	var order []*gateway
	for _, i := range s.rnd.Perm(len(s.gateways)) {
		p := s.gateways[i]
		if _, votes := now.Voter(p.name); votes && s.chance(stays) {
			order = slices.Insert(order, 0, p)
		} else {
			order = append(order, p)
		}
	}
	liars, in := 0, map[signalbox.DataCenter]int{}
	for _, p := range order {
		if len(c.Voters) == n || p.voter.liar != nil && liars == c.Lying || s.plan.leases.Used() && in[p.dc] == c.Unavailable {
			continue // with leases a quorum has to be left without any data center
		}
		v, ok := g.voterFor(&now, p)
		if !ok {
			continue
		}
		if c.Voters = append(c.Voters, v); p.voter.liar != nil {
			liars++
		}
		in[p.dc]++
	}
	if len(c.Voters) < n {
		return nil
	}
	return c
}

// voterFor is a gateway as a voter of the next set.
func (g *gateway) voterFor(now *signalbox.VoterSet, p *gateway) (v signalbox.Voter, ok bool) {
	v, votes := now.Voter(p.name)
	if votes && g.s.chance(0.8) {
		return v, true
	}
	if !g.reaches(p) {
		return v, false
	}
	return p.candidate()
}

// reaches reports whether a gateway can be seen from here, and is not far behind.
func (g *gateway) reaches(p *gateway) bool {
	return p.up && (p == g || g.s.link(g.node, p.node).up) && p.book.Index()+8 >= g.book.Index()
}

// repair has voters replaced, under new keys, that lost theirs with their disks, and
// now and then one that is on its way back.
func (s *Sim) repair() {
	if s.plan.changes == 0 || s.chance(0.6) {
		return
	}
	var g *gateway
	for _, p := range s.gateways {
		if p.up && p.voter.liar == nil && (g == nil || p.book.Index() > g.book.Index()) {
			g = p
		}
	}
	if g == nil {
		return
	}
	seat, c := g.voter.seat, g.change()
	lost := 0
	for i, v := range seat.set.Voters {
		p := seat.who[i]
		_, has := p.voter.key(v.PublicKey)
		if gone := p.voter.lost && (!has && !p.voter.disk.restored || s.rough(0.02)); gone && g.reaches(p) {
			next, ok := p.candidate()
			if !ok {
				return
			}
			lost, v = lost+1, next
		}
		c.Voters = append(c.Voters, v)
	}
	if lost > 0 && g.reforms(c) {
		s.Stats["changes proposed for a lost key"]++
	}
}

// mayLose reports whether a gateway's disk may be lost: no other voter's is, and
// nobody who votes with it lies. A set's only voter must not lose it: its journal is a
// backup's then, and people are asked.
func (s *Sim) mayLose(g *gateway) bool {
	sets := []signalbox.VoterSet{s.newest().book.Voters(), g.book.Voters()}
	for _, c := range s.signed {
		if c.Epoch > sets[0].Epoch {
			sets = append(sets, c.VoterSet)
		}
	}
	in := func(p *gateway) bool {
		return slices.ContainsFunc(sets, func(set signalbox.VoterSet) bool { _, ok := set.Voter(p.name); return ok })
	}
	if !in(g) {
		return true
	}
	for _, p := range s.gateways {
		if in(p) && (p.voter.liar != nil || p != g && p.voter.lost) {
			return false
		}
	}
	return !slices.ContainsFunc(sets, func(set signalbox.VoterSet) bool { return len(set.Voters) == 1 })
}

// provokeChange does what shows a switch about the change that g has just seen
// decided: it is with the new voters, and nobody else hears of it, while the master's
// side is taken for dead.
func (s *Sim) provokeChange(g *gateway, c *signalbox.VoterChange) {
	if !s.off.dividing() || !s.faults || s.chance(0.2) {
		return
	}
	for _, d := range g.desks {
		st := d.state()
		if st == nil || st.Master() == "" || st.Master() == g.dc {
			continue
		}
		with := func(n *node) bool {
			if n.gw == nil {
				return n.zone != st.Master()[0]
			}
			_, next := c.Voter(n.name)
			return n.gw == g || g.voter.seat.of(n.gw) < 0 && n.gw.dc != st.Master() && (next || n.gw.dc == other(st.Master()))
		}
		old, next := 0, 0
		for _, p := range s.gateways {
			if with(p.node) {
				if _, votes := c.Voter(p.name); votes {
					next++
				}
			} else if g.voter.seat.of(p) >= 0 {
				old++
			}
		}
		if old < g.voter.seat.quorum() || next < c.Quorum() {
			continue
		}
		for _, a := range s.nodes {
			for _, b := range s.neighbours(a) {
				if b.id < a.id && with(a) != with(b) {
					s.cut(a, b, 5*time.Second)
				}
			}
		}
		s.calm = s.now.Add(2500 * time.Millisecond)
		s.after(s.between(50*time.Millisecond, 400*time.Millisecond), func() {
			if s.off == AnswersOfAnyEpoch {
				for _, a := range s.agents {
					if a.DataCenter == st.Master() {
						a.crash(s.between(time.Second, 2*time.Second))
					}
				}
			}
			d.failover()
		})
	}
}

// provokeLapse does what shows NewVotersForgetPromises: of a block that needs several
// lapses one is signed, then the voters change, and the others are the new ones' to
// sign. It reports whether this one is not to be taken.
func (d *desk) provokeLapse(c *collection) bool {
	if d.s.off != NewVotersForgetPromises || !d.s.faults {
		return false
	}
	t, err := rpc.DecodeTestimony(signalbox.SaysLapse, c.payload)
	if err != nil {
		return false
	}
	this := fmt.Sprint(t.Identity, t.Witness.Epoch)
	first, known := d.s.lapsed[t.Block]
	if known {
		return this != first && strings.HasSuffix(first, fmt.Sprint(t.Witness.Epoch))
	}
	d.s.lapsed[t.Block] = this
	d.s.calm = d.s.now.Add(2500 * time.Millisecond)
	for range 5 {
		if next := d.otherVoters(); next != nil && d.reforms(next) {
			break
		}
	}
	return false
}
