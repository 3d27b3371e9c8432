package signalbox

import (
	"fmt"
	"slices"
	"time"
)

// A SafetyRule is a rule of the configuration, or of people, that stands before
// a handover; it protects against mistakes, never against two masters: that is
// the interlock's, which nothing overrides.
type SafetyRule string

// The safety rules.
const (
	RulePause       SafetyRule = "pause"        // somebody paused the service
	RuleFreeze      SafetyRule = "freeze"       // a freeze window is open
	RuleMinInterval SafetyRule = "min-interval" // the last handover was just now
	RuleApprovals   SafetyRule = "approvals"    // others have to approve
	RuleMinStanding SafetyRule = "min-standing" // too few instances stand on the new side
)

// SafetyRules lists them in the order in which they are shown.
func SafetyRules() []SafetyRule {
	return []SafetyRule{RulePause, RuleFreeze, RuleMinInterval, RuleApprovals, RuleMinStanding}
}

// Bounds of pauses and approvals.
const (
	// MaxPause is the longest pause; one that was forgotten ends by itself.
	MaxPause = 30 * 24 * time.Hour
	// MaxApprovalWait is how long an order waits for approval at most.
	MaxApprovalWait = 7 * 24 * time.Hour
)

// A Pause keeps a service where it is until a time: no handover begins but by
// break-glass. The zero Until ends the pause that holds.
type Pause struct {
	Service    Service
	Until      time.Time
	By, Reason string
	// Mandate is the operator's signed word; nil only in logs from before.
	Mandate *Mandate
}

// Resumes reports whether it ends a pause.
func (p *Pause) Resumes() bool { return p.Until.IsZero() }

// Check returns nil when the pause is well formed.
func (p *Pause) Check() error {
	if err := CheckName("service", string(p.Service)); err != nil {
		return err
	}
	return checkSaid("pause", p.By, p.Reason, !p.Resumes())
}

// An Order is a handover that waits for approval: exactly this one is approved.
type Order struct {
	From, To DataCenter
	// Term is what was certified when it was asked for. Once another term is,
	// the order is void.
	Term             Term
	HoldBudget       time.Duration
	AllowLateProxies bool
	Allowed          EvidenceKinds
	// Until is when it stops waiting.
	Until time.Time
}

// Matches reports whether h is the handover that the order describes.
func (o *Order) Matches(h *Handover) bool {
	return o.From == h.From && o.To == h.To && o.HoldBudget == h.HoldBudget &&
		o.AllowLateProxies == h.AllowLateProxies && o.Allowed == h.Allowed
}

// An Approval asks for the approval of an order (Order is set), or gives it.
type Approval struct {
	Service Service
	// ID is the id that the handover is to have.
	ID         string
	By, Reason string
	Order      *Order
	// Mandate is the operator's signed word; nil only in logs from before.
	Mandate *Mandate
}

// Check returns nil when the approval is well formed.
func (a *Approval) Check() error {
	if err := CheckName("service", string(a.Service)); err != nil {
		return err
	}
	if a.ID == "" || len(a.ID) > 2*MaxName {
		return fmt.Errorf("%w: an approval's handover id has %d bytes, want 1 to %d", ErrInvalid, len(a.ID), 2*MaxName)
	}
	if o := a.Order; o != nil {
		for _, dc := range []DataCenter{o.From, o.To} {
			if err := CheckName("data center", string(dc)); err != nil {
				return err
			}
		}
		if o.From == o.To || o.Term == 0 || o.HoldBudget <= 0 || o.HoldBudget > MaxHoldBudget || o.Until.IsZero() {
			return fmt.Errorf("%w: an order needs two data centers, the certified term, a hold budget up to %s and an end", ErrInvalid, MaxHoldBudget)
		}
	}
	return checkSaid("approval", a.By, a.Reason, false)
}

// A BreakGlass says that a handover goes on against safety rules: a person takes
// responsibility for exactly these, with a reason that is shown for ever.
type BreakGlass struct {
	Reason    string
	Overrides []SafetyRule
}

// Check returns nil when it is well formed.
func (b *BreakGlass) Check() error {
	if b == nil {
		return nil
	}
	if b.Reason == "" || len(b.Reason) > MaxReason {
		return fmt.Errorf("%w: break-glass needs a reason of 1 to %d bytes: it is shown for ever", ErrInvalid, MaxReason)
	}
	if len(b.Overrides) == 0 {
		return fmt.Errorf("%w: break-glass names no rule that it overrides", ErrInvalid)
	}
	for i, r := range b.Overrides {
		if !slices.Contains(SafetyRules(), r) || slices.Contains(b.Overrides[:i], r) {
			return fmt.Errorf("%w: break-glass of rule %q: name each of %v at most once", ErrInvalid, r, SafetyRules())
		}
	}
	return nil
}

func checkSaid(what, by, reason string, wanted bool) error {
	switch {
	case by == "" || len(by) > MaxReason:
		return fmt.Errorf("%w: a %s says who, in 1 to %d bytes", ErrInvalid, what, MaxReason)
	case len(reason) > MaxReason:
		return fmt.Errorf("%w: the reason of a %s has %d bytes, at most %d", ErrInvalid, what, len(reason), MaxReason)
	case wanted && reason == "":
		return fmt.Errorf("%w: a %s needs a reason: whoever is stopped by it reads it", ErrInvalid, what)
	}
	return nil
}
