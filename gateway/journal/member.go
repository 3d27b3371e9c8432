package journal

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// MemberOptions are what a member of the voter set needs.
type MemberOptions struct {
	Journal *Journal
	// Scheme holds this voter's key; Key is its Ed25519 key, for answers.
	Scheme signature.Scheme
	Key    ed25519.PrivateKey
	Epoch  uint64
	// Name is this voter's, of Voters, which are in the voter set's order.
	Name   string
	Voters []string
	// Unavailable is how many voters may be away (u).
	Unavailable int
	// Timeout is how long the first view of a slot may take; zero: the default.
	Timeout time.Duration
	// UnreachableTimeout is the same for a view whose leader cannot be reached, by
	// Links. Zero: the default. Links: optional.
	UnreachableTimeout time.Duration
	Links              *Links
	// Send queues a message for another voter; it may be lost.
	Send func(voter string, raw []byte)
	// Standings asks the other voters what they say of themselves; those that do
	// not answer are missing.
	Standings func(ctx context.Context) map[string]Standing
	// Newest asks all gateways for the newest block that any of them has: a log is
	// new only when nobody has one, whoever votes. Optional.
	Newest func(ctx context.Context) uint64
	// Stop ends granting leases until a slot is decided, durably: this voter is about
	// to vote there for other voters. nil: it grants none.
	Stop   func(slot uint64) error
	Logger zerolog.Logger
	// Refused counts what was refused, by reason. Optional.
	Refused func(reason string)
}

// Maxima of what waits for a member.
const (
	maxMail    = 4096
	maxPending = 1024
)

// A Member is a voter among several: it has requests decided by agreement with
// the others, and answers instances. Run it; everything else may be called from
// any goroutine.
//
// Guarantees: what Propose returned was voted for by a quorum that had it on
// stable storage before, and is in this journal; no message leaves before the
// votes that it is about are on this voter's disk; nothing is voted for that
// this voter cannot check from its log.
type Member struct {
	opt   MemberOptions
	self  int
	mail  chan letter
	asked chan *ask
	// done holds a channel that is closed when the run ends: nothing is decided here
	// any more.
	done atomic.Pointer[chan struct{}]
	// voted is the block that this voter voted for and that may be decided
	// without its knowledge.
	voted atomic.Pointer[signalbox.Block]
	// waiting counts the calls of Propose that wait.
	waiting atomic.Int64

	// The rest belongs to Run's goroutine.
	replica *agreement.Replica
	pending *pending
	fills   map[int]*fills
	fill    bool
	sent    place // where the pending requests were forwarded for last
	again   time.Time
	begun   int // streams to others, of Links
	comeback
}

type letter struct {
	from int
	raw  []byte
}

// place is a view of a slot.
type place struct{ slot, view uint64 }

// NewMember returns the voter that the options describe. Errors wrap ErrInvalid.
func NewMember(opt MemberOptions) (*Member, error) {
	if opt.Refused == nil {
		opt.Refused = func(string) {}
	}
	m := &Member{
		opt: opt, self: -1, mail: make(chan letter, maxMail), asked: make(chan *ask, maxPending),
		pending: newPending(), fills: map[int]*fills{},
	}
	done := make(chan struct{})
	m.done.Store(&done)
	for i, name := range opt.Voters {
		if name == opt.Name {
			m.self = i
		}
	}
	if m.self < 0 {
		return nil, fmt.Errorf("%w: %s is none of the voters", signalbox.ErrInvalid, opt.Name)
	}
	if !opt.Journal.Begun() && opt.Journal.KeptKey(opt.Key.Public().(ed25519.PublicKey)) {
		if err := opt.Journal.begin(); err != nil { // the key is as new as the journal
			return nil, err
		}
	}
	if !opt.Journal.Begun() {
		opt.Journal.Doubt()
	}
	state, err := opt.Journal.state()
	if err != nil {
		return nil, fmt.Errorf("%w; if this voter's journal is damaged, restore a backup: signalbox journal restore", err)
	}
	m.keepVoted(state)
	return m, nil
}

// Receive takes a message from another voter, whose name the transport proved.
func (m *Member) Receive(from string, raw []byte) {
	for i, name := range m.opt.Voters {
		if name != from || i == m.self {
			continue
		}
		select {
		case m.mail <- letter{i, raw}:
		default: // it is repeated
			m.opt.Refused("agreement-overflow")
		}
		return
	}
	m.opt.Refused("agreement-no-voter")
}

