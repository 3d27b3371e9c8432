package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/rpc"
)

// liar is what all lying voters of a history know together: they keep what they
// heard and put it together as they like, with shares of their own for
// everything. They cannot sign for others. A lying voter runs the honest code as
// well, with messages withheld, so that what it proposes is believed.
type liar struct {
	s      *Sim
	who    []*gateway
	heard  []heard
	values [][]byte
	quorum []*agreement.Quorum // certificates of votes 1
}

type heard struct {
	from *gateway
	*agreement.Message
}

// places are those of the liars in a set.
func (l *liar) places(of *seat) (out []int) {
	for _, g := range l.who {
		if place := of.of(g); place >= 0 {
			out = append(out, place)
		}
	}
	return out
}

func (l *liar) hear(from *gateway, m *agreement.Message) {
	if len(l.heard) > 300 {
		l.heard = append([]heard(nil), l.heard[150:]...)
	}
	l.heard = append(l.heard, heard{from, m})
	if m.Kind == agreement.Proposal || m.Kind == agreement.Value {
		l.values = append(l.values, m.Value)
	}
	if len(l.values) > 20 {
		l.values = l.values[10:]
	}
	if m.Quorum != nil && m.Kind != agreement.Decided {
		l.quorum = append(l.quorum, m.Quorum)
	}
	if len(l.quorum) > 20 {
		l.quorum = l.quorum[10:]
	}
}

// What is signed, by membership/agreement/sign.go: written down again here.
func signed(kind byte, epoch, slot, view uint64, rest []byte) []byte {
	p := binary.BigEndian.AppendUint64([]byte{kind}, epoch)
	p = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(p, slot), view)
	return rpc.SigningInput(rpc.DomainAgreement, cluster, append(p, rest...))
}

func voteOneInput(epoch, slot, view uint64, d signalbox.Digest) []byte {
	return signed(1, epoch, slot, view, d[:])
}

func timeoutInput(epoch, slot, view, high uint64) []byte {
	return signed(2, epoch, slot, view, binary.BigEndian.AppendUint64(nil, high))
}

func viewOf(q *agreement.Quorum) uint64 {
	if q == nil {
		return 0
	}
	return q.View
}

// lie sends lies to some voters, about where it hurts: the slot and view of the
// one who is told.
func (l *liar) lie(g *gateway) {
	if !l.s.faults {
		return
	}
	l.misleads(g)
	for range 3 {
		all := g.voter.seat.who
		to := all[l.s.rnd.IntN(len(all))]
		if to.voter.liar != nil || !to.up || to.voter.replica == nil {
			continue
		}
		of := &to.voter.seat // the lie is for the epoch of the one who is told
		slot, view := to.voter.replica.Slot(), to.voter.replica.View()
		i, from := of.of(to), of.of(g)
		for _, v := range l.places(of) {
			if from < 0 || to.voter.replica.Leader() == v {
				from = v
			}
		}
		if from < 0 {
			continue // none of them has a voice there
		}
		var m *agreement.Message
		if l.s.rnd.IntN(2) == 0 {
			m = l.equivocate(of, i, from, slot, view)
		} else {
			m = l.invent(of, from, slot, view)
		}
		if m == nil {
			continue
		}
		m.Epoch, m.Slot, m.View = of.epoch(), slot, max(m.View, 1)
		if m = l.s.wire(g, m); m != nil {
			l.s.Stats["lies"]++
			speaker := of.who[from]
			l.s.post(speaker.node, to.node, func() { to.heard(speaker, m) })
		}
	}
}

// misleads says to other gateways what is not so.
func (l *liar) misleads(g *gateway) {
	d := g.desks[l.s.rnd.IntN(len(g.desks))]
	newest, open := d.machine.Open()
	if !open || !l.s.chance(0.2) {
		return
	}
	p := l.s.gateways[l.s.rnd.IntN(len(l.s.gateways))]
	var e handover.Event
	switch l.s.rnd.IntN(4) {
	case 0:
		e = handover.Prepared{Gateway: g.name, Block: newest.Digest}
	case 1:
		e = handover.Held{Gateway: g.name, Block: newest.Digest, Complete: true}
	case 2:
		e = handover.GiveUp{Block: newest.Digest, Problem: "a lie"}
	default:
		for _, id := range newest.Handover(d.service).Incoming {
			e = handover.Serves{Identity: id, Term: newest.Handover(d.service).Term}
		}
	}
	d.tell(p, func(p *desk) { p.step(e) })
}

// value is a valid block of the liars' own, another one for each variant.
func (l *liar) value(of *seat, from, variant int) []byte {
	g := of.who[from]
	b := &signalbox.Block{
		Cluster: cluster, Epoch: of.epoch(), Index: g.book.Index() + 1, Prev: g.book.Digest(),
		At: epoch.Add(l.s.now.Sub(epoch).Truncate(time.Second) + time.Duration(variant)*time.Millisecond), Proposer: uint32(from),
	}
	for _, d := range g.desks {
		st := d.state()
		if st == nil || st.Certificate == nil || len(st.Open) > 0 {
			continue
		}
		if h := d.handover(other(st.Master())); h != nil {
			h.ID, h.HoldBudget = fmt.Sprintf("lie-%s-%d-%d", d.service, h.Term, variant), time.Second
			b.Requests = append(b.Requests, signalbox.Request{Handover: h})
		}
	}
	raw, err := rpc.EncodeBlock(b)
	if err != nil {
		l.s.fail("a lie cannot be encoded: %v", err)
	}
	return raw
}

