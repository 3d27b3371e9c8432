package agreement

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Tick does what is due: ends a view that took too long, repeats what was not
// answered.
func (r *Replica) Tick(now time.Time) (Effects, error) {
	r.now = now
	var err error
	switch {
	case r.decided || !r.Votes():
	case !r.deadline.IsZero() && !now.Before(r.deadline):
		r.began, r.deadline = now, now.Add(r.cfg.timeout(r.st.View))
		if r.st.Ended < r.st.View {
			err = r.endView(r.st.View)
		} else {
			err = r.tellEnded() // nobody has heard, or too few
		}
	case !r.resend.IsZero() && !now.Before(r.resend):
		err = r.repeat()
	}
	r.wait()
	return r.flush(), err
}

// repeat sends again what was not answered.
func (r *Replica) repeat() error {
	r.repeatLater()
	switch {
	case r.st.Ended >= r.st.View:
		return r.tellEnded()
	case r.wants != signalbox.Digest{}:
		r.want()
	case r.leading(r.st.View):
		for voter := range r.cfg.Voters {
			if voter == r.cfg.Self {
				continue
			}
			_, one := r.ones[voter]
			_, two := r.twos[voter]
			if !one && !two && (r.justify != nil || r.st.View == 1 || r.st.Change != nil && r.st.Change.highest() == 0) {
				r.send(voter, r.proposal())
			}
			if r.certified != nil && !two {
				r.send(voter, &Message{Kind: Certified, View: r.st.View, Quorum: r.certified})
			}
		}
	}
	return nil
}

// endView times out of a view: no vote in it, or in an earlier one, from now on.
func (r *Replica) endView(view uint64) error {
	if view > r.st.View {
		r.st.View, r.st.Change = view, nil
		r.newView()
		r.began, r.deadline = r.now, r.now.Add(r.cfg.timeout(view))
	}
	r.st.Ended, r.dirty = view, true
	m, err := r.timeoutMessage()
	if err != nil {
		return err
	}
	r.ended[r.cfg.Self] = m
	r.repeatLater()
	r.send(Everyone, m)
	return r.countEnded()
}

func (r *Replica) timeoutMessage() (*Message, error) {
	m := &Message{Kind: Timeout, View: r.st.Ended, Quorum: r.st.Lock}
	if !r.cfg.holds(TimeoutTellsLock) {
		m.Quorum = nil
	}
	if r.st.Change != nil && r.st.Change.View == r.st.Ended-1 {
		m.Change = r.st.Change
	}
	share, err := r.cfg.Scheme.Sign(r.cfg.timeoutInput(r.st.Slot, r.st.Ended, m.Quorum.view()))
	if err != nil {
		return nil, fmt.Errorf("end view: %w", err)
	}
	m.Share = share.Signature
	return m, nil
}

// tellEnded repeats the own timeout; after a restart it is made again, of the
// same state, and counted: the others' may have come before.
func (r *Replica) tellEnded() error {
	m, made := r.ended[r.cfg.Self], false
	if m == nil || m.View != r.st.Ended {
		var err error
		if m, err = r.timeoutMessage(); err != nil {
			return fmt.Errorf("repeat the end of a view: %w", err)
		}
		r.ended[r.cfg.Self], made = m, true
	}
	r.repeatLater()
	r.send(Everyone, m)
	if made {
		return r.countEnded()
	}
	return nil
}

// onTimeout keeps a voter's word that it ended a view. One that lies about its
// newest certificate has to show it.
func (r *Replica) onTimeout(from int, m *Message) error {
	if before := r.ended[from]; before != nil && before.View >= m.View {
		return nil // repeated, or late
	}
	high := m.Quorum.view()
	if high > m.View {
		return fmt.Errorf("%w: a certificate of view %d at the end of view %d", signalbox.ErrInvalid, high, m.View)
	}
	if err := r.cfg.verifyShare(from, r.cfg.timeoutInput(r.st.Slot, m.View, high), m.Share); err != nil {
		return err
	}
	if m.Quorum != nil {
		if err := r.cfg.verifyCertified(r.st.Slot, m.Quorum); err != nil {
			return err
		}
	}
	r.ended[from] = m
	if c := m.Change; c != nil && c.View >= r.st.View {
		if err := r.cfg.verifyChange(r.st.Slot, c); err != nil {
			return err
		}
		if err := r.follow(c); err != nil {
			return err
		}
	}
	return r.countEnded()
}

