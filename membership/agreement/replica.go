package agreement

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// A Replica is one voter. Not safe for concurrent use.
type Replica struct {
	cfg Config
	// hint is the leader of the slot's first view; the next views' follow it.
	hint int
	st   State
	// kept is a state of a later slot than the log has: nothing is voted for
	// until the log is there.
	kept *State

	// What is known of the slot beyond the state; a restart may lose it.
	decided bool
	pending bool
	// As leader of the view: the shares, and the certificate made of the first.
	ones, twos map[int]signature.Share
	certified  *Quorum
	// wants is the digest of the block that has to be proposed again and is not
	// here; justify is its certificate.
	wants   signalbox.Digest
	justify *Quorum
	// ended is every voter's highest timeout of the slot.
	ended map[int]*Message
	// began is when the view's clock was started; deadline ends the view, resend
	// repeats what was not answered; zero: never.
	began, deadline, resend time.Time
	// lost says since when voters cannot be reached; see SetUnreachable.
	lost  map[int]time.Time
	now   time.Time
	out   Effects
	dirty bool
}

// New returns a replica that is about to decide slot. hint is the proposer of
// the slot before it. state is what was persisted last, nil for none. Errors
// wrap ErrInvalid; a replica is not made from a configuration that no cluster
// can have.
func New(cfg Config, slot uint64, hint int, state *State, now time.Time) (*Replica, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg.withDefaults(), now: now}
	if state != nil && state.Epoch == cfg.Epoch && state.Slot > slot {
		r.kept = state
	}
	r.begin(slot, hint)
	if state != nil && state.Epoch == cfg.Epoch && state.Slot == slot {
		r.resume(state)
	}
	return r, nil
}

func (r *Replica) begin(slot uint64, hint int) {
	r.hint = ((hint % r.cfg.Voters) + r.cfg.Voters) % r.cfg.Voters
	r.st = State{Epoch: r.cfg.Epoch, Slot: slot, View: 1}
	r.decided, r.wants, r.ended = false, signalbox.Digest{}, map[int]*Message{}
	r.deadline, r.resend = time.Time{}, time.Time{}
	r.newView()
	if r.kept != nil && r.kept.Slot == slot {
		r.resume(r.kept)
	}
	if r.kept != nil && r.kept.Slot <= slot {
		r.kept = nil
	}
}

func (r *Replica) resume(state *State) {
	r.st = *state
	r.newView()
	if r.leading(r.st.View) && r.st.Ended < r.st.View {
		// It goes on leading: what it counted is lost, the votes come again.
		high := uint64(0)
		if r.st.Change != nil {
			high = r.st.Change.highest()
		}
		switch r.st.Lock.view() {
		case r.st.View:
			r.certified = r.st.Lock
		case high:
			r.justify = r.st.Lock
		}
		r.repeatLater()
	}
	r.wait()
}

// newView forgets what belongs to the view before.
func (r *Replica) newView() {
	r.ones, r.twos = map[int]signature.Share{}, map[int]signature.Share{}
	r.certified, r.justify, r.wants = nil, nil, signalbox.Digest{}
	r.resend = time.Time{}
}

// Slot is the slot that is being decided, View the view that this voter is in.
func (r *Replica) Slot() uint64 { return r.st.Slot }

// View is the view that this voter is in, from 1 on.
func (r *Replica) View() uint64 { return r.st.View }

// Leader leads the current view.
func (r *Replica) Leader() int { return r.leader(r.st.View) }

// LeaderAfter leads the view that many views later.
func (r *Replica) LeaderAfter(views int) int { return r.leader(r.st.View + uint64(views)) }

// EndedView reports whether this voter has ended the view that it is in: it has
// no vote there any more, and proposes nothing, also when it leads.
func (r *Replica) EndedView() bool { return r.st.Ended >= r.st.View }

func (r *Replica) leader(view uint64) int {
	if r.cfg.lead != nil {
		return r.cfg.lead(view)
	}
	n := uint64(r.cfg.Voters)
	return int((uint64(r.hint) + (view-1)%n) % n)
}

// Votes reports whether this voter takes part in the slot: not while its log or
// its memory is older than its votes may be.
func (r *Replica) Votes() bool { return r.kept == nil && r.st.Slot >= r.cfg.NotBefore }

// VotedFor is the value of the slot that this voter voted 2 for, so that it may
// be decided already; nil when there is none. It counts once its state is on the
// disk.
func (r *Replica) VotedFor() []byte {
	if r.st.VotedTwo == 0 {
		return nil
	}
	return r.st.Locked
}

// NeedsValue reports whether this replica leads and may propose any value.
func (r *Replica) NeedsValue() bool {
	return r.Votes() && !r.decided && r.Leader() == r.cfg.Self && r.st.Ended < r.st.View && r.st.VotedOne < r.st.View &&
		(r.st.View == 1 || r.st.Change != nil && r.st.Change.highest() == 0)
}