// equivocate takes a voter one step further towards deciding a value of its own:
// one half of the voters is told one thing, the other half another.
func (l *liar) equivocate(of *seat, to, from int, slot, view uint64) *agreement.Message {
	value := l.value(of, from, to%2)
	scheme := of.scheme
	if q := l.decide(of, slot, view, value); scheme.VerifyQuorum("", rpc.DecisionInput(cluster, view, value), q.Signature) == nil {
		return &agreement.Message{Kind: agreement.Decided, View: view, Quorum: q}
	}
	if q := l.certify(of, slot, view, value); q != nil {
		return &agreement.Message{Kind: agreement.Certified, View: view, Quorum: q}
	}
	m := &agreement.Message{Kind: agreement.Proposal, View: view, Value: value}
	if view > 1 {
		m.Change = l.change(of, slot, view-1, 0)
	}
	return m
}

func (l *liar) invent(of *seat, from int, slot, view uint64) *agreement.Message {
	value := l.value(of, from, l.s.rnd.IntN(2))
	if len(l.values) > 0 && l.s.rnd.IntN(2) == 0 {
		value = l.values[l.s.rnd.IntN(len(l.values))]
	}
	digest := rpc.BlockDigest(value)
	m := &agreement.Message{View: view}
	epoch, own := of.epoch(), of.scheme.tags[from]
	switch l.s.rnd.IntN(7) {
	case 0: // equivocates, with or without a justification
		m.Kind, m.Value = agreement.Proposal, value
		if view > 1 {
			m.Change, m.Quorum = l.change(of, slot, view-1, l.s.rnd.Uint64N(view)), l.any()
		}
	case 1: // certifies what it has the votes for, or not
		m.Kind, m.Quorum = agreement.Certified, l.certify(of, slot, view, value)
	case 2: // a stale certificate
		m.Kind, m.Quorum = agreement.Certified, l.any()
	case 3: // lies about the newest certificate
		m.Kind, m.Quorum = agreement.Timeout, l.any()
		m.View = view + l.s.rnd.Uint64N(3)
		high := viewOf(m.Quorum)
		if l.s.rnd.IntN(3) == 0 {
			high = m.View
		}
		m.Share = shareOf(own, timeoutInput(epoch, slot, m.View, high))
	case 4: // forges the shares of others that it lacks
		input := voteOneInput(epoch, slot, view, digest)
		forged := l.combine(of, agreement.VoteOne, slot, view, input)
		for v := range of.who {
			forged = append(append(forged, byte(v)), shareOf(own, input)...)
		}
		m.Kind, m.Quorum = agreement.Certified, &agreement.Quorum{View: view, Digest: digest, Signature: forged}
	case 5: // votes for everything
		m.Kind, m.Share = agreement.VoteOne, shareOf(own, voteOneInput(epoch, slot, view, digest))
	default:
		m.Kind, m.Share = agreement.VoteTwo, shareOf(own, rpc.DecisionInput(cluster, view, value))
	}
	if m.Kind == agreement.Certified && m.Quorum == nil {
		return nil
	}
	return m
}

func (l *liar) any() *agreement.Quorum {
	if len(l.quorum) == 0 || l.s.rnd.IntN(3) == 0 {
		return nil
	}
	return l.quorum[l.s.rnd.IntN(len(l.quorum))]
}

// combine adds the liars' shares over input to those that they were sent.
func (l *liar) combine(of *seat, kind agreement.Kind, slot, view uint64, input []byte) (out []byte) {
	seen := map[int]bool{}
	for _, v := range l.places(of) {
		seen[v] = true
		out = append(append(out, byte(v)), shareOf(of.scheme.tags[v], input)...)
	}
	for _, m := range l.heard {
		if m.Kind != kind || m.View != view || m.Slot != slot || m.Epoch != of.epoch() {
			continue
		}
		if v := of.of(m.from); v >= 0 && !seen[v] && string(m.Share) == string(shareOf(of.scheme.tags[v], input)) {
			seen[v] = true
			out = append(append(out, byte(v)), m.Share...)
		}
	}
	return out
}

func (l *liar) decide(of *seat, slot, view uint64, value []byte) *agreement.Quorum {
	input := rpc.DecisionInput(cluster, view, value)
	return &agreement.Quorum{View: view, Digest: rpc.BlockDigest(value), Signature: l.combine(of, agreement.VoteTwo, slot, view, input)}
}

// certify makes a certificate of votes 1, nil when it cannot.
func (l *liar) certify(of *seat, slot, view uint64, value []byte) *agreement.Quorum {
	digest := rpc.BlockDigest(value)
	input := voteOneInput(of.epoch(), slot, view, digest)
	q := &agreement.Quorum{View: view, Digest: digest, Signature: l.combine(of, agreement.VoteOne, slot, view, input)}
	if of.scheme.VerifyQuorum("", input, q.Signature) != nil {
		return nil
	}
	l.quorum = append(l.quorum, q)
	return q
}

// change picks, of the timeouts that it heard, those that suit it.
func (l *liar) change(of *seat, slot, view, high uint64) *agreement.Change {
	c, seen := &agreement.Change{View: view}, map[int]bool{}
	for _, v := range l.places(of) {
		seen[v] = true
		share := shareOf(of.scheme.tags[v], timeoutInput(of.epoch(), slot, view, high))
		c.Ended = append(c.Ended, agreement.Ended{Voter: v, High: high, Share: share})
	}
	for _, m := range l.heard {
		if m.Kind != agreement.Timeout || m.View != view || m.Slot != slot || m.Epoch != of.epoch() || len(c.Ended) >= of.scheme.quorum {
			continue
		}
		if v := of.of(m.from); v >= 0 && !seen[v] {
			seen[v] = true
			c.Ended = append(c.Ended, agreement.Ended{Voter: v, High: viewOf(m.Quorum), Share: m.Share})
		}
	}
	return c
}
