package handover

import (
	"fmt"
	"sort"
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

	held     map[string]Held
	tellHeld bool
	toldHeld bool
	final    bool

	orderedAt   time.Time
	ordered     OrderKind
	gaveUp      string
	toldGiveUp  bool
	certifying  time.Time
	certifiedAt time.Time
	releasedAt  time.Time
	servingAt   time.Time
	proposedAt  time.Time
	returnAt    time.Time
	logged      bool
}

func newRun(b *signalbox.DecidedBlock, h *signalbox.Handover, now time.Time) *run {
	return &run{block: b, h: h, phase: PhasePrepare, began: now, held: map[string]Held{}}
}

func (m *Machine) advanceRun(r *run, now time.Time) []Effect {
	if r.phase == PhaseDone || r.phase == PhasePrepare && m.cert != nil && m.cert.Term >= r.h.Term {
		if r.logged {
			r.phase = PhaseDone
			return nil
		}
	}
	if c := m.cert; c != nil && c.Block.Digest == r.block.Digest {
		return m.finish(r, c, now)
	}
	if r.logged {
		r.phase = PhaseDone
		return nil
	}
	out := m.tell(r, now)
	if effects := m.certify(r, now); effects != nil {
		return append(out, effects...)
	}
	out = append(out, m.order(r, now)...)
	return append(out, m.comeBack(r, now)...)
}

// tell passes the own hold on, and declares it final when the second is over.
func (m *Machine) tell(r *run, now time.Time) []Effect {
	own, known := r.held[m.opt.Gateway]
	if known && !own.Complete && !own.Final && now.Sub(r.began) >= HoldWait {
		own.Final, r.tellHeld = true, true
		r.held[m.opt.Gateway] = own
	}
	if !known || !r.tellHeld || !own.Complete && !own.Final {
		return nil
	}
	r.tellHeld = false
	out := []Effect{TellHeld{Held: own}}
	if !r.toldHeld {
		r.toldHeld = true
		out = append([]Effect{Record{Block: r.block.Digest, Phase: PhaseHold, Detail: holdDetail(own), At: now}}, out...)
	}
	return out
}

func holdDetail(h Held) string {
	var late []string
	for _, p := range h.Proxies {
		if !p.Acknowledged {
			late = append(late, p.ID)
		}
	}
	if len(late) == 0 {
		return fmt.Sprintf("%d proxies hold", len(h.Proxies))
	}
	return fmt.Sprintf("%d of %d proxies hold; late: %s", len(h.Proxies)-len(late), len(h.Proxies), strings.Join(late, ", "))
}

// holdState says whether the interruption may go on to the drain. late names
// connected proxies that did not acknowledge.
func (m *Machine) holdState(r *run, now time.Time) (ready bool, late []string) {
	over := now.Sub(r.began) >= HoldWait
	acknowledged := map[string]bool{}
	unheld := map[string]bool{}
	ready = true
	wait := func(name string, up bool) {
		h, ok := r.held[name]
		if !ok || !h.Complete && !h.Final {
			// A gateway that cannot be reached is waited for until the second
			// is over; its proxies then report through another gateway.
			ready = ready && over && !up
		}
		for _, p := range h.Proxies {
			if p.Acknowledged {
				acknowledged[p.ID] = true
			} else if up {
				unheld[p.ID] = true
			}
		}
	}
	wait(m.opt.Gateway, true)
	for name := range m.opt.Peers {
		wait(name, m.peers[name].up)
	}
	for id := range unheld {
		if !acknowledged[id] {
			late = append(late, id)
		}
	}
	sort.Strings(late)
	return ready, late
}

