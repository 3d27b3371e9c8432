package sim

import (
	"crypto/ed25519"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// collection is a lapse that a gateway collects shares of.
type collection struct {
	payload []byte
	shares  map[int]signature.Share
}

func testimony(kind signalbox.StatementKind, id signalbox.Identity, admission uint64, block signalbox.Digest, below signalbox.Term) rpc.Testimony {
	t := rpc.Testimony{Statement: signalbox.Statement{Kind: kind, Service: orders, Identity: id, Admission: admission, Block: block, Term: below}}
	switch kind {
	case signalbox.SaysLapse:
		t.Witness = signalbox.Witness{Epoch: 1}
	case signalbox.SaysFence:
		t.Witness = signalbox.Witness{Plugin: "power", By: []string{"gateway"}}
	default:
		t.Witness = signalbox.Witness{By: []string{"ada"}, Reason: "it is off", At: epoch}
	}
	return t
}

func encoded(t rpc.Testimony) []byte {
	payload, err := t.Encode()
	if err != nil {
		panic(err)
	}
	return payload
}

// testify has gateways or an operator sign.
func (s *Sim) testify(t rpc.Testimony) signalbox.Evidence {
	var raw []byte
	var err error
	if t.Kind == signalbox.SaysFence {
		payload := encoded(t)
		public := gatewayKey.Public().(ed25519.PublicKey)
		raw, err = rpc.SealFence(payload, []rpc.Share{{
			Signer: rpc.IdentityOf(public), Signature: stamp(public, rpc.SigningInput(rpc.DomainFence, cluster, payload)),
		}})
	} else {
		raw = seal(rpc.DomainAttest, encoded(t), operatorKey)
	}
	if err != nil {
		panic(err)
	}
	return s.opened(raw)
}

func (s *Sim) opened(raw []byte) signalbox.Evidence {
	e, err := rpc.OpenEvidence(s.trust(), raw, nil)
	if err != nil {
		panic(err)
	}
	return e
}

// collect carries handover.Collect out.
func (g *gateway) collect(e handover.Collect) {
	for _, entry := range e.Of {
		switch e.Kind {
		case signalbox.Fence:
			g.s.after(g.s.between(10*time.Millisecond, 900*time.Millisecond), func() { g.fence(e.Block, entry) })
		case signalbox.Lapse:
			g.collectLapse(e.Block, entry)
		}
	}
}

// fence ends a process that runs, and is signed when that is sure.
func (g *gateway) fence(b *signalbox.DecidedBlock, entry signalbox.RosterEntry) {
	if !g.up || g.s.chance(0.2) { // the plugin failed: it is asked again
		return
	}
	if a := g.s.agent(entry.Name); a.up && g.s.off != FenceCutsNothing {
		g.s.say("%s fences %s", g.name, a.name)
		a.crash(g.s.between(50*time.Millisecond, 4*time.Second))
	}
	g.s.Stats["fences"]++
	g.statement(g.s.testify(testimony(signalbox.SaysFence, entry.Identity, entry.Admission, b.Digest, b.Handover(orders).Term)))
}

func (g *gateway) collectLapse(b *signalbox.DecidedBlock, entry signalbox.RosterEntry) {
	key := string(entry.Identity) + b.Digest.String()
	if g.lapses[key] != nil {
		return
	}
	t := testimony(signalbox.SaysLapse, entry.Identity, entry.Admission, b.Digest, b.Handover(orders).Term)
	g.lapses[key] = &collection{encoded(t), map[int]signature.Share{}}
	g.askLapse(g.run, key, b)
}

// askLapse asks every voter until a quorum has signed, or the block is over.
func (g *gateway) askLapse(run int, key string, b *signalbox.DecidedBlock) {
	if !g.up || g.run != run {
		return
	}
	c := g.lapses[key]
	if c == nil { // signed meanwhile
		return
	}
	if !g.machine.Runs(b.Digest) {
		delete(g.lapses, key)
		return
	}
	for i, v := range g.s.voters {
		if _, ok := c.shares[i]; ok {
			continue
		}
		asked := func() {
			share, ok := v.lapse(c.payload)
			if !ok {
				return
			}
			take := func() { g.lapseShare(run, key, i, share) }
			if v == g {
				take()
			} else {
				g.s.send(v.node, g.node, take)
			}
		}
		if v == g {
			asked()
		} else {
			g.s.send(g.node, v.node, asked)
		}
	}
	g.s.after(250*time.Millisecond, func() { g.askLapse(run, key, b) })
}

func (g *gateway) lapseShare(run int, key string, i int, share signature.Share) {
	c := g.lapses[key]
	if !g.up || g.run != run || c == nil {
		return
	}
	c.shares[i] = share
	var all []signature.Share
	for n := range g.s.voters {
		if sh, ok := c.shares[n]; ok {
			all = append(all, sh)
		}
	}
	scheme := g.s.voters[0].voter.scheme
	if len(all) < scheme.quorum {
		return
	}
	combined, err := scheme.Combine(all)
	if err != nil {
		panic(err)
	}
	raw, err := rpc.SealLapse(c.payload, scheme.Name(), combined)
	if err != nil {
		panic(err)
	}
	delete(g.lapses, key)
	g.s.Stats["lapses"]++
	e := g.s.opened(raw)
	g.s.say("%s has the lapse of %s below %d", g.name, nameOf(e.Identity), e.Term)
	g.statement(e)
}

// attend is the operator: attests, truly, for instances that are off or whose key
// is lost, for open failovers and announced removals, and announces some.
func (s *Sim) attend() {
	s.after(200*time.Millisecond, s.attend)
	var g *gateway
	for _, p := range s.gateways {
		if p.up && (p.voter == nil || p.voter.liar == nil) && p.book.Service(orders) != nil {
			g = p
		}
	}
	if g == nil {
		return
	}
	st := g.book.Service(orders)
	var gone []*who
	for _, a := range s.agents {
		if !a.up || s.off == AttestsTheLiving && s.rough(0.1) {
			gone = append(gone, a.who)
		}
	}
	s.stuck(g, st)
	for _, w := range append(gone, s.retired...) {
		for _, b := range st.Open {
			h := b.Handover(orders)
			if e, listed := h.Entry(w.Identity); listed && h.Allowed.Has(signalbox.Attest) && s.chance(0.5) {
				s.Stats["attests"]++
				g.statement(s.testify(testimony(signalbox.SaysAttest, w.Identity, e.Admission, b.Digest, h.Term)))
			}
		}
		s.attestRemoval(g, st, w)
	}
}

func (s *Sim) attestRemoval(g *gateway, st *handover.ServiceState, w *who) {
	entry, outstanding := st.Entry(w.Identity)
	if !outstanding || len(st.Open) > 0 {
		return
	}
	retired := s.agentOf(w.Identity) == nil
	if an := st.Announced[w.Identity]; an == nil {
		if retired || s.rough(0.3) {
			g.propose(signalbox.Request{Remove: &signalbox.Removal{
				Service: orders, Identity: w.Identity, Admission: entry.Admission, Below: st.Last + 1,
				Allowed: signalbox.EvidenceKinds(signalbox.Attest), By: "ada", Reason: "gone",
			}})
		}
	} else if s.chance(0.5) {
		e := s.testify(testimony(signalbox.SaysAttest, w.Identity, an.Admission, an.Digest, an.Below))
		// Evidence that was true once comes late, too.
		s.after(s.between(0, 3*time.Second), func() {
			g.propose(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: w.Identity, Evidence: e.Envelope}})
		})
	}
}

// stuck: a handover waits for a key that is lost, and allows nothing else. People
// see that, and fail over.
func (s *Sim) stuck(g *gateway, st *handover.ServiceState) {
	if len(st.Open) == 0 {
		return
	}
	b := st.Open[len(st.Open)-1]
	h := b.Handover(orders)
	if h.Allowed.Has(signalbox.Attest) || s.now.Sub(b.At) < 5*time.Second {
		return
	}
	for _, w := range s.retired {
		if _, listed := h.Entry(w.Identity); listed {
			s.Stats["failovers out of a lost key"]++
			g.failover()
			return
		}
	}
}
