package handover

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
)

// comeBack proposes the superseding handover back when the block can be
// neither certified nor voided for now: everybody whose answer is due cannot be
// reached.
func (m *Machine) comeBack(r *run, now time.Time) []Effect {
	if r.h.Superseding() || r.logged || !m.deadlocked(r, now) {
		return nil
	}
	return m.proposeReturn(r, "no answer from "+m.waitingFor(r)+", which cannot be reached", now)
}

// deadlocked: everyone whose answer is due has been unreachable for GoneWait.
// Those who can be reached have acked, so they cannot refuse any more. Only a
// gateway of the old master's data center can see that.
func (m *Machine) deadlocked(r *run, now time.Time) bool {
	if m.opt.DataCenter != r.h.From || r.due == 0 {
		return false
	}
	gone := 0
	for _, e := range r.h.Roster {
		if _, ok := m.evidence(r, e); ok {
			continue
		}
		a := m.agents[e.Identity]
		if e.DataCenter != m.opt.DataCenter || a.up || now.Sub(later(a.since, r.began)) < GoneWait {
			return false
		}
		gone++
	}
	return gone > 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// turnBack starts the superseding handover back when the new side does not
// promote within the budget.
func (m *Machine) turnBack(r *run, c *signalbox.Certificate, now time.Time) []Effect {
	if c.IsFallback() || r.h.Superseding() || r.logged || m.superseded(r) {
		return nil
	}
	if now.Sub(r.began) < r.h.HoldBudget || now.Sub(r.certifiedAt) < HoldWait {
		return nil
	}
	return m.proposeReturn(r, fmt.Sprintf("%s did not promote within the hold budget of %v", r.h.To, r.h.HoldBudget), now)
}

// proposeReturn has the way back proposed, by the gateways of the old master
// first, again and again until it is decided or not needed any more.
func (m *Machine) proposeReturn(r *run, reason string, now time.Time) []Effect {
	if r.returnAt.IsZero() {
		r.returnAt = now
	}
	turn := r.returnAt.Add(time.Duration(m.rank(r.h.From)) * TakeOver)
	if now.Before(turn) || !r.proposedAt.IsZero() && now.Sub(r.proposedAt) < 2*TakeOver {
		return nil
	}
	var out []Effect
	if r.proposedAt.IsZero() {
		out = append(out, Record{Block: r.block.Digest, Phase: PhaseGiveUp, Detail: "superseding handover back: " + reason, At: now})
	}
	r.proposedAt = now
	return append(out, ProposeReturn{Block: r.block, Reason: reason})
}
