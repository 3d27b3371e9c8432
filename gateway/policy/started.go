package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
)

// HasStarted reports whether a start is remembered, or older than what is.
func (s *State) HasStarted(m *signalbox.Mandate) bool {
	if s == nil {
		return false
	}
	full := len(s.Started) == MaxStarted && !m.At.After(s.Started[0].At)
	return full || slices.ContainsFunc(s.Started, func(x Started) bool { return x.Of == m.Of && x.Identity == signalbox.Identity(m.ID) })
}

// CheckStarted is what a voter checks of a start without a quorum that is to be
// remembered for ever. Its instance serves already, so nothing holds it up.
func CheckStarted(s *State, m *signalbox.Mandate, enrolled bool, at time.Time) error {
	switch {
	case !enrolled:
		return fmt.Errorf("%w: %s is no instance of %s", signalbox.ErrUnknown, m.ID, m.Service)
	case m.At.Sub(at) > MaxMandateAhead:
		return fmt.Errorf("%w: operator %s signed at %s: look at the clocks", signalbox.ErrRefused, m.Operator, m.At.UTC().Format(time.RFC3339))
	case s.HasStarted(m):
		return fmt.Errorf("%w: the start of %s is in the log already", signalbox.ErrConflict, m.ID)
	}
	return nil
}

// ApplyStarted takes a start without a quorum in; at is its block's time.
func (s *State) ApplyStarted(m *signalbox.Mandate, at time.Time) {
	s.StartedTotal++
	s.Started = append(slices.Clone(s.Started), Started{
		Identity: signalbox.Identity(m.ID), Term: m.Term, By: m.By(), Reason: m.Reason, At: m.At, Logged: at, Of: m.Of,
	})
	slices.SortFunc(s.Started, func(a, b Started) int { return a.At.Compare(b.At) })
	s.Started = s.Started[max(0, len(s.Started)-MaxStarted):]
}