// active reports whether the slot has begun.
func (r *Replica) active() bool {
	return r.pending || r.st.VotedOne > 0 || r.st.Ended > 0 || r.st.View > 1
}

// SetPending says whether anything waits to be decided; while it does, a leader
// that does nothing is replaced.
func (r *Replica) SetPending(pending bool, now time.Time) {
	r.now, r.pending = now, pending
	r.wait()
}

// Advance says that all slots before slot are decided, and in the caller's log;
// hint is the proposer of the last of them.
func (r *Replica) Advance(slot uint64, hint int, now time.Time) {
	if slot <= r.st.Slot {
		return
	}
	r.now = now
	r.begin(slot, hint)
	r.wait()
}

// Propose gives the value that NeedsValue asked for; it must be valid.
func (r *Replica) Propose(value []byte, now time.Time) (Effects, error) {
	r.now = now
	if !r.NeedsValue() || len(value) > MaxValue {
		return Effects{}, fmt.Errorf("%w: not the leader of slot %d, view %d, or a value of %d bytes", signalbox.ErrInvalid, r.st.Slot, r.st.View, len(value))
	}
	err := r.propose(value, nil)
	return r.flush(), err
}

// Step takes a message from another voter; the caller knows who it is from. An
// error says why the message was refused; it wraps ErrInvalid or ErrUntrusted
// when its sender lies, ErrConflict when it comes from another time. Effects
// count all the same.
func (r *Replica) Step(from int, m *Message, now time.Time) (Effects, error) {
	r.now = now
	err := r.step(from, m)
	if err != nil {
		err = fmt.Errorf("%s of voter %d for slot %d, view %d: %w", m.Kind, from, m.Slot, m.View, err)
	}
	r.wait()
	return r.flush(), err
}

func (r *Replica) step(from int, m *Message) error {
	switch {
	case from < 0 || from >= r.cfg.Voters || from == r.cfg.Self:
		return fmt.Errorf("%w: from voter %d", signalbox.ErrInvalid, from)
	case m.Epoch != r.cfg.Epoch && r.cfg.holds(EpochSigned):
		return fmt.Errorf("%w: epoch %d, this is %d", signalbox.ErrConflict, m.Epoch, r.cfg.Epoch)
	case m.Slot != r.st.Slot:
		return fmt.Errorf("%w: slot %d is next", signalbox.ErrConflict, r.st.Slot)
	case r.decided:
		return nil
	case m.Kind == Decided:
		return r.onDecided(m)
	case m.Kind == Want:
		return r.onWant(from, m)
	case !r.Votes():
		return fmt.Errorf("%w: not voting before slot %d", signalbox.ErrConflict, r.cfg.NotBefore)
	}
	switch m.Kind {
	case Proposal:
		return r.onProposal(from, m)
	case VoteOne:
		return r.onVoteOne(from, m)
	case Certified:
		return r.onCertified(m)
	case VoteTwo:
		return r.onVoteTwo(from, m)
	case Timeout:
		return r.onTimeout(from, m)
	case Value:
		return r.onValue(m)
	}
	return fmt.Errorf("%w: kind %d", signalbox.ErrInvalid, m.Kind)
}

// flush returns what the call wants done.
func (r *Replica) flush() Effects {
	out := r.out
	if r.dirty {
		st := r.st
		out.Persist = &st
	}
	r.out, r.dirty = Effects{}, false
	return out
}

func (r *Replica) send(to int, m *Message) {
	m.Epoch, m.Slot = r.cfg.Epoch, r.st.Slot
	if to == Everyone && r.cfg.Voters == 1 {
		return
	}
	r.out.Send = append(r.out.Send, Outgoing{To: to, Message: m})
}

// resendAfter is the part of a view's time after which it is repeated what was
// not answered.
const resendAfter = 4

func (r *Replica) repeatLater() {
	r.resend = r.now.Add(r.cfg.timeout(r.st.View) / resendAfter)
}

// addShare verifies a voter's share and keeps it; it returns the shares, in the
// voters' order, when they are a quorum.
func (r *Replica) addShare(to map[int]signature.Share, voter int, input, share []byte) ([]signature.Share, error) {
	if err := r.cfg.verifyShare(voter, input, share); err != nil {
		return nil, err
	}
	to[voter] = signature.Share{Voter: voter, Signature: share}
	if len(to) < r.cfg.quorum() {
		return nil, nil
	}
	out := make([]signature.Share, 0, len(to))
	for _, s := range to {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b signature.Share) int { return a.Voter - b.Voter })
	return out[:r.cfg.quorum()], nil
}
