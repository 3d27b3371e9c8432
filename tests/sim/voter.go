package sim

import (
	"crypto/sha256"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

const (
	pendingFor   = 10 * time.Second
	forwardAgain = 500 * time.Millisecond
)

// voter does what journal.Member and journal.Lessor do around the replica and the
// grantor. Its disk survives a crash, the rest does not.
type voter struct {
	self    int
	disk    voterDisk
	scheme  fake
	replica *agreement.Replica // nil while it may not vote
	pending []*ask
	seen    uint64 // index up to which the log was compared with pending
	fill    bool
	place   [2]uint64 // slot and view that the pending requests were forwarded in
	again   time.Time
	said    map[int]standing // of this start
	grantor *lease.Grantor
	clock   clock
	liar    *liar
}

type voterDisk struct {
	votes  []byte
	begun  bool
	silent uint64 // slot up to which it does not vote
	leases lease.Saved
}

// ask is a request that waits to be decided.
type ask struct {
	request signalbox.Request
	raw     []byte
	key     [32]byte
	until   time.Time
	sent    bool
}

// write makes a change of a gateway's disk. It may crash before or after; without
// the fsync, what was written is lost in a crash or not.
func (g *gateway) write(synced bool, change, undo func()) bool {
	if g.s.rough(0.0012) {
		g.s.Stats["crash before a write"]++
		g.crash(g.s.between(20*time.Millisecond, 4*time.Second))
		return false
	}
	change()
	if !synced {
		g.unsynced = append(g.unsynced, undo)
	}
	if g.s.rough(0.0012) {
		g.s.Stats["crash after a write"]++
		g.crash(g.s.between(20*time.Millisecond, 4*time.Second))
		return false
	}
	return true
}

func (v *voter) state() *agreement.State {
	if v.disk.votes == nil {
		return nil
	}
	st, err := agreement.DecodeState(v.disk.votes)
	if err != nil {
		panic(err)
	}
	return st
}

// startVoter makes the replica and the grantor, when the voter knows that it
// forgot nothing.
func (g *gateway) startVoter() {
	v := g.voter
	v.replica, v.pending, v.fill, v.said, v.grantor, v.seen = nil, nil, false, map[int]standing{}, nil, 0
	if g.s.off == LostDiskVotes || g.s.off == BackupVotes {
		v.disk.begun = true
	}
	if !v.disk.begun {
		return
	}
	g.startLessor()
	r, err := agreement.New(agreement.Config{
		Cluster: cluster, Epoch: 1, Self: v.self, Voters: len(g.s.voters), Unavailable: g.s.plan.u, Scheme: v.scheme,
		Validate: g.validate, Timeout: 250 * time.Millisecond, MaxTimeout: 2 * time.Second, Without: g.s.off.rule(),
	}, g.book.Index()+1, g.hint(), v.state(), g.s.now)
	if err != nil {
		g.s.fail("%s cannot vote: %v", g.name, err)
		return
	}
	v.replica = r
}

func (g *gateway) hint() int {
	if n := len(g.book.log); n > 0 {
		return int(g.book.log[n-1].Proposer)
	}
	return 0
}

// keepUp brings the replica to the log's end, and proposes or forwards what is
// pending.
func (g *gateway) keepUp() {
	v := g.voter
	for g.up && v != nil && v.replica != nil {
		if g.book.Index() >= v.replica.Slot() {
			v.replica.Advance(g.book.Index()+1, g.hint(), g.s.now)
			v.fill = false
			g.settlePending()
		}
		v.replica.SetPending(len(v.pending) > 0 || v.fill, g.s.now)
		if v.replica.NeedsValue() {
			if block := g.build(); block != nil {
				g.carry(v.replica.Propose(block, g.s.now))
				if !v.replicaWaits() {
					return
				}
				continue
			}
		}
		g.forward()
		return
	}
}

func (v *voter) replicaWaits() bool { return v.replica != nil && v.replica.NeedsValue() }

// settlePending drops what the log has meanwhile, or forbids.
func (g *gateway) settlePending() {
	if len(g.voter.pending) == 0 {
		g.voter.seen = g.book.Index()
		return
	}
	decided := map[[32]byte]bool{}
	for ; g.voter.seen < g.book.Index(); g.voter.seen++ {
		b := g.book.log[g.voter.seen]
		if b == nil {
			continue
		}
		for i := range b.Requests {
			if raw, err := rpc.EncodeRequest(&b.Requests[i]); err == nil {
				decided[sha256.Sum256(raw)] = true
			}
		}
	}
	var still []*ask
	for _, a := range g.voter.pending {
		if !decided[a.key] && g.s.now.Before(a.until) && !g.decidedAlready(&a.request) && g.check(&a.request) == nil {
			still = append(still, a)
		}
	}
	g.voter.pending = still
}

func (g *gateway) decidedAlready(r *signalbox.Request) bool {
	if r.Handover == nil {
		return false
	}
	_, decided := g.book.Decided(r.Handover.ID)
	return decided
}

func (g *gateway) check(r *signalbox.Request) error {
	if g.s.off == RosterUnchecked && r.Handover != nil || g.s.off == AdmitsWhileOpen && r.Admit != nil || g.s.off == SilenceRemoves && r.Remove != nil {
		return nil
	}
	err := g.book.CheckAt(r, g.s.now)
	g.sameState(r, err)
	return err
}

// build makes the next block, as journal.Member does.
func (g *gateway) build() []byte {
	b := &signalbox.Block{
		Cluster: cluster, Epoch: 1, Index: g.book.Index() + 1, Prev: g.book.Digest(), At: g.s.now, Proposer: uint32(g.voter.self),
	}
	seen := map[signalbox.Service]bool{}
	for _, a := range g.voter.pending {
		if s := a.request.Service(); !seen[s] && !g.decidedAlready(&a.request) && g.check(&a.request) == nil {
			seen[s] = true
			b.Requests = append(b.Requests, a.request)
		}
	}
	if len(b.Requests) == 0 && !g.voter.fill && g.voter.replica.View() == 1 {
		return nil
	}
	raw, err := rpc.EncodeBlock(b)
	if err != nil {
		g.s.fail("%s cannot encode a block: %v", g.name, err)
		return nil
	}
	if err := g.validate(b.Index, g.voter.self, raw); err != nil {
		g.s.fail("%s built a block that is not valid: %v", g.name, err)
		return nil
	}
	return raw
}

// validate is journal.Member's: that the block follows the log, and every request
// against all of that log.
func (g *gateway) validate(slot uint64, proposer int, value []byte) error {
	b, err := rpc.DecodeBlock(value)
	if err != nil {
		return err
	}
	if g.s.now.Sub(b.At) > handover.MaxAhead {
		return signalbox.ErrRefused
	}
	if b.Cluster != cluster || b.Epoch != 1 || b.Index != slot || int(b.Proposer) != proposer {
		return signalbox.ErrUntrusted
	}
	for i := range b.Requests {
		if g.decidedAlready(&b.Requests[i]) {
			return signalbox.ErrConflict
		}
	}
	if g.book.Index()+1 != b.Index || g.book.Digest() != b.Prev {
		return signalbox.ErrConflict
	}
	if g.s.off == RosterUnchecked || g.s.off == AdmitsWhileOpen || g.s.off == SilenceRemoves {
		for i := range b.Requests {
			if err := g.check(&b.Requests[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return g.book.CheckBlock(b, g.s.now)
}

// carry carries the replica's effects out in their order.
func (g *gateway) carry(e agreement.Effects, err error) {
	if err != nil {
		g.s.Stats["refused messages"]++
	}
	v, run := g.voter, g.run
	if e.Persist != nil {
		raw, err := e.Persist.Encode()
		if err != nil {
			g.s.fail("%s cannot encode its votes: %v", g.name, err)
			return
		}
		before := v.disk.votes
		if !g.write(g.s.off != VotesUnsynced, func() { v.disk.votes = raw }, func() { v.disk.votes = before }) {
			return
		}
	}
	for _, o := range e.Send {
		g.sendAgreement(o)
		if g.s.rough(0.0004) {
			g.s.Stats["crash between two messages"]++
			g.crash(g.s.between(20*time.Millisecond, 4*time.Second))
		}
		if !g.up || g.run != run {
			return
		}
	}
	if g.s.off.forgetting() && e.Persist != nil && g.s.rough(0.15) {
		g.crash(g.s.between(20*time.Millisecond, 300*time.Millisecond))
		return
	}
	if e.Decide != nil {
		g.decide(e.Decide)
	}
}

func (g *gateway) sendAgreement(o agreement.Outgoing) {
	m := g.s.wire(g, o.Message)
	if m == nil {
		return
	}
	for i, to := range g.s.voters {
		if i == g.voter.self || o.To != agreement.Everyone && o.To != i {
			continue
		}
		if g.voter.liar != nil && g.s.rough(0.3) {
			continue // withheld
		}
		g.s.post(g.node, to.node, func() { to.heard(g.voter.self, m) })
	}
}

// wire is the message as it arrives: one for all receivers, which do not change
// it.
func (s *Sim) wire(g *gateway, m *agreement.Message) *agreement.Message {
	raw, err := m.Encode()
	if err != nil {
		s.fail("%s cannot encode a message: %v", g.name, err)
		return nil
	}
	if m, err = agreement.Decode(raw); err != nil {
		s.fail("%s cannot read a message: %v", g.name, err)
		return nil
	}
	return m
}

func (g *gateway) heard(from int, m *agreement.Message) {
	if !g.up {
		return
	}
	if l := g.voter.liar; l != nil {
		l.hear(from, m)
	}
	if m.Kind == agreement.Request {
		g.requested(m)
		return
	}
	if g.voter.replica == nil {
		return
	}
	g.carry(g.voter.replica.Step(from, m, g.s.now))
	g.keepUp()
}

func (g *gateway) requested(m *agreement.Message) {
	if len(m.Value) == 0 {
		g.voter.fill = g.voter.fill || g.voter.replica != nil && m.Slot == g.voter.replica.Slot()
		g.keepUp()
		return
	}
	g.ask(m.Value)
}

// ask keeps a request that is to be decided.
func (g *gateway) ask(raw []byte) {
	key := sha256.Sum256(raw)
	for _, a := range g.voter.pending {
		if a.key == key {
			return
		}
	}
	r := g.s.request(g, key, raw)
	if r == nil {
		return
	}
	if g.voter.replica == nil || g.decidedAlready(r) || g.check(r) != nil {
		return
	}
	g.voter.pending = append(g.voter.pending, &ask{request: *r, raw: raw, key: key, until: g.s.now.Add(pendingFor)})
	g.keepUp()
}

// forward sends what is pending to the leader and to r + 1 who follow it.
func (g *gateway) forward() {
	v := g.voter
	here := [2]uint64{v.replica.Slot(), v.replica.View()}
	all := here != v.place || !g.s.now.Before(v.again)
	if all {
		v.place, v.again = here, g.s.now.Add(forwardAgain)
	}
	for _, a := range v.pending {
		if !all && a.sent {
			continue
		}
		a.sent = true
		told := map[int]bool{v.self: true}
		for i := 0; i < len(g.s.voters) && len(told) < g.s.plan.r+2; i++ {
			to := v.replica.LeaderAfter(i)
			if to == v.self && i == 0 && !v.replica.EndedView() {
				break
			}
			if !told[to] {
				told[to] = true
				g.sendAgreement(agreement.Outgoing{To: to, Message: &agreement.Message{Kind: agreement.Request, Value: a.raw}})
			}
		}
	}
}

func (g *gateway) decide(d *agreement.Decision) {
	b, err := rpc.SealDecision(d.Value, d.View, v0name, d.Signature)
	if err != nil {
		g.s.fail("%s cannot seal a decision: %v", g.name, err)
		return
	}
	if g.s.off.forgetting() && g.s.rough(0.5) { // nobody else is told
		for _, n := range g.s.neighbours(g.node) {
			if n.gw != nil {
				g.s.cut(g.node, n, 3*time.Second)
			}
		}
	}
	g.append(b)
}

const v0name = "fake"

// answer is what the voter answers to an instance that started, with the block
// that it voted for taken in.
func (g *gateway) answer(of signalbox.Service, id signalbox.Identity) (a rpc.Answer, ok bool) {
	v := g.voter
	if v.liar != nil {
		return rpc.Answer{}, true
	}
	if !g.up || v.replica == nil {
		return a, false
	}
	a = g.book.Answer(of, id)
	raw := v.replica.VotedFor()
	if raw == nil || g.s.off == AnswersLeaveVoteOut {
		return a, true
	}
	if voted, err := rpc.DecodeBlock(raw); err == nil && voted.Index > g.book.Index() {
		if h := voted.Handover(of); h != nil {
			a.Index, a.Allowed = voted.Index, h.Allowed
		}
		if handover.Doubts(voted, of, id) {
			a.Beyond = voted.Index
		}
	}
	return a, true
}
