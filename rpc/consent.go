package rpc

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// What people say in the log: pauses, approvals, broken glass.

func pauseToWire(p *signalbox.Pause) *wire.Pause {
	return &wire.Pause{Service: string(p.Service), UntilUnixNano: nano(p.Until), By: p.By, Reason: p.Reason, Mandate: mandateToWire(p.Mandate)}
}

func pauseFromWire(m *wire.Pause) (*signalbox.Pause, error) {
	p := &signalbox.Pause{Service: signalbox.Service(m.GetService()), Until: fromNano(m.GetUntilUnixNano()), By: m.GetBy(), Reason: m.GetReason()}
	var err error
	if p.Mandate, err = mandateFromWire(m.GetMandate()); err != nil {
		return nil, err
	}
	return p, p.Check()
}

func approvalToWire(a *signalbox.Approval) *wire.Approval {
	m := &wire.Approval{Service: string(a.Service), Id: a.ID, By: a.By, Reason: a.Reason, Mandate: mandateToWire(a.Mandate)}
	if o := a.Order; o != nil {
		m.Order = &wire.WaitingOrder{
			From: string(o.From), To: string(o.To), Term: uint64(o.Term), HoldBudgetNano: int64(o.HoldBudget),
			AllowLateProxies: o.AllowLateProxies, Allowed: uint32(o.Allowed), UntilUnixNano: nano(o.Until),
		}
	}
	return m
}

func approvalFromWire(m *wire.Approval) (*signalbox.Approval, error) {
	a := &signalbox.Approval{Service: signalbox.Service(m.GetService()), ID: m.GetId(), By: m.GetBy(), Reason: m.GetReason()}
	var err error
	if a.Mandate, err = mandateFromWire(m.GetMandate()); err != nil {
		return nil, err
	}
	if o := m.GetOrder(); o != nil {
		if o.GetAllowed() > 0xff {
			return nil, fmt.Errorf("%w: evidence kinds %#x", signalbox.ErrInvalid, o.GetAllowed())
		}
		a.Order = &signalbox.Order{
			From: signalbox.DataCenter(o.GetFrom()), To: signalbox.DataCenter(o.GetTo()), Term: signalbox.Term(o.GetTerm()),
			HoldBudget: time.Duration(o.GetHoldBudgetNano()), AllowLateProxies: o.GetAllowLateProxies(),
			Allowed: signalbox.EvidenceKinds(o.GetAllowed()), Until: fromNano(o.GetUntilUnixNano()),
		}
	}
	return a, a.Check()
}

func breakGlassToWire(b *signalbox.BreakGlass) *wire.BreakGlass {
	if b == nil {
		return nil
	}
	m := &wire.BreakGlass{Reason: b.Reason}
	for _, r := range b.Overrides {
		m.Overrides = append(m.Overrides, string(r))
	}
	return m
}

func breakGlassFromWire(m *wire.BreakGlass) (*signalbox.BreakGlass, error) {
	if m == nil {
		return nil, nil
	}
	if len(m.GetOverrides()) > len(signalbox.SafetyRules()) {
		return nil, fmt.Errorf("%w: break-glass names %d rules, there are %d", signalbox.ErrInvalid, len(m.GetOverrides()), len(signalbox.SafetyRules()))
	}
	b := &signalbox.BreakGlass{Reason: m.GetReason()}
	for _, r := range m.GetOverrides() {
		b.Overrides = append(b.Overrides, signalbox.SafetyRule(r))
	}
	return b, b.Check()
}

// nano writes a time, 0 for the zero time.
func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// fromNano is the inverse of nano.
func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
