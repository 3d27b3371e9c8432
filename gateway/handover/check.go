package handover

import (
	"bytes"
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// MaxOutstanding is how many identities of a service may be outstanding in one
// data center: the evidence of all of them has to fit one block, else the
// outcome of a handover could not be logged.
const MaxOutstanding = 384

// Check is what a voter checks for itself before it votes for a request, from
// the whole log before it (rule 1). nil means that it may be decided next.
func (l *Ledger) Check(r *signalbox.Request) error {
	if r.Snapshot != nil {
		return l.checkSnapshot(r.Snapshot)
	}
	if r.Voters != nil {
		return l.checkVoters(r.Voters)
	}
	if err := signalbox.CheckName("service", string(r.Service())); err != nil {
		return err
	}
	switch {
	case r.Handover != nil:
		return l.checkHandover(r.Handover)
	case r.Admit != nil:
		return l.checkAdmission(r.Admit)
	case r.Outcome != nil:
		_, err := l.outcomeCertificate(r.Outcome)
		return err
	case r.Remove != nil:
		return l.checkRemoval(r.Remove)
	}
	return fmt.Errorf("%w: empty request", signalbox.ErrInvalid)
}

func (l *Ledger) checkHandover(h *signalbox.Handover) error {
	st := l.services[h.Service]
	switch {
	case h.From == "":
		return l.checkAdoption(h, st)
	case st == nil || st.Certificate == nil:
		return fmt.Errorf("%w: service %s has no master yet; adopt it first: signalbox service adopt %s --data-center NAME", signalbox.ErrRefused, h.Service, h.Service)
	case h.Term != st.Last+1:
		return fmt.Errorf("%w: the next term of %s is %d, not %d; ask again", signalbox.ErrConflict, h.Service, st.Last+1, h.Term)
	case h.From == h.To:
		return fmt.Errorf("%w: %s is master already", signalbox.ErrInvalid, h.To)
	case h.Allowed&signalbox.AckOnly != signalbox.AckOnly || h.Allowed&^signalbox.AnyEvidence != 0:
		return fmt.Errorf("%w: evidence %s: a handover allows acks and leaves, and may allow lapse, fence and attest", signalbox.ErrInvalid, h.Allowed)
	case h.HoldBudget <= 0 || h.HoldBudget > signalbox.MaxHoldBudget:
		return fmt.Errorf("%w: hold budget %v, want more than 0 and at most %v", signalbox.ErrInvalid, h.HoldBudget, signalbox.MaxHoldBudget)
	}
	check := checkOrdinary
	if len(st.Open) > 0 {
		check = checkSuperseding
	}
	if err := check(h, st); err != nil {
		return err
	}
	if err := checkLeases(h, st); err != nil {
		return err
	}
	if err := checkSingleton(h, st); err != nil {
		return err
	}
	if err := l.checkIncoming(h); err != nil {
		return err
	}
	return l.checkRoster(h)
}

// checkOrdinary: while no block is open, the master's data center hands over,
// with a fallback unless the block allows others' evidence (rules 1 and 5).
func checkOrdinary(h *signalbox.Handover, st *ServiceState) error {
	want := h.Term + 1
	if h.Allowed&signalbox.ByOthers != 0 {
		want = 0
	}
	if h.Fallback != want {
		return fmt.Errorf("%w: fallback %d, want term %d (a block that allows others' evidence has none)", signalbox.ErrInvalid, h.Fallback, want)
	}
	if h.From != st.Master() {
		return fmt.Errorf("%w: %s is master of %s, not %s", signalbox.ErrConflict, st.Master(), h.Service, h.From)
	}
	return nil
}

// checkLeases: a fallback keeps the lease mode of the term that it restores.
func checkLeases(h *signalbox.Handover, st *ServiceState) error {
	if err := h.Leases.Check(); err != nil {
		return err
	}
	var restored signalbox.Leases
	if h.Fallback != 0 {
		restored = st.Certificate.Leases()
	}
	if h.FallbackLeases != restored {
		return fmt.Errorf("%w: the fallback restores leases of %v, the block says %v; ask again", signalbox.ErrConflict, restored.TTL, h.FallbackLeases.TTL)
	}
	return nil
}

// checkSuperseding: while a block is open, only a superseding block may follow;
// it has no fallback (rule 1). It goes back, or, when it allows others' evidence
// because nobody answers, on to where the open one goes.
func checkSuperseding(h *signalbox.Handover, st *ServiceState) error {
	open := st.Open[len(st.Open)-1].Handover(h.Service)
	if h.Fallback != 0 {
		return fmt.Errorf("%w: handover %s of %s (term %d) is open; follow it with: signalbox watch %s", signalbox.ErrConflict, open.ID, h.Service, open.Term, h.Service)
	}
	back := h.From == open.To && h.To == open.From
	on := h.From == open.From && h.To == open.To && h.Allowed&signalbox.ByOthers != 0
	if !back && !on {
		return fmt.Errorf("%w: handover %s is open from %s to %s; only the way back may supersede it, or the same way with others' evidence (signalbox failover)", signalbox.ErrRefused, open.ID, open.From, open.To)
	}
	return nil
}

func (l *Ledger) checkAdoption(h *signalbox.Handover, st *ServiceState) error {
	switch {
	case st != nil && (st.Certificate != nil || len(st.Open) > 0):
		return fmt.Errorf("%w: service %s has term %d in %s already; use switch", signalbox.ErrConflict, h.Service, st.Term(), st.Master())
	case h.Term != 1 || h.Fallback != 0 || len(h.Roster) != 0:
		return fmt.Errorf("%w: an adoption is term 1 without roster and fallback", signalbox.ErrInvalid)
	case h.Allowed != signalbox.AckOnly:
		return fmt.Errorf("%w: an adoption takes no evidence, it allows %s", signalbox.ErrInvalid, h.Allowed)
	case h.FallbackLeases != (signalbox.Leases{}) || h.Previous != "" || h.Singleton && len(h.Incoming) > 1:
		return fmt.Errorf("%w: an adoption restores no term, follows nobody, and a singleton's lists at most one instance", signalbox.ErrInvalid)
	}
	if err := h.Leases.Check(); err != nil {
		return err
	}
	return l.checkIncoming(h)
}

func (l *Ledger) checkIncoming(h *signalbox.Handover) error {
	if len(h.Incoming) == 0 {
		return fmt.Errorf("%w: no instance of %s in %s is known; start its agents first", signalbox.ErrNotReady, h.Service, h.To)
	}
	seen := map[signalbox.Identity]bool{}
	for _, id := range h.Incoming {
		in, ok := l.enrolled[id]
		if !ok || in.Service != h.Service || in.DataCenter != h.To {
			return fmt.Errorf("%w: incoming identity %s is no enrolled instance of %s in %s", signalbox.ErrRefused, id, h.Service, h.To)
		}
		if seen[id] {
			return fmt.Errorf("%w: incoming identity %s stands twice", signalbox.ErrInvalid, id)
		}
		seen[id] = true
	}
	return l.checkRoom(h.Service, h.To, h.Incoming)
}

// checkRoom refuses what would make more identities outstanding in a data
// center than a later handover could take evidence of.
func (l *Ledger) checkRoom(s signalbox.Service, dc signalbox.DataCenter, more []signalbox.Identity) error {
	in := map[signalbox.Identity]bool{}
	if st := l.services[s]; st != nil {
		for id, holder := range st.Outstanding {
			if holder.DataCenter == dc {
				in[id] = true
			}
		}
	}
	for _, id := range more {
		in[id] = true
	}
	if len(in) > MaxOutstanding {
		return fmt.Errorf("%w: %d identities of %s would be outstanding in %s, at most %d; stop some in an orderly way first", signalbox.ErrRefused, len(in), s, dc, MaxOutstanding)
	}
	return nil
}

// checkRoster recomputes the roster from the log and refuses any difference
// (rule 3).
func (l *Ledger) checkRoster(h *signalbox.Handover) error {
	want := l.RosterOf(h)
	if len(want) != len(h.Roster) {
		return fmt.Errorf("%w: the log gives a roster of %d identities, the block has %d; ask again", signalbox.ErrConflict, len(want), len(h.Roster))
	}
	for i, w := range want {
		g := h.Roster[i]
		if w.Identity != g.Identity || w.Admission != g.Admission || w.Name != g.Name ||
			w.DataCenter != g.DataCenter || w.Leased != g.Leased || !bytes.Equal(w.PublicKey, g.PublicKey) {
			return fmt.Errorf("%w: the roster differs from the log at %s (%s); ask again", signalbox.ErrConflict, g.Name, g.Identity)
		}
	}
	return nil
}

func (l *Ledger) checkAdmission(a *signalbox.Admission) error {
	if l.enrollment == nil {
		return fmt.Errorf("%w: this process cannot check enrollments", signalbox.ErrNotConfigured)
	}
	in, err := l.enrollment(a.Enrollment)
	if err != nil {
		return fmt.Errorf("admit %s: %w", a.Name, err)
	}
	if in.Identity != a.Identity {
		return fmt.Errorf("%w: enrollment is of %s", signalbox.ErrUntrusted, in.Identity)
	}
	if known, ok := l.enrolled[in.Identity]; ok && (known.Service != in.Service || known.DataCenter != in.DataCenter || known.Name != in.Name) {
		return fmt.Errorf("%w: identity %s is enrolled as %s of %s in %s already", signalbox.ErrRefused, in.Identity, known.Name, known.Service, known.DataCenter)
	}
	if a.Term == 0 {
		if _, known := l.enrolled[in.Identity]; known {
			return fmt.Errorf("%w: identity %s (%s) is enrolled already", signalbox.ErrConflict, in.Identity, in.Name)
		}
		return nil
	}
	st := l.services[in.Service]
	switch {
	case st == nil || st.Term() != a.Term:
		return fmt.Errorf("%w: %s asks for term %d, certified is %d", signalbox.ErrConflict, a.Name, a.Term, st.Term())
	case len(st.Open) > 0:
		// Rule 3: once a block is decided, admissions to the term before it
		// are void.
		return fmt.Errorf("%w: a handover of %s is open; admissions wait for its outcome", signalbox.ErrConflict, in.Service)
	case in.DataCenter != st.Master():
		return fmt.Errorf("%w: %s is in %s, master is %s", signalbox.ErrRefused, a.Name, in.DataCenter, st.Master())
	case !st.MayJoin(in.Identity):
		return fmt.Errorf("%w: %s is a singleton and another instance is its master; hand it over to %s", signalbox.ErrRefused, in.Service, a.Name)
	}
	return l.checkRoom(in.Service, in.DataCenter, []signalbox.Identity{in.Identity})
}
