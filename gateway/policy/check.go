package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// people is how a person is named who asked or approved; gateways and
// Signalbox itself are none.
const people = "operator/"

// IsPerson reports whether by names an operator.
func IsPerson(by string) bool { return strings.HasPrefix(by, people) && len(by) > len(people) }

// CheckPause is what a voter checks of a pause.
func CheckPause(s *State, p *signalbox.Pause, at time.Time) error {
	if err := p.Check(); err != nil {
		return err
	}
	if s == nil {
		s = &State{}
	}
	switch {
	case !IsPerson(p.By):
		return fmt.Errorf("%w: %s is no operator: people pause and resume", signalbox.ErrRefused, p.By)
	case p.Resumes() && !s.Pause.Holds(at):
		return fmt.Errorf("%w: %s is not paused", signalbox.ErrConflict, p.Service)
	case p.Resumes():
		return nil
	case !p.Until.After(at):
		return fmt.Errorf("%w: the pause of %s would be over at %s already", signalbox.ErrInvalid, p.Service, p.Until.UTC().Format(time.RFC3339))
	case p.Until.Sub(at) > signalbox.MaxPause:
		return fmt.Errorf("%w: a pause of %s: at most %s; pause again when it is still needed then", signalbox.ErrInvalid, p.Until.Sub(at).Round(time.Second), signalbox.MaxPause)
	}
	return nil
}

// CheckApproval is what a voter checks of an approval, or of an order that asks
// for approval. master and term are what is certified, open whether a handover
// of the service is open.
func CheckApproval(s *State, a *signalbox.Approval, master signalbox.DataCenter, term signalbox.Term, open bool, at time.Time) error {
	if err := a.Check(); err != nil {
		return err
	}
	if s == nil {
		s = &State{}
	}
	if !IsPerson(a.By) {
		return fmt.Errorf("%w: %s is no operator: people ask and approve", signalbox.ErrRefused, a.By)
	}
	if a.Order != nil {
		return checkOrder(s, a, master, term, open, at)
	}
	w := s.Order(a.ID)
	switch {
	case w == nil || !w.Holds(term, at):
		return fmt.Errorf("%w: no order %q of %s waits for approval: it ran out, was begun, or the service moved; signalbox service rules %s lists those that wait", signalbox.ErrUnknown, a.ID, a.Service, a.Service)
	case w.By == a.By:
		return fmt.Errorf("%w: %s asked for it, so somebody else has to approve it", signalbox.ErrRefused, a.By)
	}
	for _, before := range w.Approved {
		if before.By == a.By {
			return fmt.Errorf("%w: %s approved it at %s already; another person is needed", signalbox.ErrConflict, a.By, before.At.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func checkOrder(s *State, a *signalbox.Approval, master signalbox.DataCenter, term signalbox.Term, open bool, at time.Time) error {
	o, waiting := a.Order, 0
	for i := range s.Waiting {
		if s.Waiting[i].Holds(term, at) {
			waiting++
		}
	}
	switch {
	case open:
		return fmt.Errorf("%w: a handover of %s is open; ask when it is over", signalbox.ErrConflict, a.Service)
	case o.From != master || o.Term != term:
		return fmt.Errorf("%w: %s is certified at %s@%d, not %s@%d; ask again", signalbox.ErrConflict, a.Service, master, term, o.From, o.Term)
	case s.Order(a.ID) != nil:
		return fmt.Errorf("%w: the order %q waits already", signalbox.ErrConflict, a.ID)
	case waiting >= MaxWaiting:
		return fmt.Errorf("%w: %d orders of %s wait for approval already", signalbox.ErrRefused, waiting, a.Service)
	case !o.Until.After(at) || o.Until.Sub(at) > signalbox.MaxApprovalWait:
		return fmt.Errorf("%w: an order that waits until %s: want a time ahead, at most %s", signalbox.ErrInvalid, o.Until.UTC().Format(time.RFC3339), signalbox.MaxApprovalWait)
	}
	return nil
}
