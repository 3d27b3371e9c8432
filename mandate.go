package signalbox

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Verb is what an operator orders with a Mandate.
type Verb string

// The verbs that are signed.
const (
	VerbSwitch   Verb = "switch"   // a planned handover, also a failback or a revert
	VerbFailover Verb = "failover" // a handover that counts others' evidence
	VerbApprove  Verb = "approve"  // of somebody else's switch or failover
	VerbPause    Verb = "pause"
	VerbResume   Verb = "resume"
	VerbStart    Verb = "start" // of an instance, without a quorum of voters
)

// operatorPrefix stands before an operator's name where it is said who asked.
const operatorPrefix = "operator/"

// A Mandate is an order as the operator who gives it signs it, with a key that no
// gateway has: a gateway that lies cannot claim a person's word. Every voter
// checks it before it votes for what was ordered. Fields that a verb does not
// need are zero.
type Mandate struct {
	Verb Verb
	// Operator is the operator's name, as the certificate has it.
	Operator string
	Service  Service
	// ID is that of the handover to be, which is used once for ever; of a start the
	// instance's identity.
	ID string
	// To is where the service is to go; From and Term are what is certified. Of a
	// start, Term is the one that the instance is to serve.
	From, To         DataCenter
	Term             Term
	HoldBudget       time.Duration // 0: the service's own
	AllowLateProxies bool
	// Allowed are the others' kinds that a failover counts; 0: all of the service's.
	Allowed EvidenceKinds
	// Until is a pause's end.
	Until      time.Time
	BreakGlass *BreakGlass
	// Of is the SHA-256 of the mandate that an approval approves; of a start the
	// instance's challenge, which is of this start alone.
	Of     Digest
	Reason string
	// At is when it was signed, by the operator's clock. An operator's mandates for
	// a service are taken in its order, each once.
	At time.Time
	// Key is the fingerprint of the operator's key.
	Key Identity
	// Proof is the mandate with its signatures, verbatim; see rpc.SealMandate.
	Proof []byte
}

// By is how requests and records name the operator.
func (m *Mandate) By() string { return operatorPrefix + m.Operator }

// Check returns nil when the mandate is well formed.
func (m *Mandate) Check() error {
	if err := CheckName("service", string(m.Service)); err != nil {
		return err
	}
	if err := CheckName("operator", m.Operator); err != nil {
		return err
	}
	switch {
	case len(m.Reason) > MaxReason:
		return fmt.Errorf("%w: the reason of an order has %d bytes, at most %d", ErrInvalid, len(m.Reason), MaxReason)
	case m.At.IsZero():
		return fmt.Errorf("%w: a signed order says when it was signed", ErrInvalid)
	case m.Verb != VerbSwitch && m.Verb != VerbFailover && m.BreakGlass != nil:
		return fmt.Errorf("%w: only a switch or a failover breaks glass", ErrInvalid)
	}
	switch m.Verb {
	case VerbSwitch, VerbFailover:
		return m.checkMove()
	case VerbApprove:
		if m.Of.IsZero() {
			return fmt.Errorf("%w: an approval names the signed order that it approves", ErrInvalid)
		}
		return m.checkID()
	case VerbPause:
		if m.Until.IsZero() || m.Reason == "" {
			return fmt.Errorf("%w: a pause has an end and a reason", ErrInvalid)
		}
		return nil
	case VerbResume:
		return nil
	case VerbStart:
		if m.Of.IsZero() || m.Term == 0 || m.Reason == "" {
			return fmt.Errorf("%w: the start of an instance names its challenge, its term and a reason", ErrInvalid)
		}
		return m.checkID()
	}
	return fmt.Errorf("%w: signed order to %.20q: this program knows %s", ErrInvalid, m.Verb, joinVerbs())
}

func (m *Mandate) checkID() error {
	if m.ID == "" || len(m.ID) > 2*MaxName {
		return fmt.Errorf("%w: a signed order's handover id has %d bytes, want 1 to %d", ErrInvalid, len(m.ID), 2*MaxName)
	}
	return nil
}

func (m *Mandate) checkMove() error {
	for _, dc := range []DataCenter{m.From, m.To} {
		if err := CheckName("data center", string(dc)); err != nil {
			return err
		}
	}
	switch {
	case m.Term == 0:
		return fmt.Errorf("%w: a signed order names what is certified", ErrInvalid)
	case m.HoldBudget < 0 || m.HoldBudget > MaxHoldBudget:
		return fmt.Errorf("%w: hold budget %s, at most %s", ErrInvalid, m.HoldBudget, MaxHoldBudget)
	case m.Allowed&^ByOthers != 0 || m.Verb == VerbSwitch && m.Allowed != 0:
		return fmt.Errorf("%w: a signed %s that counts %s", ErrInvalid, m.Verb, m.Allowed)
	}
	if err := m.BreakGlass.Check(); err != nil {
		return err
	}
	return m.checkID()
}

func joinVerbs() string {
	var words []string
	for _, v := range []Verb{VerbSwitch, VerbFailover, VerbApprove, VerbPause, VerbResume, VerbStart} {
		words = append(words, string(v))
	}
	return strings.Join(words, ", ")
}

// counts reports whether kinds are what the mandate's verb counts.
func (m *Mandate) counts(kinds EvidenceKinds) bool {
	others := kinds & ByOthers
	if m.Verb == VerbSwitch {
		return kinds == AckOnly
	}
	return kinds&AckOnly == AckOnly && others != 0 && (m.Allowed == 0 || others == m.Allowed)
}

// Orders reports whether the mandate orders this handover; a breach of rules that
// it does not name is none of it.
func (m *Mandate) Orders(h *Handover) bool {
	if m.Verb != VerbSwitch && m.Verb != VerbFailover {
		return false
	}
	same := m.Service == h.Service && m.ID == h.ID && m.To == h.To && m.counts(h.Allowed) && m.By() == h.By && m.Reason == h.Reason
	// A failover counts late proxies as no reason to wait, whatever was ordered.
	options := (m.HoldBudget == 0 || m.HoldBudget == h.HoldBudget) && (m.Verb == VerbFailover || m.AllowLateProxies == h.AllowLateProxies)
	return same && options && m.breaks(h.BreakGlass)
}

func (m *Mandate) breaks(b *BreakGlass) bool {
	if b == nil {
		return true // less than was allowed
	}
	return m.BreakGlass != nil && m.BreakGlass.Reason == b.Reason &&
		!slices.ContainsFunc(b.Overrides, func(r SafetyRule) bool { return !slices.Contains(m.BreakGlass.Overrides, r) })
}

// Asks reports whether the mandate is what the approval asks to approve.
func (m *Mandate) Asks(a *Approval) bool {
	o := a.Order
	return o != nil && m.Orders(&Handover{
		ID: a.ID, Service: a.Service, To: o.To, Allowed: o.Allowed, HoldBudget: o.HoldBudget, AllowLateProxies: o.AllowLateProxies, By: a.By, Reason: a.Reason,
	}) && m.From == o.From && m.Term == o.Term
}