// countEnded joins the end of a view that r + 1 voters ended, one of them
// honest, and enters the next one when a quorum ended it.
func (r *Replica) countEnded() error {
	var views []uint64
	for _, m := range r.ended {
		views = append(views, m.View)
	}
	slices.Sort(views)
	if i := len(views) - 1 - r.cfg.Lying(); i >= 0 && views[i] >= r.st.View && views[i] > r.st.Ended {
		return r.endView(views[i])
	}
	for i := len(views) - 1; i >= 0 && views[i] >= r.st.View; i-- {
		if c := r.changeOf(views[i]); c != nil {
			return r.follow(c)
		}
	}
	return nil
}

// changeOf makes the proof that a quorum ended a view, nil without one.
func (r *Replica) changeOf(view uint64) *Change {
	c := &Change{View: view}
	for voter := range r.cfg.Voters {
		if m := r.ended[voter]; m != nil && m.View == view && len(c.Ended) < r.cfg.quorum() {
			c.Ended = append(c.Ended, Ended{Voter: voter, High: m.Quorum.view(), Share: m.Share})
		}
	}
	if len(c.Ended) < r.cfg.quorum() {
		return nil
	}
	return c
}

// follow enters the view after a proven end, and proposes when it leads: the
// highest certificate's block again, or whatever the caller gives next.
func (r *Replica) follow(c *Change) error {
	r.enter(c.View+1, c)
	if r.leader(r.st.View) != r.cfg.Self || r.st.VotedOne >= r.st.View || r.st.Ended >= r.st.View || c.highest() == 0 {
		return nil
	}
	r.justify = r.certificateOf(c.highest())
	if r.justify == nil {
		return nil // it came by a proof alone; the next view's leader has more luck
	}
	if value := r.valueOf(r.justify.Digest); value != nil {
		return r.propose(value, r.justify)
	}
	r.wants = r.justify.Digest
	r.want()
	return nil
}

// certificateOf finds the certificate of a view among the timeouts.
func (r *Replica) certificateOf(view uint64) *Quorum {
	if r.st.Lock.view() == view {
		return r.st.Lock
	}
	for voter := range r.cfg.Voters {
		if m := r.ended[voter]; m != nil && m.Quorum.view() == view {
			return m.Quorum
		}
	}
	return nil
}

// enter goes into a later view.
func (r *Replica) enter(view uint64, c *Change) {
	if view < r.st.View || view == r.st.View && (c == nil || r.st.Change != nil) {
		return
	}
	if view == r.st.View {
		r.st.Change = c // it had come here without the proof
		return
	}
	r.st.View, r.st.Change, r.dirty = view, c, true
	r.newView()
	r.startClock()
}

// want asks those who say that they have the certificate for its block.
func (r *Replica) want() {
	r.repeatLater()
	for voter := range r.cfg.Voters {
		if m := r.ended[voter]; voter != r.cfg.Self && m != nil && m.Quorum != nil && m.Quorum.Digest == r.wants {
			r.send(voter, &Message{Kind: Want, View: r.st.View, Digest: r.wants})
		}
	}
}

func (r *Replica) onWant(from int, m *Message) error {
	if value := r.valueOf(m.Digest); value != nil {
		r.send(from, &Message{Kind: Value, View: m.View, Value: value})
	}
	return nil
}

// onValue proposes the block that was asked for.
func (r *Replica) onValue(m *Message) error {
	if r.justify == nil || r.wants != digestOf(m.Value) || r.st.Ended >= r.st.View || r.st.VotedOne >= r.st.View {
		return nil
	}
	r.wants = signalbox.Digest{}
	return r.propose(m.Value, r.justify)
}
