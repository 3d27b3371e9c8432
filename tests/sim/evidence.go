package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// collection is a lapse that a gateway collects shares of.
type collection struct {
	payload []byte
	seat    seat // the set that it is of
	shares  map[int]signature.Share
}

func (d *desk) testimony(kind signalbox.StatementKind, of signalbox.Service, id signalbox.Identity, admission uint64, block signalbox.Digest, below signalbox.Term) rpc.Testimony {
	t := rpc.Testimony{Statement: signalbox.Statement{Kind: kind, Service: of, Identity: id, Admission: admission, Block: block, Term: below}}
	switch kind {
	case signalbox.SaysLapse:
		t.Witness = signalbox.Witness{Epoch: d.voter.seat.epoch()}
	case signalbox.SaysFence:
		t.Witness = signalbox.Witness{Plugin: "power", By: []string{d.name}}
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
func (d *desk) testify(t rpc.Testimony) signalbox.Evidence {
	var raw []byte
	var err error
	if t.Kind == signalbox.SaysFence {
		payload, set := encoded(t), d.voter.seat.set
		var shares []rpc.Share
		for _, v := range set.Voters[:set.Lying+1] {
			shares = append(shares, rpc.Share{
				Signer: rpc.IdentityOf(v.PublicKey), Signature: stamp(v.PublicKey, rpc.SigningInput(rpc.DomainFence, cluster, payload)),
			})
		}
		raw, err = rpc.SealFence(payload, shares)
	} else {
		raw = seal(rpc.DomainAttest, encoded(t), operatorKey)
	}
	if err != nil {
		panic(err)
	}
	return d.opened(raw)
}

func (d *desk) opened(raw []byte) signalbox.Evidence {
	e, err := rpc.OpenEvidence(d.book.trust, raw, nil)
	if err != nil {
		panic(err)
	}
	return e
}

// collect carries handover.Collect out.
func (d *desk) collect(e handover.Collect) {
	for _, entry := range e.Of {
		switch e.Kind {
		case signalbox.Fence:
			d.s.after(d.s.between(10*time.Millisecond, 900*time.Millisecond), func() { d.fence(e.Block, entry) })
		case signalbox.Lapse:
			d.collectLapse(e.Block, entry)
		}
	}
}

// fence ends a process that runs, and is signed when that is sure.
func (d *desk) fence(b *signalbox.DecidedBlock, entry signalbox.RosterEntry) {
	if !d.up || d.s.chance(0.2) { // the plugin failed: it is asked again
		return
	}
	if a := d.s.agent(entry.Name); a.up && d.s.off != FenceCutsNothing {
		d.s.say("%s fences %s", d.name, a.name)
		a.crash(d.s.between(50*time.Millisecond, 4*time.Second))
	}
	d.s.Stats["fences"]++
	d.statement(d.testify(d.testimony(signalbox.SaysFence, d.service, entry.Identity, entry.Admission, b.Digest, b.Handover(d.service).Term)))
}

func (d *desk) collectLapse(b *signalbox.DecidedBlock, entry signalbox.RosterEntry) {
	key := fmt.Sprint(string(entry.Identity), b.Digest, d.voter.seat.epoch())
	if d.lapses[key] != nil {
		return
	}
	t := d.testimony(signalbox.SaysLapse, d.service, entry.Identity, entry.Admission, b.Digest, b.Handover(d.service).Term)
	d.lapses[key] = &collection{encoded(t), d.voter.seat, map[int]signature.Share{}}
	d.askLapse(d.run, key, b)
}

// askLapse asks every voter until a quorum has signed, or the block is over.
func (d *desk) askLapse(run int, key string, b *signalbox.DecidedBlock) {
	if !d.up || d.run != run {
		return
	}
	c := d.lapses[key]
	if c == nil { // signed meanwhile
		return
	}
	if !d.machine.Runs(b.Digest) || c.seat.epoch() != d.voter.seat.epoch() {
		delete(d.lapses, key) // over, or to be asked of others
		return
	}
	for i, v := range c.seat.who {
		if _, ok := c.shares[i]; ok {
			continue
		}
		asked := func() {
			share, ok := v.lapse(c.payload)
			if !ok {
				return
			}
			take := func() { d.lapseShare(run, key, i, share) }
			if v == d.gateway {
				take()
			} else {
				d.s.send(v.node, d.node, take)
			}
		}
		if v == d.gateway {
			asked()
		} else {
			d.s.send(d.node, v.node, asked)
		}
	}
	d.s.after(250*time.Millisecond, func() { d.askLapse(run, key, b) })
}

func (d *desk) lapseShare(run int, key string, i int, share signature.Share) {
	c := d.lapses[key]
	if !d.up || d.run != run || c == nil || c.seat.epoch() != d.voter.seat.epoch() {
		return
	}
	c.shares[i] = share
	var all []signature.Share
	for n := range c.seat.who {
		if sh, ok := c.shares[n]; ok {
			all = append(all, sh)
		}
	}
	scheme := c.seat.scheme
	if len(all) < scheme.quorum || d.provokeLapse(c) {
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
	delete(d.lapses, key)
	d.s.Stats["lapses"]++
	e := d.opened(raw)
	d.s.say("%s has the lapse of %s below %d", d.name, nameOf(e.Identity), e.Term)
	d.statement(e)
}

// attend is the operator: attests, truly, for instances that are off or whose key
// is lost, for open failovers and announced removals, and announces some.
func (s *Sim) attend() {
	s.after(200*time.Millisecond, s.attend)
	var g *gateway
	for _, p := range s.gateways {
		if p.up && p.voter.liar == nil {
			g = p
		}
	}
	if g == nil {
		return
	}
	s.repair()
	for _, d := range g.desks {
		if st := d.state(); st != nil {
			d.attend(st)
		}
	}
}

func (d *desk) attend(st *handover.ServiceState) {
	s := d.s
	var gone []*who
	for _, a := range s.agents {
		if a.Service == d.service && (!a.up || s.off == AttestsTheLiving && s.rough(0.1)) {
			gone = append(gone, a.who)
		}
	}
	d.stuck(st)
	for _, w := range s.retired {
		if w.Service == d.service {
			gone = append(gone, w)
		}
	}
	for _, w := range gone {
		for _, b := range st.Open {
			h := b.Handover(d.service)
			if e, listed := h.Entry(w.Identity); listed && h.Allowed.Has(signalbox.Attest) && s.chance(0.5) {
				s.Stats["attests"]++
				d.statement(d.testify(d.testimony(signalbox.SaysAttest, d.service, w.Identity, e.Admission, b.Digest, h.Term)))
			}
		}
		d.attestRemoval(st, w)
	}
}

func (d *desk) attestRemoval(st *handover.ServiceState, w *who) {
	s := d.s
	entry, outstanding := st.Entry(w.Identity)
	if !outstanding || len(st.Open) > 0 {
		return
	}
	retired := s.agentOf(w.Identity) == nil
	if an := st.Announced[w.Identity]; an == nil {
		if retired || s.rough(0.3) {
			d.propose(signalbox.Request{Remove: &signalbox.Removal{
				Service: d.service, Identity: w.Identity, Admission: entry.Admission, Below: st.Last + 1,
				Allowed: signalbox.EvidenceKinds(signalbox.Attest), By: "ada", Reason: "gone",
			}})
		}
	} else if s.chance(0.5) {
		e := d.testify(d.testimony(signalbox.SaysAttest, d.service, w.Identity, an.Admission, an.Digest, an.Below))
		// Evidence that was true once comes late, too.
		s.after(s.between(0, 3*time.Second), func() {
			d.propose(signalbox.Request{Remove: &signalbox.Removal{Service: d.service, Identity: w.Identity, Evidence: e.Envelope}})
		})
	}
}

// stuck: a handover waits for a key that is lost, and allows nothing else; or the
// one that a singleton's term lists has lost it. People see that, and fail over.
func (d *desk) stuck(st *handover.ServiceState) {
	lost := func(lists func(signalbox.Identity) bool) bool {
		return slices.ContainsFunc(d.s.retired, func(w *who) bool { return w.Service == d.service && lists(w.Identity) })
	}
	if n := len(st.Open); n > 0 {
		b := st.Open[n-1]
		h := b.Handover(d.service)
		if h.Allowed.Has(signalbox.Attest) || d.s.now.Sub(b.At) < 5*time.Second {
			return
		}
		if lost(func(id signalbox.Identity) bool { _, listed := h.Entry(id); return listed }) {
			d.s.Stats["failovers out of a lost key"]++
			d.failover()
		}
		return
	}
	if c := st.Certificate; c != nil && d.s.singleton(d.service) && lost(func(id signalbox.Identity) bool { return c.Handover().Lists(id, c.Term) }) {
		d.s.Stats["failovers of a lost singleton"]++
		d.failover()
	}
}
