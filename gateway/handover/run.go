package handover

import (
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A run is one block's way from hold to done, as this gateway sees it.
type run struct {
	block *signalbox.DecidedBlock
	h     *signalbox.Handover
	phase Phase
	began time.Time

	prepared map[string]bool // gateways that have the block
	routed   bool
	held     map[string]Held
	tellHeld bool
	toldHeld bool

	// due is the order that the run is at, ordered the one that this gateway
	// gave.
	due         OrderKind
	dueAt       time.Time
	orderedAt   time.Time
	ordered     OrderKind
	wholeAt     time.Time // when the evidence for a certificate was there
	gaveUp      string
	toldGiveUp  time.Time
	certifying  time.Time
	certifiedAt time.Time
	releasedAt  time.Time
	servingAt   time.Time
	settleAt    time.Time
	proposedAt  time.Time
	returnAt    time.Time
	collectedAt time.Time
	// collecting is what the record says already of others' evidence.
	collecting map[string]bool
	// logged: the outcome that ends this run is in the log; outcome is the term
	// certified by it, 0 when a newer block's outcome ended this run.
	logged  bool
	outcome signalbox.Term
}

func newRun(b *signalbox.DecidedBlock, h *signalbox.Handover, now time.Time) *run {
	return &run{block: b, h: h, phase: PhasePrepare, began: now, prepared: map[string]bool{}, held: map[string]Held{}, collecting: map[string]bool{}}
}

func (r *run) giveUp(problem string) {
	if r.gaveUp == "" {
		r.gaveUp = problem
	}
}

func (m *Machine) advanceRun(r *run, now time.Time) []Effect {
	if r.phase == PhaseDone {
		return nil
	}
	if c := m.cert; c != nil && c.Block.Digest == r.block.Digest {
		return m.finish(r, c, now)
	}
	if r.logged {
		// With the certificate in the log too, this gateway has yet to release it.
		if r.outcome == 0 || m.cert != nil && m.cert.Term >= r.outcome {
			r.phase = PhaseDone
		}
		return nil
	}
	if m.superseded(r) || m.cert != nil && m.cert.Term >= r.h.Term {
		return nil // a newer block decides, or has decided, who is master
	}
	out := append(m.hold(r, now), m.tell(r, now)...)
	if effects := m.certify(r, now); effects != nil {
		return append(out, effects...)
	}
	out = append(out, m.order(r, now)...)
	out = append(out, m.collect(r, now)...)
	return append(out, m.comeBack(r, now)...)
}

// superseded reports whether a newer block of the service has a run.
func (m *Machine) superseded(r *run) bool {
	for _, other := range m.runs {
		if other.block.Index > r.block.Index {
			return true
		}
	}
	return false
}

// evidence returns the statement that proves the entry, if one is known.
func (m *Machine) evidence(r *run, e signalbox.RosterEntry) (signalbox.Evidence, bool) {
	for _, s := range m.statements[e.Identity] {
		if s.Kind != signalbox.SaysLeave && s.Block != r.block.Digest {
			continue
		}
		if rpc.Proves(r.h, r.block.Digest, e, s.Statement) == nil {
			return s, true
		}
	}
	return signalbox.Evidence{}, false
}

func (m *Machine) drained(r *run, e signalbox.RosterEntry) bool {
	for _, s := range m.statements[e.Identity] {
		if s.Kind == signalbox.SaysDrained && s.Block == r.block.Digest {
			return true
		}
	}
	_, ok := m.evidence(r, e)
	return ok
}

// refusal returns a refuse of the block, if one is known and can void it.
func (m *Machine) refusal(r *run) (signalbox.Evidence, bool) {
	for _, e := range r.h.Roster {
		for _, s := range m.statements[e.Identity] {
			if rpc.Voids(r.h, r.block.Digest, e, s.Statement) {
				return s, true
			}
		}
	}
	return signalbox.Evidence{}, false
}

// certify builds the certificate when its evidence is whole.
func (m *Machine) certify(r *run, now time.Time) []Effect {
	term, evidence, whole := m.proof(r, now)
	if !whole {
		return nil
	}
	if r.wholeAt.IsZero() {
		r.wholeAt = now
	}
	turn := r.wholeAt.Add(time.Duration(m.rank(r.h.From)) * StandIn)
	if now.Before(turn) || !r.certifying.IsZero() && now.Sub(r.certifying) < Resend {
		return []Effect{}
	}
	r.certifying = now
	out := []Effect{Certify{Block: r.block, Term: term, Evidence: evidence}}
	if s, ok := m.refusal(r); ok {
		out = append([]Effect{Record{Block: r.block.Digest, Phase: PhaseGiveUp, Detail: r.name(s.Identity) + " refused", At: now}}, out...)
	}
	return out
}

// proof is the evidence that certifies the block's fallback, or its term.
func (m *Machine) proof(r *run, now time.Time) (term signalbox.Term, evidence [][]byte, whole bool) {
	if s, ok := m.refusal(r); ok {
		return r.h.Fallback, [][]byte{s.Envelope}, true
	}
	for _, e := range r.h.Roster {
		s, ok := m.evidence(r, e)
		if !ok {
			return 0, nil, false
		}
		evidence = append(evidence, s.Envelope)
	}
	if ready, _, _ := m.holdState(r, now); len(r.h.Roster) == 0 && !ready {
		return 0, nil, false
	}
	return r.h.Term, evidence, true
}

func (r *run) name(id signalbox.Identity) string {
	if e, ok := r.h.Entry(id); ok {
		return e.Name
	}
	return string(id)
}

// order tells this data center's agents what is due: drain when every proxy
// holds, ack when everybody has drained, refuse when the handover is given up.
func (m *Machine) order(r *run, now time.Time) []Effect {
	out := m.giveUpIfDue(r, now)
	kind := m.next(r, now)
	if kind == 0 {
		return out
	}
	if kind != r.due {
		r.due, r.dueAt = kind, now
		r.phase = map[OrderKind]Phase{OrderDrain: PhaseDrain, OrderAck: PhaseAck, OrderRefuse: PhaseGiveUp}[kind]
		out = append(out, Record{Block: r.block.Digest, Phase: r.phase, Detail: "order " + kind.String(), At: now})
	}
	turn := r.dueAt.Add(time.Duration(m.before()) * StandIn)
	if now.Before(turn) || kind == r.ordered && now.Sub(r.orderedAt) < Resend {
		return out
	}
	r.ordered, r.orderedAt = kind, now
	if to := m.unanswered(r, kind); len(to) > 0 {
		out = append(out, Order{Kind: kind, Block: r.block, To: to})
	}
	return out
}

// next is the order that the run is at, 0 for none yet.
func (m *Machine) next(r *run, now time.Time) OrderKind {
	ready, _, _ := m.holdState(r, now)
	switch {
	case r.gaveUp != "" && r.h.Voidable():
		return OrderRefuse
	case m.allDrained(r):
		return OrderAck
	case ready || r.due == OrderDrain:
		return OrderDrain
	}
	return 0
}

// giveUpIfDue gives a block that can be voided up when its hold is incomplete
// before anybody was told to drain, or its budget has run out, and tells the
// peers until it is certified.
func (m *Machine) giveUpIfDue(r *run, now time.Time) []Effect {
	if !r.h.Voidable() {
		return nil
	}
	if doubt := m.doubt(r, now); doubt != "" && r.due == 0 {
		r.giveUp(doubt)
	}
	if now.Sub(r.began) >= r.h.HoldBudget+HoldWait && !m.allDrained(r) {
		r.giveUp("the hold budget of " + r.h.HoldBudget.String() + " has run out; waiting for " + m.waitingFor(r))
	}
	if r.gaveUp == "" || !r.toldGiveUp.IsZero() && now.Sub(r.toldGiveUp) < Resend {
		return nil
	}
	var out []Effect
	if r.toldGiveUp.IsZero() {
		out = append(out, Record{Block: r.block.Digest, Phase: PhaseGiveUp, Detail: r.gaveUp, At: now})
	}
	r.toldGiveUp = now
	return append(out, TellGiveUp{Block: r.block.Digest, Problem: r.gaveUp})
}

// unanswered lists the local roster identities whose answer to kind is due.
func (m *Machine) unanswered(r *run, kind OrderKind) []signalbox.Identity {
	var to []signalbox.Identity
	for _, e := range r.h.Roster {
		if e.DataCenter != m.opt.DataCenter {
			continue
		}
		if _, answered := m.evidence(r, e); answered || kind == OrderDrain && m.drained(r, e) {
			continue
		}
		to = append(to, e.Identity)
	}
	return to
}

func (m *Machine) allDrained(r *run) bool {
	for _, e := range r.h.Roster {
		if !m.drained(r, e) {
			return false
		}
	}
	return true
}

// waitingFor names who has not drained, or not given evidence.
func (m *Machine) waitingFor(r *run) string {
	var names []string
	all := m.allDrained(r)
	for _, e := range r.h.Roster {
		_, proven := m.evidence(r, e)
		if !proven && (all || !m.drained(r, e)) {
			names = append(names, e.Name)
		}
	}
	return strings.Join(names, ", ")
}
