package sim

import (
	"slices"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// seat is a voter set, and a gateway's place in it.
type seat struct {
	set    signalbox.VoterSet
	scheme fake
	who    []*gateway // in the set's order
	named  bool       // the set names the gateway
	self   int        // its place; -1: it does not vote, as it is not named or its key is lost
}

// epoch numbers the set.
func (t *seat) epoch() uint64 { return t.set.Epoch }

// of is a gateway's place in the set, -1 for none.
func (t *seat) of(g *gateway) int { return slices.Index(t.who, g) }

// key is as which voter the gateway speaks.
func (t *seat) key() vote {
	if t.self < 0 {
		return vote{}
	}
	return vote{t.scheme.tags[t.self], t.epoch()}
}

// quorum is that of the set, whatever is switched off.
func (t *seat) quorum() int { return t.set.Quorum() }

func (s *Sim) scheme(set signalbox.VoterSet) fake {
	f := fake{self: -1, quorum: set.Quorum()}
	if s.off == "agreement: FullQuorum" {
		f.quorum--
	}
	for i := range set.Voters {
		f.tags = append(f.tags, tagOf(set.Voters[i].PublicKey))
	}
	return f
}

// seat is a set as g has it; nil: as somebody has it who is no gateway.
func (s *Sim) seat(set signalbox.VoterSet, g *gateway) seat {
	t := seat{set: set, scheme: s.scheme(set), self: -1}
	for i := range set.Voters {
		p := s.gateway(set.Voters[i].Name)
		t.who = append(t.who, p)
		if p != g {
			continue
		}
		t.named = true
		if _, ok := g.voter.key(set.Voters[i].PublicKey); ok {
			t.self, t.scheme.self = i, i
		}
	}
	return t
}

// trust is what a process knows when it is new: the first voters.
func (s *Sim) trust() rpc.Trust {
	epochs, err := rpc.NewEpochs(cluster, s.first, func(set signalbox.VoterSet) (rpc.QuorumVerifier, error) { return s.scheme(set), nil })
	if err != nil {
		panic(err)
	}
	return rpc.Trust{Cluster: cluster, Epochs: epochs, Operators: operator, Single: s.known.signed}.WithOperators(operators)
}

// key finds which of the voter's own keys a public one is.
func (v *voter) key(public []byte) (n int, ok bool) {
	for _, n := range v.disk.keys {
		if string(everybody.voter(v.name, n).PublicKey) == string(public) {
			return n, true
		}
	}
	return 0, v.bundle && string(everybody.voter(v.name, 0).PublicKey) == string(public)
}

// kept is journal.KeptKey: the journal is as old as the key.
func (v *voter) kept(n int) bool {
	return n > 0 && slices.Contains(v.disk.made, n) && !v.disk.restored
}

// candidate is the key that a gateway offers to vote with: one that was in no set,
// and is as new as the journal. Not ok: it crashed.
func (g *gateway) candidate() (c signalbox.Voter, ok bool) {
	v := g.voter
	for _, n := range slices.Backward(v.disk.keys) {
		c = everybody.voter(g.name, n)
		if _, _, had := g.book.trust.Epochs.Had(c.PublicKey); !had && v.kept(n) {
			return c, true
		}
	}
	v.keys++
	n := v.keys
	if !g.write(true, func() { v.disk.keys = append(slices.Clone(v.disk.keys), n) }, nil) {
		return c, false
	}
	if !g.write(true, func() { v.disk.made = append(slices.Clone(v.disk.made), n) }, nil) {
		return c, false
	}
	g.s.Stats["keys that gateways made"]++
	return everybody.voter(g.name, n), true
}

// reseat has the gateway go on as what the log has it be, as journal.Office does.
func (g *gateway) reseat() {
	if g.up && g.book.Voters().Epoch != g.voter.seat.epoch() && !g.overstays() {
		g.unseat()
		g.takeSeat()
		for _, a := range g.s.agents {
			g.tellVoters(a)
		}
	}
}

// overstays is what OldVotersDecideOn is about.
func (g *gateway) overstays() bool {
	set := g.book.Voters()
	_, stays := set.Voter(g.name)
	return g.s.off == OldVotersDecideOn && !stays && g.voter.replica != nil
}

// unseat has the seat that the log gives, and forgets what the one before knew.
func (g *gateway) unseat() {
	v := g.voter
	v.seat = g.s.seat(g.book.Voters(), g)
	v.replica, v.pending, v.fill, v.said, v.grantor, v.seen, v.locked = nil, nil, false, map[*gateway]standing{}, nil, 0, nil
}

// takeSeat begins to vote where the gateway may.
func (g *gateway) takeSeat() {
	v := g.voter
	if v.seat.self < 0 {
		return
	}
	n, _ := v.key(v.seat.set.Voters[v.seat.self].PublicKey)
	if !v.disk.begun && (v.kept(n) || g.s.off == OldKeyBelieved && n > 0) && !g.begin() { // the key is as new as the journal
		return
	}
	if g.s.off == LostDiskVotes || g.s.off == BackupVotes {
		v.disk.begun, v.lost = true, false
	}
	if v.disk.begun {
		g.startVoter()
	}
}

// begin ends the doubt whether the voter forgot what it voted for.
func (g *gateway) begin() bool {
	v := g.voter
	return g.write(true, func() { v.disk.begun, v.disk.restored, v.disk.silent, v.lost = true, false, 0, false }, nil)
}

// tellVoters tells an agent of its data center who votes.
func (g *gateway) tellVoters(a *agent) {
	epoch := g.voter.seat.epoch()
	if a.zone != g.zone || epoch == g.s.first.Epoch {
		return
	}
	chain := g.book.trust.Epochs.Chain(epoch)
	g.s.send(g.node, a.node, func() {
		if a.up {
			a.learn(chain)
		}
	})
}

// learn is the agent's: the blocks that changed the voters, each verified by the set
// before it.
func (a *agent) learn(chain [][]byte) {
	known := int(a.ballot.epoch() - a.s.first.Epoch)
	for _, raw := range chain[min(known, len(chain)):] {
		if err := a.trust.Epochs.Learn(a.trust, raw); err != nil {
			a.s.fail("%s does not believe who votes: %v", a.name, err)
			return
		}
	}
	a.recount()
}

// recount goes on with the newest voters: what those before them answered counts no
// more. What was learned is kept.
func (a *agent) recount() {
	set := a.trust.Epochs.Newest()
	if set.Epoch == a.ballot.epoch() {
		return
	}
	a.ballot = a.s.seat(set, nil)
	a.answers, a.held = map[tag]rpc.Answer{}, false
	a.s.Stats["sets that agents learned"]++
	a.s.say("%s knows the voters of epoch %d", a.name, set.Epoch)
	chain := a.trust.Epochs.Chain(0)
	a.write(func() { a.disk.chain = chain })
}

// remembers is what an agent knows of the voters after a start.
func (a *agent) remembers() {
	if a.ballot.epoch() == a.s.first.Epoch+uint64(len(a.disk.chain)) {
		return
	}
	a.trust = a.s.trust()
	for _, raw := range a.disk.chain {
		if err := a.trust.Epochs.Learn(a.trust, raw); err != nil {
			a.s.fail("%s kept voters that do not verify: %v", a.name, err)
		}
	}
	a.ballot = a.s.seat(a.trust.Epochs.Newest(), nil)
}

// verify opens a certificate with what the agent knows, and what that carries.
func (a *agent) verify(c *signalbox.Certificate) bool {
	if a.s.plan.changes == 0 {
		return true
	}
	if _, err := rpc.OpenCertificate(a.trust, c.Raw); err != nil {
		a.s.fail("%s does not believe the certificate of term %d: %v", a.name, c.Term, err)
		return false
	}
	a.recount()
	return a.up
}
