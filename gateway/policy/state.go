package policy

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
)

const (
	// MaxWaiting is how many orders of a service wait for approval at most.
	MaxWaiting = 16
	// MaxBroken is how many broken glasses of a service are kept here; the log
	// and the records have all of them.
	MaxBroken = 16
	// MaxStarted is the same of starts without a quorum.
	MaxStarted = 16
)

// A Paused is a pause with the time since when.
type Paused struct {
	signalbox.Pause
	Since time.Time
}

// Holds reports whether the pause holds at a time.
func (p *Paused) Holds(at time.Time) bool { return p != nil && at.Before(p.Until) }

// A Waiting is an order that waits for approval.
type Waiting struct {
	// Approval is what was asked for; its Order is set.
	signalbox.Approval
	At       time.Time
	Approved []Approved
	// Signed is the SHA-256 of the Mandate's proof: what an approval names.
	Signed signalbox.Digest
}

// Approved is one person's approval.
type Approved struct {
	By, Reason string
	At         time.Time
	// Key is the fingerprint of the key that signed it.
	Key signalbox.Identity
}

// Holds reports whether the order still waits, or stands approved, while term is
// certified.
func (w *Waiting) Holds(term signalbox.Term, at time.Time) bool {
	return w.Order.Term == term && at.Before(w.Order.Until)
}

// A Moved is a handover that made another data center master.
type Moved struct {
	ID       string
	From, To signalbox.DataCenter
	Term     signalbox.Term
	At       time.Time
	By       string
	// Back: it took back the one before it.
	Back bool
}

// A Broken is a handover that overrode safety rules.
type Broken struct {
	signalbox.BreakGlass
	ID   string
	Term signalbox.Term
	By   string
	At   time.Time
}

// A Started is an instance that an operator started without a quorum of voters.
type Started struct {
	Identity   signalbox.Identity
	Term       signalbox.Term
	By, Reason string
	// At is when the operator signed, Logged when the log took it.
	At, Logged time.Time
	// Of is the instance's challenge: one start has one.
	Of signalbox.Digest
}

// A State is what the log says about one service that the rules look at. The
// zero value is that of an empty log. Callers must not change what it holds.
type State struct {
	Pause *Paused
	// Waiting holds the orders that were not begun, oldest first; some may have
	// run out (Waiting.Holds).
	Waiting []Waiting
	// Moved is the newest move, nil when there was none.
	Moved *Moved
	// Broken holds the newest handovers that broke glass, oldest first, and
	// BrokenTotal counts all.
	Broken      []Broken
	BrokenTotal int
	// Started holds the newest starts without a quorum of voters, oldest first;
	// StartedTotal counts all.
	Started      []Started
	StartedTotal int
	// Said is when the newest mandate of each operator was signed.
	Said map[string]time.Time
}

// Order returns the order of an id, or nil.
func (s *State) Order(id string) *Waiting {
	if s == nil {
		return nil
	}
	for i := range s.Waiting {
		if s.Waiting[i].ID == id {
			return &s.Waiting[i]
		}
	}
	return nil
}

// ApplyPause takes a decided pause in; at is its block's time.
func (s *State) ApplyPause(p *signalbox.Pause, at time.Time) {
	s.Pause = nil
	if !p.Resumes() {
		s.Pause = &Paused{*p, at}
	}
}

// ApplyApproval takes a decided approval in; term is what is certified.
func (s *State) ApplyApproval(a *signalbox.Approval, term signalbox.Term, at time.Time) {
	kept := slices.DeleteFunc(slices.Clone(s.Waiting), func(w Waiting) bool { return !w.Holds(term, at) })
	if a.Order != nil {
		w := Waiting{Approval: *a, At: at}
		if a.Mandate != nil {
			w.Signed = sha256.Sum256(a.Mandate.Proof)
		}
		s.Waiting = append(kept, w)
		return
	}
	for i := range kept {
		if kept[i].ID == a.ID {
			by := Approved{By: a.By, Reason: a.Reason, At: at}
			if a.Mandate != nil {
				by.Key = a.Mandate.Key
			}
			kept[i].Approved = append(slices.Clone(kept[i].Approved), by)
		}
	}
	s.Waiting = kept
}

// ApplyHandover takes a decided handover in: its order waits no longer, and
// broken glass is remembered.
func (s *State) ApplyHandover(h *signalbox.Handover, at time.Time) {
	s.Waiting = slices.DeleteFunc(slices.Clone(s.Waiting), func(w Waiting) bool { return w.ID == h.ID })
	if h.BreakGlass == nil {
		return
	}
	s.BrokenTotal++
	s.Broken = append(slices.Clone(s.Broken), Broken{BreakGlass: *h.BreakGlass, ID: h.ID, Term: h.Term, By: h.By, At: at})
	s.Broken = s.Broken[max(0, len(s.Broken)-MaxBroken):]
}

// ApplyOutcome takes a certified handover in: when it made another data center
// master than before, it is the newest move.
func (s *State) ApplyOutcome(c *signalbox.Certificate, before signalbox.DataCenter) {
	to := c.DataCenter()
	if before == "" || to == before {
		return
	}
	h := c.Handover()
	back := s.Moved != nil && s.Moved.From == to && s.Moved.To == before && !s.Moved.Back
	s.Moved = &Moved{ID: h.ID, From: before, To: to, Term: c.Term, At: c.Block.At, By: h.By, Back: back}
}
