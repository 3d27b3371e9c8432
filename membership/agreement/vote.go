package agreement

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
)

// propose votes 1 for a value and proposes it, as leader of the view.
func (r *Replica) propose(value []byte, justify *Quorum) error {
	share, err := r.voteOne(value)
	if err != nil {
		return err
	}
	r.justify = justify
	r.repeatLater()
	r.send(Everyone, r.proposal())
	return r.countOne(r.cfg.Self, share)
}

func (r *Replica) proposal() *Message {
	return &Message{Kind: Proposal, View: r.st.View, Value: r.st.Value, Quorum: r.justify, Change: r.st.Change}
}

// voteOne makes this voter's vote 1 of the view.
func (r *Replica) voteOne(value []byte) ([]byte, error) {
	share, err := r.cfg.Scheme.Sign(r.cfg.voteOneInput(r.st.Slot, r.st.View, digestOf(value)))
	if err != nil {
		return nil, fmt.Errorf("vote 1: %w", err)
	}
	r.st.VotedOne, r.st.Value, r.dirty = r.st.View, value, true
	return share.Signature, nil
}

// onProposal votes 1 for what the view's leader proposes, when nothing else can
// have been decided.
func (r *Replica) onProposal(from int, m *Message) error {
	digest := digestOf(m.Value)
	switch {
	case from != r.leader(m.View):
		return fmt.Errorf("%w: voter %d leads", signalbox.ErrUntrusted, r.leader(m.View))
	case m.View < r.st.View:
		return fmt.Errorf("%w: this is view %d", signalbox.ErrConflict, r.st.View)
	case m.View <= r.st.Ended && r.cfg.holds(NoVoteOneAfterTimeout):
		return fmt.Errorf("%w: the view was ended", signalbox.ErrConflict)
	case m.View == r.st.VotedOne && digest == digestOf(r.st.Value):
		return r.repeatOne(from) // our vote was lost
	case m.View <= r.st.VotedOne && r.cfg.holds(OneVoteOne):
		return fmt.Errorf("%w: a second block in a view", signalbox.ErrUntrusted)
	}
	if err := r.justified(m, digest); err != nil {
		return err
	}
	// A certificate says that a quorum has looked at the block already. What
	// may be decided must not depend on what only this voter holds against it.
	if m.Quorum == nil && r.cfg.holds(Validated) {
		if err := r.cfg.Validate(r.st.Slot, from, m.Value); err != nil {
			return err
		}
	}
	r.enter(m.View, m.Change)
	share, err := r.voteOne(m.Value)
	if err == nil {
		r.send(from, &Message{Kind: VoteOne, View: m.View, Share: share})
	}
	return err
}

// repeatOne repeats the vote 1 that is on the disk.
func (r *Replica) repeatOne(leader int) error {
	share, err := r.cfg.Scheme.Sign(r.cfg.voteOneInput(r.st.Slot, r.st.VotedOne, digestOf(r.st.Value)))
	if err == nil {
		r.send(leader, &Message{Kind: VoteOne, View: r.st.VotedOne, Share: share.Signature})
	}
	return err
}

// justified: a slot's first view may propose anything. Any other needs proof
// that a quorum ended the one before, and proposes the block of the highest
// certificate that any of them names; anything, when they name none.
func (r *Replica) justified(m *Message, digest signalbox.Digest) error {
	if m.View == 1 || m.Change == nil && !r.cfg.holds(ChangeNeeded) {
		if m.Quorum != nil {
			return fmt.Errorf("%w: a certificate from before the first view", signalbox.ErrInvalid)
		}
		return nil
	}
	if m.Change == nil || m.Change.View != m.View-1 {
		return fmt.Errorf("%w: no proof that the view before was ended", signalbox.ErrUntrusted)
	}
	if err := r.cfg.verifyChange(r.st.Slot, m.Change); err != nil {
		return err
	}
	if m.Quorum.view() != m.Change.highest() && r.cfg.holds(ProposeHighest) {
		return fmt.Errorf("%w: proposed by the certificate of view %d, the voters name view %d", signalbox.ErrUntrusted, m.Quorum.view(), m.Change.highest())
	}
	if m.Quorum == nil || !r.cfg.holds(HighestProven) {
		return nil
	}
	if m.Quorum.Digest != digest {
		return fmt.Errorf("%w: the certificate is another block's", signalbox.ErrUntrusted)
	}
	return r.cfg.verifyCertified(r.st.Slot, m.Quorum)
}

func (r *Replica) onVoteOne(from int, m *Message) error {
	if !r.leading(m.View) || r.certified != nil {
		return nil // late, or repeated
	}
	return r.countOne(from, m.Share)
}

// leading reports whether the view is the current one, and this voter proposed
// in it.
func (r *Replica) leading(view uint64) bool {
	return view == r.st.View && r.leader(view) == r.cfg.Self && r.st.VotedOne == view
}

