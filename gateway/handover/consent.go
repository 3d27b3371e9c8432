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

// Configure takes over what is set in another ledger of this gateway.
func (l *Ledger) Configure(as *Ledger) {
	l.rules, l.mandates, l.snapshots.every = as.rules, as.mandates, as.snapshots.every
}

// Rules returns the safety rules of a service.
func (l *Ledger) Rules(s signalbox.Service) policy.Rules { return l.rules[s] }

// SetMandates sets what verifies the signatures of an operator's mandate at a
// time; nil, and no request that needs one is taken.
func (l *Ledger) SetMandates(verify func(proof []byte, at time.Time) (*signalbox.Mandate, error)) {
	l.mandates = verify
}

// CheckBlock is what a voter checks of a block before it votes for it; now is
// its own clock. That the block follows the newest one, Accepts checks.
func (l *Ledger) CheckBlock(b *signalbox.Block, now time.Time) error {
	if b.At.Sub(now) > MaxAhead {
		return fmt.Errorf("%w: the block's time is %s ahead of this voter's clock, at most %s; look at the clocks", signalbox.ErrRefused, b.At.Sub(now).Round(time.Millisecond), MaxAhead)
	}
	if l.voters.Epoch != 0 && b.Epoch != l.voters.Epoch {
		return fmt.Errorf("%w: a block of voter set %d, and set %d decides the next one", signalbox.ErrConflict, b.Epoch, l.voters.Epoch)
	}
	if b.Voters() != nil && len(b.Requests) > 1 {
		return fmt.Errorf("%w: a change of voters is alone in its block", signalbox.ErrInvalid)
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
	var err error
	switch {
	case r.Pause != nil:
		err = policy.CheckPause(said, r.Pause, at)
	case r.Approval != nil && s.Term() == 0:
		err = fmt.Errorf("%w: service %s has no master yet", signalbox.ErrRefused, r.Approval.Service)
	case r.Approval != nil:
		err = policy.CheckApproval(said, r.Approval, s.Master(), s.Term(), len(s.Open) > 0, at)
	case r.Started != nil:
		return l.checkStarted(r.Started, said, at)
	default:
		err = l.Check(r)
	}
	if err == nil && r.Handover != nil {
		open := s != nil && len(s.Open) > 0
		err = policy.CheckMove(l.rules[r.Service()], said, r.Handover, s.Term(), open, at)
	}
	if err != nil {
		return err
	}
	return l.checkMandate(r, s, at)
}

// checkMandate verifies the operator's signature where a request has one, and
// wants one where people's words decide.
func (l *Ledger) checkMandate(r *signalbox.Request, s *ServiceState, at time.Time) error {
	m, why := r.Mandate(), policy.NeedsMandate(r)
	switch {
	case m == nil && why == "":
		return nil
	case m == nil:
		return fmt.Errorf("%w: %s of %s counts only with the operator's own signature: give it with the command line and an operator's bundle that holds a key (signalbox keys issue operator), or send a mandate", signalbox.ErrUnsigned, why, r.Service())
	case l.mandates == nil:
		return fmt.Errorf("%w: this process cannot check operators' signatures", signalbox.ErrNotConfigured)
	}
	var said policy.State
	if s != nil {
		said = s.Policy
	}
	if r.Handover != nil && said.Begun(r.Handover) != nil && m.Orders(r.Handover) {
		return nil // every voter checked it when it was asked for
	}
	verified, err := l.mandates(m.Proof, at)
	if err != nil {
		return err
	}
	return policy.CheckMandate(&said, verified, r, s.Master(), s.Term(), at)
}

// checkStarted verifies the operator's word by which an instance was started
// while no quorum answered. It was taken then; the certificate may have ended.
func (l *Ledger) checkStarted(m *signalbox.Mandate, said *policy.State, at time.Time) error {
	if l.mandates == nil {
		return fmt.Errorf("%w: this process cannot check operators' signatures", signalbox.ErrNotConfigured)
	}
	if _, err := l.mandates(m.Proof, m.At); err != nil {
		return err
	}
	in, known := l.enrolled[signalbox.Identity(m.ID)]
	return policy.CheckStarted(said, m, known && in.Service == m.Service, at)
}

// applyConsent takes what people said into the state.
func (l *Ledger) applyConsent(b *signalbox.DecidedBlock, r *signalbox.Request) {
	if r.Started != nil {
		l.state(r.Started.Service).Policy.ApplyStarted(r.Started, b.At)
	}
	if m := r.Mandate(); m != nil {
		l.state(r.Service()).Policy.ApplyMandate(m)
	}
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
