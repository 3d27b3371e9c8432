package handover

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

// MaxAhead is how far a block's time may lie ahead of a voter's clock: rules
// about time are looked at by the block's time, so that all voters see the same.
const MaxAhead = 10 * time.Second

// SetRules sets the safety rules of this gateway's configuration, for CheckAt.
func (l *Ledger) SetRules(rules map[signalbox.Service]policy.Rules) { l.rules = rules }

// Rules returns the safety rules of a service.
func (l *Ledger) Rules(s signalbox.Service) policy.Rules { return l.rules[s] }

// CheckBlock is what a voter checks of a block before it votes for it; now is
// its own clock. That the block follows the newest one, Accepts checks.
func (l *Ledger) CheckBlock(b *signalbox.Block, now time.Time) error {
	if b.At.Sub(now) > MaxAhead {
		return fmt.Errorf("%w: the block's time is %s ahead of this voter's clock, at most %s; look at the clocks", signalbox.ErrRefused, b.At.Sub(now).Round(time.Millisecond), MaxAhead)
	}
	for i := range b.Requests {
		if err := l.CheckAt(&b.Requests[i], b.At); err != nil {
			return err
		}
	}
	return nil
}

// CheckAt is Check with the safety rules, at the time of the block to be. Every
// voter checks them for itself: a gateway that does not know them, or lies,
// gets no quorum.
func (l *Ledger) CheckAt(r *signalbox.Request, at time.Time) error {
	s := l.services[r.Service()]
	var said *policy.State
	if s != nil {
		said = &s.Policy
	}
	switch {
	case r.Pause != nil:
		return policy.CheckPause(said, r.Pause, at)
	case r.Approval != nil:
		if s.Term() == 0 {
			return fmt.Errorf("%w: service %s has no master yet", signalbox.ErrRefused, r.Approval.Service)
		}
		return policy.CheckApproval(said, r.Approval, s.Master(), s.Term(), len(s.Open) > 0, at)
	}
	if err := l.Check(r); err != nil || r.Handover == nil {
		return err
	}
	open := s != nil && len(s.Open) > 0
	return policy.CheckMove(l.rules[r.Service()], said, r.Handover, s.Term(), open, at)
}

// applyConsent takes what people said into the state.
func (l *Ledger) applyConsent(b *signalbox.DecidedBlock, r *signalbox.Request) {
	switch {
	case r.Handover != nil:
		l.state(r.Handover.Service).Policy.ApplyHandover(r.Handover, b.At)
	case r.Pause != nil:
		l.state(r.Pause.Service).Policy.ApplyPause(r.Pause, b.At)
	case r.Approval != nil:
		st := l.state(r.Approval.Service)
		st.Policy.ApplyApproval(r.Approval, st.Term(), b.At)
	}
}
