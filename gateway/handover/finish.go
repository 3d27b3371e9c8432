package handover

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
)

// finish takes a certified run through promote, release and settle.
func (m *Machine) finish(r *run, c *signalbox.Certificate, now time.Time) []Effect {
	var out []Effect
	if r.certifiedAt.IsZero() {
		r.certifiedAt = now
	}
	serving, due := m.serving(r, c)
	if serving > 0 && r.servingAt.IsZero() {
		r.servingAt = now
		out = append(out, Record{Block: r.block.Digest, Phase: PhasePromote, Detail: "first instance serves", At: now})
	}
	gathered := serving > 0 && (serving >= due || now.Sub(r.servingAt) >= PromoteGather)
	if gathered && r.releasedAt.IsZero() {
		r.releasedAt, r.phase = now, PhaseRelease
		out = append(out,
			Release{Certificate: c},
			Record{Block: r.block.Digest, Phase: PhaseRelease, Detail: fmt.Sprintf("%d of %d serve", serving, due), At: now})
	}
	if !r.releasedAt.IsZero() {
		return append(out, m.conclude(r, c, now)...)
	}
	out = append(out, m.regrant(r, c, now)...)
	out = append(out, m.turnBack(r, c, now)...)
	if m.unserved(r, c, now) {
		out = append(out, m.conclude(r, c, now)...)
	}
	return out
}

// serving counts who serves under the certificate (listed or admitted), and how
// many are expected to.
func (m *Machine) serving(r *run, c *signalbox.Certificate) (serving, due int) {
	for _, t := range m.serves {
		if t == c.Term {
			serving++
		}
	}
	due = serving
	for _, id := range listed(r.h, c) {
		if a, known := m.agents[id]; m.serves[id] != c.Term && (!known || a.up) {
			due++
		}
	}
	return serving, due
}

// listed are the identities that may serve the certified term by its block.
func listed(h *signalbox.Handover, c *signalbox.Certificate) []signalbox.Identity {
	if !c.IsFallback() {
		return h.Incoming
	}
	var out []signalbox.Identity
	for _, e := range h.Roster {
		if h.Lists(e.Identity, c.Term) {
			out = append(out, e.Identity)
		}
	}
	return out
}

// regrant hands the certificate out again while nobody serves by it.
func (m *Machine) regrant(r *run, c *signalbox.Certificate, now time.Time) []Effect {
	if m.superseded(r) || now.Sub(later(r.certifiedAt, r.orderedAt)) < Resend {
		return nil
	}
	r.orderedAt = now
	return []Effect{Spread{Certificate: c, To: ToPeers | ToAgents}}
}

// unserved reports that the run has to end although this gateway saw nobody
// serve: the outcome is in the log, or a term from which no way leads back has
// been certified for longer than the budget. Only with its outcome logged can
// others than those whom it lists be admitted to the term.
func (m *Machine) unserved(r *run, c *signalbox.Certificate, now time.Time) bool {
	certified := now.Sub(r.certifiedAt)
	if r.logged {
		return certified >= HoldWait
	}
	return (c.IsFallback() || r.h.Superseding()) && certified >= max(r.h.HoldBudget, HoldWait)
}

// conclude has the outcome logged; gateways of the new master first, the others
// take over one after the other.
func (m *Machine) conclude(r *run, c *signalbox.Certificate, now time.Time) []Effect {
	if r.logged {
		r.phase = PhaseDone
		return []Effect{Record{Block: r.block.Digest, Phase: PhaseDone, Detail: "outcome logged", At: now}}
	}
	if r.settleAt.IsZero() {
		r.phase, r.settleAt, r.proposedAt = PhaseSettle, now, time.Time{}
	}
	turn := r.settleAt.Add(SettleWait + time.Duration(m.rank(c.DataCenter()))*TakeOver)
	if now.Before(turn) || !r.proposedAt.IsZero() && now.Sub(r.proposedAt) < 2*TakeOver {
		return nil
	}
	r.proposedAt = now
	return []Effect{ProposeOutcome{Certificate: c}}
}

// A Status is a run for people.
type Status struct {
	Block      *signalbox.DecidedBlock
	Handover   *signalbox.Handover
	Phase      Phase
	Began      time.Time
	WaitingFor string
	Late       []string
	Certified  signalbox.Term
	Acks       []AckStatus
}

// AckStatus is one row of the ack matrix.
type AckStatus struct {
	Name     string
	Identity signalbox.Identity
	Drained  bool
	Evidence string
	Silent   bool
}

// Status returns the open runs, oldest first by their blocks.
func (m *Machine) Status(now time.Time) []Status {
	var out []Status
	for _, r := range m.byIndex() {
		if r.phase == PhaseDone {
			continue
		}
		_, late, _ := m.holdState(r, now)
		s := Status{Block: r.block, Handover: r.h, Phase: r.phase, Began: r.began, WaitingFor: m.waitingFor(r), Late: late, Acks: m.acks(r)}
		if c := m.cert; c != nil && c.Block.Digest == r.block.Digest {
			s.Certified, s.WaitingFor = c.Term, ""
			if r.releasedAt.IsZero() {
				s.WaitingFor = "an instance of " + string(c.DataCenter()) + " to be promoted"
			}
		}
		out = append(out, s)
	}
	return out
}

func (m *Machine) acks(r *run) []AckStatus {
	var out []AckStatus
	for _, e := range r.h.Roster {
		a := AckStatus{Name: e.Name, Identity: e.Identity, Drained: m.drained(r, e)}
		if s, ok := m.evidence(r, e); ok {
			a.Evidence = s.Kind.String()
		}
		for _, s := range m.statements[e.Identity] {
			if s.Kind == signalbox.SaysRefuse && s.Block == r.block.Digest {
				a.Evidence = s.Kind.String()
			}
		}
		st, known := m.agents[e.Identity]
		a.Silent = known && !st.up
		out = append(out, a)
	}
	return out
}