// countOne counts a vote 1; a quorum of them certifies the block, and the leader
// votes 2 for it.
func (r *Replica) countOne(from int, share []byte) error {
	digest := digestOf(r.st.Value)
	shares, err := r.addShare(r.ones, from, r.cfg.voteOneInput(r.st.Slot, r.st.View, digest), share)
	if err != nil || shares == nil || r.st.Ended >= r.st.View {
		return err
	}
	combined, err := r.cfg.Scheme.Combine(shares)
	if err != nil {
		return fmt.Errorf("combine votes 1: %w", err)
	}
	r.certified = &Quorum{View: r.st.View, Digest: digest, Signature: combined}
	own, err := r.voteTwo(r.certified)
	if err != nil {
		return err
	}
	r.repeatLater()
	r.send(Everyone, &Message{Kind: Certified, View: r.st.View, Quorum: r.certified})
	return r.countTwo(r.cfg.Self, own)
}

// voteTwo locks on a certificate of the view's block and makes this voter's vote
// 2 for it.
func (r *Replica) voteTwo(q *Quorum) ([]byte, error) {
	share, err := r.cfg.Scheme.Sign(r.cfg.voteTwoInput(q.View, r.st.Value))
	if err != nil {
		return nil, fmt.Errorf("vote 2: %w", err)
	}
	r.st.Lock, r.st.Locked = q, r.st.Value
	r.st.VotedTwo, r.dirty = q.View, true
	return share.Signature, nil
}

// onCertified votes 2 for the block that this voter voted 1 for in this view.
func (r *Replica) onCertified(m *Message) error {
	q := m.Quorum
	switch {
	case q.View != m.View || m.View < r.st.View:
		return fmt.Errorf("%w: this is view %d", signalbox.ErrConflict, r.st.View)
	case m.View <= r.st.Ended && r.cfg.holds(NoVoteTwoAfterTimeout):
		return fmt.Errorf("%w: the view was ended", signalbox.ErrConflict)
	case r.st.VotedOne != m.View || digestOf(r.st.Value) != q.Digest:
		return fmt.Errorf("%w: the block is not here", signalbox.ErrConflict) // the leader repeats it
	case m.View <= r.st.VotedTwo && r.st.Lock.view() == m.View && r.st.Lock.Digest == q.Digest:
		return r.repeatTwo() // our vote was lost
	case m.View <= r.st.VotedTwo && r.cfg.holds(OneVoteTwo):
		return fmt.Errorf("%w: a second certificate in a view", signalbox.ErrUntrusted)
	}
	if r.cfg.holds(CertifiedBeforeTwo) {
		if err := r.cfg.verifyCertified(r.st.Slot, q); err != nil {
			return err
		}
	}
	share, err := r.voteTwo(q)
	if err == nil {
		r.send(r.leader(m.View), &Message{Kind: VoteTwo, View: m.View, Share: share})
	}
	return err
}

// repeatTwo repeats the vote 2 that is on the disk.
func (r *Replica) repeatTwo() error {
	view := r.st.Lock.View
	share, err := r.cfg.Scheme.Sign(r.cfg.voteTwoInput(view, r.st.Locked))
	if err == nil {
		r.send(r.leader(view), &Message{Kind: VoteTwo, View: view, Share: share.Signature})
	}
	return err
}

func (r *Replica) onVoteTwo(from int, m *Message) error {
	if !r.leading(m.View) || r.certified == nil {
		return nil // late, or repeated
	}
	return r.countTwo(from, m.Share)
}

// countTwo counts a vote 2; a quorum of them is the decision.
func (r *Replica) countTwo(from int, share []byte) error {
	shares, err := r.addShare(r.twos, from, r.cfg.voteTwoInput(r.st.View, r.st.Value), share)
	if err != nil || shares == nil {
		return err
	}
	combined, err := r.cfg.Scheme.Combine(shares)
	if err != nil {
		return fmt.Errorf("combine votes 2: %w", err)
	}
	q := &Quorum{View: r.st.View, Digest: r.certified.Digest, Signature: combined}
	r.send(Everyone, &Message{Kind: Decided, View: r.st.View, Quorum: q})
	r.decide(q, r.st.Value)
	return nil
}

// onDecided takes a decision certificate of a block that is here. Others come
// with the log.
func (r *Replica) onDecided(m *Message) error {
	value := r.valueOf(m.Quorum.Digest)
	if value == nil {
		return fmt.Errorf("%w: the block is not here", signalbox.ErrConflict)
	}
	if err := r.cfg.Scheme.VerifyQuorum(r.cfg.Scheme.Name(), r.cfg.voteTwoInput(m.Quorum.View, value), m.Quorum.Signature); err != nil {
		return err
	}
	r.decide(m.Quorum, value)
	return nil
}

func (r *Replica) decide(q *Quorum, value []byte) {
	r.decided = true
	r.out.Decide = &Decision{Slot: r.st.Slot, View: q.View, Value: value, Digest: q.Digest, Signature: q.Signature}
	r.deadline, r.resend = time.Time{}, time.Time{}
}

// valueOf returns the value of a digest, nil when it is not here.
func (r *Replica) valueOf(d signalbox.Digest) []byte {
	if r.st.VotedOne > 0 && digestOf(r.st.Value) == d {
		return r.st.Value
	}
	if r.st.Lock != nil && r.st.Lock.Digest == d {
		return r.st.Locked
	}
	return nil
}
