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
	name    string
	bundle  bool // it was installed with the key of one of the first voters
	seat    seat
	disk    voterDisk
	keys    int                // counts those that it made
	lost    bool               // its disk, and it has not come back
	locked  []byte             // the block that it voted for last, of which it was looked at whether it changes the voters
	replica *agreement.Replica // nil while it may not vote
	pending []*ask
	seen    uint64 // index up to which the log was compared with pending
	fill    bool
	place   [2]uint64 // slot and view that the pending requests were forwarded in
	again   time.Time
	said    map[*gateway]standing // of this start, and this set
	grantor *lease.Grantor
	clock   clock
	liar    *liar
}

type voterDisk struct {
	votes  []byte
	begun  bool
	silent uint64 // slot up to which it does not vote
	within uint64 // the epoch that silent is of
	leases lease.Saved
	leased uint64 // the epoch that leases are of
	keys   []int  // that it made, beside the journal
	made   []int  // those that the journal notes
	// restored: the journal is a backup's.
	restored bool
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

// startVoter makes the replica and the grantor of a voter that knows that it forgot
// nothing.
func (g *gateway) startVoter() {
	v := g.voter
	if !g.startLessor() {
		return
	}
	set := v.seat.set
	r, err := agreement.New(agreement.Config{
		Cluster: cluster, Epoch: set.Epoch, Self: v.seat.self, Voters: len(set.Voters), Unavailable: set.Unavailable, Scheme: v.seat.scheme,
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
	for g.up && v.replica != nil {
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
	if r.Voters != nil {
		return g.checkVoters(r)
	}
	err := g.book.CheckAt(r, g.s.now)
	g.sameState(r, err)
	return err
}

// build makes the next block, as journal.Member does.
func (g *gateway) build() []byte {
	b := &signalbox.Block{
		Cluster: cluster, Epoch: g.voter.seat.epoch(), Index: g.book.Index() + 1, Prev: g.book.Digest(), At: g.s.now,
		Proposer: uint32(g.voter.seat.self),
	}
	seen := map[signalbox.Service]bool{}
	for _, a := range g.voter.pending {
		s := a.request.Service()
		if a.request.Voters != nil && len(b.Requests) > 0 || seen[s] || g.decidedAlready(&a.request) || g.check(&a.request) != nil {
			continue
		}
		seen[s] = true
		b.Requests = append(b.Requests, a.request)
		if a.request.Voters != nil {
			break // alone
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
	if err := g.validate(b.Index, g.voter.seat.self, raw); err != nil {
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
	if b.Cluster != cluster || b.Epoch != g.voter.seat.epoch() || b.Index != slot || int(b.Proposer) != proposer {
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
	if g.s.off == RosterUnchecked || g.s.off == AdmitsWhileOpen || g.s.off == SilenceRemoves || g.s.off == OldVotersDecideOn {
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
	if !g.stopFor(e.Persist) {
		return
	}
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
		if g.s.off == OldKeyBelieved {
			g.restoresJournal()
			return
		}
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
	seat := &g.voter.seat
	for i, to := range seat.who {
		if i == seat.self || o.To != agreement.Everyone && o.To != i {
			continue
		}
		if g.voter.liar != nil && g.s.rough(0.3) {
			continue // withheld
		}
		g.s.post(g.node, to.node, func() { to.heard(g, m) })
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

// heard takes a message of another gateway, as that of the voter which it is by the
// own log.
func (g *gateway) heard(from *gateway, m *agreement.Message) {
	if !g.up {
		return
	}
	if l := g.voter.liar; l != nil {
		l.hear(from, m)
	}
	place := g.voter.seat.of(from)
	if place < 0 {
		return
	}
	if m.Kind == agreement.Request {
		g.requested(m)
		return
	}
	if g.voter.replica == nil {
		return
	}
	g.carry(g.voter.replica.Step(place, m, g.s.now))
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
		told := map[int]bool{v.seat.self: true}
		for i := 0; i < len(v.seat.who) && len(told) < v.seat.set.Lying+2; i++ {
			to := v.replica.LeaderAfter(i)
			if to == v.seat.self && i == 0 && !v.replica.EndedView() {
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
	if b.Voters() != nil && b.Index > uint64(len(g.s.oracle.log)) {
		g.s.provokeChange(g, b.Voters())
	}
	g.append(b)
}

const v0name = "fake"

// stopFor: before a vote 2 for other voters is on the disk the voter grants no more
// leases, as journal.Member has it.
func (g *gateway) stopFor(st *agreement.State) bool {
	v := g.voter
	if g.s.plan.changes == 0 || st == nil || st.VotedTwo == 0 || v.grantor == nil || g.s.off == OldVotersGrantOn {
		return true
	}
	if len(v.locked) > 0 && &v.locked[0] == &st.Locked[0] {
		return true
	}
	v.locked = st.Locked
	b, err := rpc.DecodeBlock(st.Locked)
	if err != nil {
		g.s.fail("%s cannot read the block that it votes for: %v", g.name, err)
		return false
	}
	if b.Voters() == nil {
		return true
	}
	g.s.Stats["stops of leases"]++
	return g.keepLease(v.grantor.Stop(b.Index))
}

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
	a.Epoch = v.seat.epoch()
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
		if c := voted.Voters(); c != nil {
			a.Epoch = c.Epoch // they may decide already
		}
	}
	return a, true
}
