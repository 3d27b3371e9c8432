package lease

import (
	"cmp"
	"slices"

	"github.com/signalbox-io/signalbox"
)

// maxPending is how many requests wait for grants at once; older ones are of no
// use any more.
const maxPending = 8

// A Holder is an identity's lease of one term: what it asked for and who granted
// it. Another term, or another incarnation, is another Holder. Not safe for
// concurrent use.
type Holder struct {
	rules  rules
	self   Request // without nonce
	quorum int
	sent   []sending // at most maxPending, newest last
	count  uint64
	// granted is, by voter, the newest request that it granted.
	granted map[signalbox.Identity]sending
}

// sending is when a request was sent. no orders them, whatever the clocks say.
type sending struct {
	no    uint64
	nonce Nonce
	at    Instant
}

// NewHolder returns a lease that nobody has granted yet. quorum is how many
// voters have to grant it; self names service, term, identity and incarnation, and
// the epoch of the voters who count: what a voter grants as part of a later set is
// no grant of this one, which may have ended with its word.
func NewHolder(leases signalbox.Leases, quorum int, self Request) *Holder {
	self.TTL, self.Nonce = leases.TTL, Nonce{}
	return newHolder(allRules(), quorum, self)
}

func newHolder(rules rules, quorum int, self Request) *Holder {
	return &Holder{rules: rules, self: self, quorum: quorum, granted: map[signalbox.Identity]sending{}}
}

// Epoch returns the epoch of the voters whose grants count.
func (h *Holder) Epoch() uint64 { return h.self.Epoch }

// Term returns the term that the lease is for.
func (h *Holder) Term() signalbox.Term { return h.self.Term }

// Renew returns the next request. It has to be sent after now was read: the lease
// is counted from there. The nonce must be unpredictable and never used before.
func (h *Holder) Renew(nonce Nonce, now Instant) Request {
	if len(h.sent) >= maxPending {
		h.sent = slices.Delete(h.sent, 0, len(h.sent)-maxPending+1)
	}
	h.count++
	h.sent = append(h.sent, sending{h.count, nonce, now})
	r := h.self
	r.Nonce, r.Epoch = nonce, 0
	return r
}

// Granted takes a voter's grant, whose signature was verified. It reports whether
// the grant is of this lease; one that comes twice, or late, counts once and from
// when its request was sent.
func (h *Holder) Granted(voter signalbox.Identity, g Request, now Instant) bool {
	nonce := g.Nonce
	g.Nonce = Nonce{}
	if !h.rules.oneEpoch {
		g.Epoch = h.self.Epoch
	}
	if g != h.self {
		return false
	}
	i := slices.IndexFunc(h.sent, func(s sending) bool { return s.nonce == nonce })
	if i < 0 && h.rules.nonceMatters {
		return false
	}
	if !h.rules.nonceMatters {
		i = len(h.sent) - 1
	}
	sent := h.sent[i]
	if !h.rules.countFromSent {
		sent.at = now
	}
	if before, ok := h.granted[voter]; !ok || before.no < sent.no {
		h.granted[voter] = sent
	}
	return true
}

// Deadline returns when the lease ends unless it is granted anew: the TTL after
// the oldest request of the newest quorum of grants was sent. It may lie in the
// past, see Instant.Passed. It returns false while no quorum has granted, and when
// the clocks were apart between those requests: a new one has to be granted then.
func (h *Holder) Deadline() (Instant, bool) {
	quorum := h.quorum
	if !h.rules.wholeQuorum {
		quorum--
	}
	if len(h.granted) < quorum || quorum < 1 {
		return Instant{}, false
	}
	all := make([]sending, 0, len(h.granted))
	for _, s := range h.granted {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b sending) int { return cmp.Compare(b.no, a.no) })
	at := all[quorum-1].at
	for _, s := range all[:quorum] {
		if h.rules.disagreement && apart(s.at.Boot-all[0].at.Boot, s.at.Wall-all[0].at.Wall) {
			return Instant{}, false
		}
		at.Boot, at.Wall = min(at.Boot, s.at.Boot), min(at.Wall, s.at.Wall)
	}
	return at.Add(h.self.TTL), true
}

// Live reports whether a quorum's grants are all younger than the TTL by both
// clocks, and the clocks agree.
func (h *Holder) Live(now Instant) bool {
	deadline, ok := h.Deadline()
	if !ok {
		return false
	}
	if h.rules == allRules() {
		return !deadline.Passed(now)
	}
	// The same, with what a test dropped.
	boot, wall := now.Boot-deadline.Boot, now.Wall-deadline.Wall
	return (boot < 0 || !h.rules.bootClock) && (wall < 0 || !h.rules.wallClock) && !(h.rules.disagreement && apart(boot, wall))
}