// evidence returns the statement that proves the entry, if one is known.
func (m *Machine) evidence(r *run, e signalbox.RosterEntry) (signalbox.Evidence, bool) {
	for _, s := range m.statements[e.Identity] {
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
	if !r.h.Voidable() {
		return signalbox.Evidence{}, false
	}
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
	if m.cert != nil && m.cert.Term >= max(r.h.Term, r.h.Fallback) {
		return nil
	}
	if !r.certifying.IsZero() && now.Sub(r.certifying) < Resend {
		return []Effect{}
	}
	if s, ok := m.refusal(r); ok {
		if r.superseded(m) {
			return nil
		}
		r.certifying = now
		return []Effect{
			Record{Block: r.block.Digest, Phase: PhaseGiveUp, Detail: r.name(s.Identity) + " refused", At: now},
			Certify{Block: r.block, Term: r.h.Fallback, Evidence: [][]byte{s.Envelope}},
		}
	}
	if m.cert != nil && m.cert.Term >= r.h.Term {
		return nil
	}
	var evidence [][]byte
	for _, e := range r.h.Roster {
		s, ok := m.evidence(r, e)
		if !ok {
			return nil
		}
		evidence = append(evidence, s.Envelope)
	}
	if ready, _ := m.holdState(r, now); len(r.h.Roster) == 0 && !ready {
		return nil
	}
	r.certifying = now
	return []Effect{Certify{Block: r.block, Term: r.h.Term, Evidence: evidence}}
}

// superseded reports whether a newer block of the service is open: then the
// newer one decides where requests go.
func (r *run) superseded(m *Machine) bool {
	return m.newest != nil && m.newest.block.Index > r.block.Index
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
	ready, late := m.holdState(r, now)
	var out []Effect
	if r.gaveUp == "" && ready && len(late) > 0 && !r.h.AllowLateProxies && r.ordered == 0 && r.h.Voidable() {
		r.gaveUp = "proxies did not acknowledge the hold within " + HoldWait.String() + ": " + strings.Join(late, ", ")
	}
	if r.gaveUp == "" && r.h.Voidable() && now.Sub(r.began) >= r.h.HoldBudget+HoldWait && !m.allDrained(r) {
		r.gaveUp = "the hold budget of " + r.h.HoldBudget.String() + " has run out; waiting for " + m.waitingFor(r)
	}
	if r.gaveUp != "" && !r.toldGiveUp && r.h.Voidable() {
		r.toldGiveUp = true
		out = append(out, Record{Block: r.block.Digest, Phase: PhaseGiveUp, Detail: r.gaveUp, At: now},
			TellGiveUp{Block: r.block.Digest, Problem: r.gaveUp})
	}
	kind := OrderKind(0)
	switch {
	case r.gaveUp != "" && r.h.Voidable():
		kind = OrderRefuse
	case m.allDrained(r):
		kind = OrderAck
	case ready || r.ordered == OrderDrain:
		kind = OrderDrain
	}
	if kind == 0 || kind == r.ordered && now.Sub(r.orderedAt) < Resend {
		return out
	}
	to := m.unanswered(r, kind)
	if kind != r.ordered {
		r.phase = map[OrderKind]Phase{OrderDrain: PhaseDrain, OrderAck: PhaseAck, OrderRefuse: PhaseGiveUp}[kind]
		out = append(out, Record{Block: r.block.Digest, Phase: r.phase, Detail: "order " + kind.String(), At: now})
	}
	r.ordered, r.orderedAt = kind, now
	if len(to) > 0 {
		out = append(out, Order{Kind: kind, Block: r.block, To: to})
	}
	return out
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

// comeBack proposes the superseding handover back when the block can be
// neither certified nor voided: everybody who can be reached acked, and one
// died between drained and ack.
func (m *Machine) comeBack(r *run, now time.Time) []Effect {
	if r.h.Superseding() || r.superseded(m) || r.logged || !m.deadlocked(r, now) {
		return nil
	}
	return m.proposeReturn(r, r.h.From, "no answer from "+m.waitingFor(r)+", which cannot be reached", now)
}

// deadlocked: at least one acked (so the alive ones cannot refuse any more),
// and everyone whose answer is due has been unreachable for GoneWait. Only a
// gateway of the old master's data center can see that.
func (m *Machine) deadlocked(r *run, now time.Time) bool {
	if m.opt.DataCenter != r.h.From || r.ordered == 0 {
		return false
	}
	acked, gone := 0, 0
	for _, e := range r.h.Roster {
		if _, ok := m.evidence(r, e); ok {
			acked++
			continue
		}
		a := m.agents[e.Identity]
		if e.DataCenter != m.opt.DataCenter || a.up || now.Sub(later(a.since, r.began)) < GoneWait {
			return false
		}
		gone++
	}
	// Without a live refuser nobody can void the block either.
	return gone > 0 && acked > 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *Machine) proposeReturn(r *run, preferred signalbox.DataCenter, reason string, now time.Time) []Effect {
	if r.returnAt.IsZero() {
		r.returnAt = now
	}
	turn := r.returnAt.Add(time.Duration(m.rank(preferred)) * TakeOver)
	if now.Before(turn) || !r.proposedAt.IsZero() && now.Sub(r.proposedAt) < 2*TakeOver {
		return nil
	}
	r.proposedAt = now
	return []Effect{
		Record{Block: r.block.Digest, Phase: PhaseGiveUp, Detail: "superseding handover back: " + reason, At: now},
		ProposeReturn{Block: r.block, Reason: reason},
	}
}
