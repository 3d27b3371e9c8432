package policy

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	"github.com/signalbox-io/signalbox"
)

const (
	// MaxMandateAge is for how long after it was signed an order is taken.
	MaxMandateAge = 5 * time.Minute
	// MaxMandateAhead is how far an operator's clock may be ahead of a block's time.
	MaxMandateAhead = 10 * time.Second
)

// NeedsMandate says why a request counts only with an operator's signature; ""
// when it does not need one. Orders that no rule holds up do not: for them the
// gateway's word is enough who asked.
func NeedsMandate(r *signalbox.Request) string {
	switch {
	case r.Approval != nil && r.Approval.Order != nil:
		return "an order that others have to approve"
	case r.Approval != nil:
		return "an approval"
	case r.Pause != nil && r.Pause.Resumes():
		return "the end of a pause"
	case r.Pause != nil:
		return "a pause"
	case r.Handover != nil && r.Handover.BreakGlass != nil:
		return "break-glass"
	}
	return ""
}

// Begun returns the order that waited for approval and that the handover begins
// under the same mandate, which was checked when it was asked for; nil when there
// is none.
func (s *State) Begun(h *signalbox.Handover) *Waiting {
	w := s.Order(h.ID)
	if w == nil || w.Mandate == nil || h.Mandate == nil || !bytes.Equal(w.Mandate.Proof, h.Mandate.Proof) {
		return nil
	}
	return w
}

// CheckMandate is what a voter checks of a mandate whose signatures it has
// verified: that it orders exactly the request, and is taken for the first time.
// master and term are what is certified.
func CheckMandate(s *State, m *signalbox.Mandate, r *signalbox.Request, master signalbox.DataCenter, term signalbox.Term, at time.Time) error {
	if s == nil {
		s = &State{}
	}
	var said bool
	switch {
	case r.Handover != nil:
		said = m.Orders(r.Handover)
	case r.Pause != nil:
		said = m.Service == r.Pause.Service && m.By() == r.Pause.By && m.Reason == r.Pause.Reason && m.Until.Equal(r.Pause.Until) &&
			(m.Verb == signalbox.VerbResume) == r.Pause.Resumes() && (m.Verb == signalbox.VerbPause || m.Verb == signalbox.VerbResume)
	case r.Approval != nil && r.Approval.Order != nil:
		said = m.Asks(r.Approval)
	case r.Approval != nil:
		return checkApproves(s, m, r.Approval, at)
	}
	if !said {
		return fmt.Errorf("%w: what operator %s signed (%s of %s) is not what is asked for here; give the order again, and look at that gateway", signalbox.ErrUntrusted, m.Operator, m.Verb, m.Service)
	}
	moves := m.Verb == signalbox.VerbSwitch || m.Verb == signalbox.VerbFailover
	if moves && (m.From != master || m.Term != term) {
		return fmt.Errorf("%w: operator %s signed the order when %s@%d was certified, now it is %s@%d; give it again", signalbox.ErrConflict, m.Operator, m.From, m.Term, master, term)
	}
	return checkFresh(s, m, at)
}

// checkApproves: an approval names the very order, as its asker signed it, and
// is signed by another key.
func checkApproves(s *State, m *signalbox.Mandate, a *signalbox.Approval, at time.Time) error {
	w := s.Order(a.ID)
	switch {
	case m.Verb != signalbox.VerbApprove || m.Service != a.Service || m.ID != a.ID || m.By() != a.By || m.Reason != a.Reason:
		return fmt.Errorf("%w: what operator %s signed (%s of %s) is not this approval; approve again, and look at that gateway", signalbox.ErrUntrusted, m.Operator, m.Verb, m.Service)
	case w == nil || w.Mandate == nil || m.Of != w.Signed:
		return fmt.Errorf("%w: operator %s approved another order than the one that waits as %s; look at it (signalbox service rules %s) and approve again", signalbox.ErrUntrusted, m.Operator, a.ID, a.Service)
	}
	if m.Key == w.Mandate.Key {
		return fmt.Errorf("%w: the order and its approval are signed by one key; another person has to approve", signalbox.ErrRefused)
	}
	for _, before := range w.Approved {
		if before.Key == m.Key {
			return fmt.Errorf("%w: the key of operator %s approved it already; another person is needed", signalbox.ErrRefused, m.Operator)
		}
	}
	return checkFresh(s, m, at)
}

// checkFresh: a mandate is taken within some minutes, once, and no older one of
// the operator after it; so none can be kept and brought later, or again.
func checkFresh(s *State, m *signalbox.Mandate, at time.Time) error {
	again := "give the order again"
	switch last, taken := s.Said[m.Operator]; {
	case m.At.Sub(at) > MaxMandateAhead:
		return fmt.Errorf("%w: operator %s signed at %s, %s from now: look at the clock of the machine that signed, then %s", signalbox.ErrRefused, m.Operator, m.At.UTC().Format(time.RFC3339), m.At.Sub(at).Round(time.Second), again)
	case at.Sub(m.At) > MaxMandateAge:
		return fmt.Errorf("%w: operator %s signed %s ago, and an order is taken for %s: %s; if you just did, look at the clocks", signalbox.ErrRefused, m.Operator, at.Sub(m.At).Round(time.Second), MaxMandateAge, again)
	case taken && !m.At.After(last):
		return fmt.Errorf("%w: this order of operator %s for %s, or one signed after it, was taken before (%s): %s", signalbox.ErrRefused, m.Operator, m.Service, last.UTC().Format(time.RFC3339Nano), again)
	}
	return nil
}

// ApplyMandate remembers when the newest mandate of an operator was signed.
func (s *State) ApplyMandate(m *signalbox.Mandate) {
	if m == nil || !m.At.After(s.Said[m.Operator]) {
		return
	}
	said := maps.Clone(s.Said)
	if said == nil {
		said = map[string]time.Time{}
	}
	said[m.Operator] = m.At
	s.Said = said
}