// Standing says what this voter knows of its votes.
func (m *Member) Standing() (begun bool, voted uint64) {
	s := m.opt.Journal.Standing()
	return s.Begun, s.Voted
}

// over reports whether others than this voter's set decide the next block.
func (m *Member) over() (over bool) {
	m.opt.Journal.View(func(l *handover.Ledger) {
		now := l.Voters().Epoch
		over = now != 0 && now != m.opt.Epoch
	})
	return over
}

// Run votes until ctx or this voter's epoch ends. An error means that this voter
// cannot go on.
func (m *Member) Run(ctx context.Context) error {
	done := make(chan struct{})
	m.done.Store(&done)
	defer m.end(done)
	if err := m.comeBack(ctx); err != nil || ctx.Err() != nil || m.over() {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for m.opt.Journal.Failed() == nil {
		changed := m.opt.Journal.Changed()
		if m.over() {
			return nil
		}
		if err := m.keepUp(); err != nil {
			return err
		}
		linked := m.seeLinks(time.Now())
		timer.Reset(m.wait())
		select {
		case <-ctx.Done():
			return nil
		case <-linked:
		case l := <-m.mail:
			m.take(l)
		case a := <-m.asked:
			m.pending.add(a, time.Now())
		case <-changed:
		case <-timer.C:
			m.carry(m.replica.Tick(time.Now()))
		}
	}
	<-ctx.Done() // the gateway ends with the reason
	return nil
}

// start makes the replica, from the votes on the disk.
func (m *Member) start() error {
	state, err := m.opt.Journal.state()
	if err != nil {
		return err
	}
	slot, hint := m.next()
	m.replica, err = agreement.New(agreement.Config{
		Cluster: m.opt.Journal.trust.Cluster, Epoch: m.opt.Epoch, Self: m.self, Voters: len(m.opt.Voters), Unavailable: m.opt.Unavailable,
		Scheme: m.opt.Scheme, Validate: m.validate, Timeout: m.opt.Timeout, UnreachableTimeout: m.opt.UnreachableTimeout,
	}, slot, hint, state, time.Now())
	return err
}

// next is the slot after the log, and who built the newest block.
func (m *Member) next() (slot uint64, hint int) {
	index := m.opt.Journal.Index()
	if index == 0 {
		return 1, 0
	}
	if b, err := m.opt.Journal.Block(index); err == nil {
		hint = int(b.Proposer)
	}
	return index + 1, hint
}

// keepUp brings the replica to the log's end, answers what was decided, and
// proposes or forwards what is pending.
func (m *Member) keepUp() error {
	if m.opt.Journal.Index() >= m.replica.Slot() {
		slot, hint := m.next()
		m.replica.Advance(slot, hint, time.Now())
		m.voted.Store(nil)
		m.fill = false
	}
	now := time.Now()
	m.takeAsked(now)
	m.pending.settle(m.opt.Journal, now)
	m.replica.SetPending(!m.pending.empty() || m.fill, now)
	if m.replica.NeedsValue() {
		if block := m.build(now); block != nil {
			m.carry(m.replica.Propose(block, now))
			return m.opt.Journal.Failed()
		}
	}
	m.forward(now)
	return nil
}

// wait is how long nothing has to be done.
func (m *Member) wait() time.Duration {
	wait := time.Minute
	if d := m.replica.Deadline(); !d.IsZero() {
		wait = time.Until(d)
	}
	if !m.pending.empty() {
		wait = min(wait, time.Until(m.again), time.Second)
	}
	return max(wait, time.Millisecond)
}

// take steps the replica.
func (m *Member) take(l letter) {
	msg, err := agreement.Decode(l.raw)
	if err != nil {
		m.refuse(l.from, err)
		return
	}
	if msg.Kind == agreement.Request {
		m.takeRequest(l.from, msg)
		return
	}
	e, err := m.replica.Step(l.from, msg, time.Now())
	if err != nil {
		m.refuse(l.from, err)
	}
	m.carry(e, nil)
}

func (m *Member) refuse(from int, err error) {
	if errors.Is(err, signalbox.ErrConflict) {
		m.opt.Logger.Debug().Err(err).Msg("late message of the agreement")
		return
	}
	m.opt.Refused("agreement")
	m.opt.Logger.Warn().Err(err).Str("voter", m.opt.Voters[from]).Msg("refused message of the agreement")
}

// carry carries effects out, in their order: persist, then send, then decide.
func (m *Member) carry(e agreement.Effects, err error) {
	if err != nil {
		m.opt.Logger.Error().Err(err).Msg("agreement")
	}
	if err := m.stopFor(e.Persist); err != nil {
		m.opt.Logger.Error().Err(err).Msg("leases cannot be stopped: not voting for other voters")
		return
	}
	if e.Persist != nil {
		if err := m.opt.Journal.putState(e.Persist); err != nil {
			m.opt.Logger.Error().Err(err).Msg("votes cannot be kept: not voting")
			return
		}
		m.keepVoted(e.Persist)
	}
	for _, o := range e.Send {
		m.send(o)
	}
	if e.Decide != nil {
		m.decide(e.Decide)
	}
}

// stopFor: before a vote for other voters is on the disk, and so before it leaves,
// this voter grants no more leases (membership/agreement/DESIGN.md, "Changing the
// voters").
func (m *Member) stopFor(s *agreement.State) error {
	if s == nil || s.VotedTwo == 0 || m.opt.Stop == nil {
		return nil
	}
	b, err := rpc.DecodeBlock(s.Locked)
	if err != nil {
		return err
	}
	if b.Voters() == nil {
		return nil
	}
	return m.opt.Stop(b.Index)
}

// keepVoted notes the block that answers to instances have to take in: it is on
// the disk, and the vote has not left yet.
func (m *Member) keepVoted(s *agreement.State) {
	if s == nil || s.VotedTwo == 0 {
		return
	}
	b, err := rpc.DecodeBlock(s.Locked)
	if err != nil {
		m.opt.Logger.Error().Err(err).Msg("the block that was voted for cannot be read")
		return
	}
	m.voted.Store(b)
}

func (m *Member) send(o agreement.Outgoing) {
	raw, err := o.Message.Encode()
	if err != nil {
		m.opt.Logger.Error().Err(err).Msg("agreement")
		return
	}
	for i, name := range m.opt.Voters {
		if i != m.self && (o.To == agreement.Everyone || o.To == i) {
			m.opt.Send(name, raw)
		}
	}
}

// decide appends a decided block; the log may have it already.
func (m *Member) decide(d *agreement.Decision) {
	b, err := rpc.SealDecision(d.Value, d.View, m.opt.Scheme.Name(), d.Signature)
	if err == nil {
		err = m.opt.Journal.Append(b.Raw)
	}
	if err != nil {
		m.opt.Logger.Error().Err(err).Uint64("index", d.Slot).Msg("a decided block cannot be appended")
	}
}

// Answer replies to an instance's question like Voter.Answer, with the block
// that this voter voted for and that may be decided taken in (interlock rule 2).
func (m *Member) Answer(s signalbox.Service, id signalbox.Identity, nonce []byte) ([]byte, error) {
	if len(nonce) != rpc.NonceSize {
		return nil, fmt.Errorf("%w: nonce has %d bytes, want %d", signalbox.ErrInvalid, len(nonce), rpc.NonceSize)
	}
	if err := m.opt.Journal.mayVote(); err != nil {
		return nil, err
	}
	voted := m.voted.Load() // before the log: it may be decided meanwhile
	var a rpc.Answer
	var index, epoch uint64
	m.opt.Journal.View(func(l *handover.Ledger) { a, index, epoch = l.Answer(s, id), l.Index(), l.Voters().Epoch })
	if epoch != 0 && epoch != m.opt.Epoch {
		return nil, fmt.Errorf("%w: the voters were changed", signalbox.ErrUnavailable)
	}
	a.Epoch = m.opt.Epoch
	if voted != nil && voted.Index > index {
		if h := voted.Handover(s); h != nil {
			a.Index, a.Block, a.Allowed, a.Term = voted.Index, blockDigest(voted), h.Allowed, h.Term
		}
		if handover.Doubts(voted, s, id) {
			a.Beyond = voted.Index
		}
		if c := voted.Voters(); c != nil {
			a.Epoch = c.Epoch // they may decide already
		}
	}
	a.Voter, a.Nonce = m.opt.Name, nonce
	return rpc.SealAnswer(m.opt.Journal.trust.Cluster, a, m.opt.Key)
}

// blockDigest is of the bytes that DecodeBlock accepted: it takes only those
// that encode to themselves.
func blockDigest(b *signalbox.Block) signalbox.Digest {
	raw, err := rpc.EncodeBlock(b)
	if err != nil {
		return signalbox.Digest{}
	}
	return rpc.BlockDigest(raw)
}
