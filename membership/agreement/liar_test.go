package agreement

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// liar is one or more voters that send what may hurt most: they keep all that
// they ever heard and put it together as they like, with shares of their own for
// everything. They cannot sign for others.
type liar struct {
	w      *network
	voters []int
	cfg    Config
	heard  []*Message
	by     []int
	values [][]byte
	quorum []*Quorum // certificates of votes 1 that it has
}

func (l *liar) hear(from int, m *Message) {
	if len(l.heard) > 400 {
		l.heard, l.by = l.heard[200:], l.by[200:]
	}
	l.heard, l.by = append(l.heard, m), append(l.by, from)
	if m.Kind == Proposal || m.Kind == Value {
		l.values = append(l.values, m.Value)
	}
	if m.Quorum != nil && m.Kind != Decided {
		l.quorum = append(l.quorum, m.Quorum)
	}
}

// one picks a liar: the leader of the view where that lies.
func (l *liar) one(rng *rand.Rand, slot, view uint64) int {
	for _, n := range l.w.nodes {
		if n.r != nil && n.liar == nil && n.r.Slot() == slot && slices.Contains(l.voters, n.r.leader(view)) {
			return n.r.leader(view)
		}
	}
	return l.voters[rng.IntN(len(l.voters))]
}

// lie sends one lie to one node. slot and view are where it hurts.
func (l *liar) lie(rng *rand.Rand, slot, view uint64) {
	to, from := rng.IntN(len(l.w.nodes)), l.one(rng, slot, view)
	if l.w.nodes[to].liar != nil {
		return
	}
	m := l.equivocate(to, from, slot, view)
	if rng.IntN(2) == 0 {
		m = l.invent(rng, from, slot, view)
	}
	if m != nil {
		m.Epoch, m.Slot, m.View = 1, slot, max(m.View, 1)
		if raw, err := m.Encode(); err == nil {
			l.w.bag = append(l.w.bag, packet{from, to, raw})
		}
	}
}

// equivocate takes a node one step further towards deciding a value of its own:
// one half of the nodes is told one thing, the other half another.
func (l *liar) equivocate(to, from int, slot, view uint64) *Message {
	value := fmt.Appendf(nil, "p%d slot %d lie %d", from, slot, to%2)
	if q := l.decide(slot, view, value); l.cfg.Scheme.VerifyQuorum("fake", l.cfg.voteTwoInput(view, value), q.Signature) == nil {
		return &Message{Kind: Decided, View: view, Quorum: q}
	}
	if q := l.certify(slot, view, value); l.cfg.verifyCertified(slot, q) == nil {
		return &Message{Kind: Certified, View: view, Quorum: q}
	}
	m := &Message{Kind: Proposal, View: view, Value: value}
	if view > 1 {
		m.Change = l.change(nil, slot, view-1)
	}
	return m
}

func (l *liar) invent(rng *rand.Rand, from int, slot, view uint64) *Message {
	value := fmt.Appendf(nil, "p%d slot %d lie %d", from, slot, rng.IntN(2))
	if rng.IntN(8) == 0 {
		value = []byte("bad value")
	}
	if len(l.values) > 0 && rng.IntN(2) == 0 {
		value = l.values[rng.IntN(len(l.values))]
	}
	m := &Message{View: view}
	switch rng.IntN(6) {
	case 0: // equivocates, with or without a justification
		m.Kind, m.Value = Proposal, value
		if view > 1 {
			m.Change = l.change(rng, slot, view-1)
			m.Quorum = l.any(rng)
			if m.Quorum != nil {
				for _, v := range l.values {
					if digestOf(v) == m.Quorum.Digest {
						m.Value = v
					}
				}
			}
		}
	case 1: // certifies what it has the votes for, or not
		m.Kind, m.Quorum = Certified, l.certify(slot, view, value)
		if rng.IntN(2) == 0 {
			m.Kind, m.Quorum = Decided, l.decide(slot, view, value)
		}
	case 2: // a stale certificate
		m.Kind, m.Quorum = Certified, l.any(rng)
	case 3: // lies about the newest certificate
		m.Kind, m.Quorum = Timeout, l.any(rng)
		m.View = view + rng.Uint64N(3)
		m.Share = shareOf(from, l.cfg.timeoutInput(slot, m.View, m.Quorum.view()))
		if rng.IntN(3) == 0 {
			m.Share = shareOf(from, l.cfg.timeoutInput(slot, m.View, m.View))
		}
	case 4: // votes for everything
		m.Kind, m.Share = VoteOne, shareOf(from, l.cfg.voteOneInput(slot, view, digestOf(value)))
	default:
		m.Kind, m.Share = VoteTwo, shareOf(from, l.cfg.voteTwoInput(view, value))
	}
	if m.Kind == Certified && m.Quorum == nil {
		return nil
	}
	return m
}

func (l *liar) any(rng *rand.Rand) *Quorum {
	if len(l.quorum) == 0 || rng.IntN(3) == 0 {
		return nil
	}
	return l.quorum[rng.IntN(len(l.quorum))]
}

// combine adds the liars' shares over input to those that they were sent.
func (l *liar) combine(kind Kind, slot, view uint64, input []byte) (out []byte) {
	for _, v := range l.voters {
		out = append(append(out, byte(v)), shareOf(v, input)...)
	}
	for i, m := range l.heard {
		if m.Kind == kind && m.View == view && m.Slot == slot && string(m.Share) == string(shareOf(l.by[i], input)) {
			out = append(append(out, byte(l.by[i])), m.Share...)
		}
	}
	return out
}

func (l *liar) decide(slot, view uint64, value []byte) *Quorum {
	return &Quorum{View: view, Digest: digestOf(value), Signature: l.combine(VoteTwo, slot, view, l.cfg.voteTwoInput(view, value))}
}

// certify makes a certificate of votes 1, as good as it can.
func (l *liar) certify(slot, view uint64, value []byte) *Quorum {
	input := l.cfg.voteOneInput(slot, view, digestOf(value))
	q := &Quorum{View: view, Digest: digestOf(value), Signature: l.combine(VoteOne, slot, view, input)}
	if l.cfg.verifyCertified(slot, q) == nil {
		l.quorum = append(l.quorum, q)
	}
	return q
}

// change picks, of the timeouts that it heard, those that suit it.
func (l *liar) change(rng *rand.Rand, slot, view uint64) *Change {
	c := &Change{View: view}
	high := uint64(0)
	if rng != nil {
		high = rng.Uint64N(view + 1)
	}
	seen := map[int]bool{}
	for _, v := range l.voters {
		seen[v] = true
		c.Ended = append(c.Ended, Ended{Voter: v, High: high, Share: shareOf(v, l.cfg.timeoutInput(slot, view, high))})
	}
	for i, m := range l.heard {
		if m.Kind == Timeout && m.View == view && m.Slot == slot && !seen[l.by[i]] && len(c.Ended) < l.cfg.Quorum() {
			seen[l.by[i]] = true
			c.Ended = append(c.Ended, Ended{Voter: l.by[i], High: m.Quorum.view(), Share: m.Share})
		}
	}
	return c
}
