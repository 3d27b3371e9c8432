package handover

import (
	"crypto/ed25519"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// An Announcement is a removal that the log announced: from its block on others
// may give evidence for it (rule 3).
type Announcement struct {
	signalbox.Removal
	Index  uint64
	Digest signalbox.Digest
}

// Entry returns an outstanding identity as a roster names it.
func (s *ServiceState) Entry(id signalbox.Identity) (signalbox.RosterEntry, bool) {
	if s == nil {
		return signalbox.RosterEntry{}, false
	}
	h, ok := s.Outstanding[id]
	return signalbox.RosterEntry{
		Identity: id, PublicKey: h.PublicKey, Name: h.Name, DataCenter: h.DataCenter, Admission: h.Admission, Leased: h.Leased,
	}, ok
}

// checkRemoval: nobody leaves outstanding but by the evidence that a handover
// would need (rule 3).
func (l *Ledger) checkRemoval(r *signalbox.Removal) error {
	st := l.services[r.Service]
	if st == nil {
		return fmt.Errorf("%w: service %s", signalbox.ErrUnknown, r.Service)
	}
	entry, ok := st.Entry(r.Identity)
	if !ok {
		return fmt.Errorf("%w: %s is not outstanding", signalbox.ErrConflict, r.Identity)
	}
	if len(st.Open) > 0 {
		return fmt.Errorf("%w: a handover of %s is open; removals wait for its outcome", signalbox.ErrConflict, r.Service)
	}
	if r.Announces() {
		return checkAnnouncement(r, st, entry)
	}
	e, err := rpc.OpenEvidence(l.trust, r.Evidence, func(id signalbox.Identity) ed25519.PublicKey {
		if id != r.Identity {
			return nil
		}
		return entry.PublicKey
	})
	switch {
	case err != nil:
		return fmt.Errorf("remove %s: %w", entry.Name, err)
	case e.Kind.ByOthers():
		a := st.Announced[r.Identity]
		if a == nil {
			return fmt.Errorf("%w: the removal of %s is not announced (or a handover or an admission came since); announce it and have the evidence given again", signalbox.ErrConflict, entry.Name)
		}
		if err := rpc.ProvesRemoval(&a.Removal, a.Digest, entry, e.Statement); err != nil {
			return fmt.Errorf("%w: remove %s: %w", signalbox.ErrRefused, entry.Name, err)
		}
		if by, now := e.Witness.Epoch, l.epochOf(a.Index); by != 0 && by < now {
			// As for a handover's block: their keys may be anybody's by now.
			return fmt.Errorf("%w: %s of %s is by voter set %d, the removal was announced under set %d", signalbox.ErrUntrusted, e.Kind, entry.Name, by, now)
		}
		return nil
	case e.Kind != signalbox.SaysLeave || e.Service != r.Service || e.Admission != entry.Admission:
		return fmt.Errorf("%w: a %s for admission %d does not take %s (admission %d) out", signalbox.ErrRefused, e.Kind, e.Admission, entry.Name, entry.Admission)
	}
	return nil
}

func checkAnnouncement(r *signalbox.Removal, st *ServiceState, entry signalbox.RosterEntry) error {
	a := st.Announced[r.Identity]
	switch {
	case r.Admission != entry.Admission:
		return fmt.Errorf("%w: the admission of %s is %d, not %d; ask again", signalbox.ErrConflict, entry.Name, entry.Admission, r.Admission)
	case r.Below != st.Last+1:
		return fmt.Errorf("%w: the next term of %s is %d, not %d; ask again", signalbox.ErrConflict, r.Service, st.Last+1, r.Below)
	case r.Allowed == 0 || r.Allowed&^signalbox.ByOthers != 0:
		return fmt.Errorf("%w: a removal by %q cannot be announced: a leave needs none", signalbox.ErrInvalid, r.Allowed)
	case a != nil && a.Allowed&r.Allowed == r.Allowed:
		return fmt.Errorf("%w: the removal of %s is announced already (block %d)", signalbox.ErrConflict, entry.Name, a.Index)
	}
	return nil
}

func (l *Ledger) applyRemoval(b *signalbox.DecidedBlock, r *signalbox.Removal) {
	st := l.state(r.Service)
	if r.Announces() {
		st.Announced[r.Identity] = &Announcement{Removal: *r, Index: b.Index, Digest: b.Digest}
		st.doubted[r.Identity] = b.Index
		return
	}
	delete(st.Outstanding, r.Identity)
	delete(st.Admissions, r.Identity)
	delete(st.Announced, r.Identity)
}

// Answer is what a voter with this log says to an instance that started: the
// newest handover block of the service, and the newest entry that could have
// taken its mastership away without asking it (rule 2). Voter and nonce are the
// caller's. A voter that voted for a block which is not decided yet takes that
// in as well: see Doubts.
func (l *Ledger) Answer(s signalbox.Service, id signalbox.Identity) rpc.Answer {
	a := rpc.Answer{Service: s, Identity: id}
	st := l.services[s]
	if st == nil {
		return a
	}
	if st.Newest != nil {
		h := st.Newest.Handover(s)
		a.Index, a.Block, a.Allowed, a.Term = st.Newest.Index, st.Newest.Digest, h.Allowed, h.Term
	}
	a.Beyond = max(st.beyond, st.doubted[id])
	return a
}

// Doubts reports whether a block could take the mastership of an identity away
// without asking it: its handover of the service allows others' evidence, or it
// announces the identity's removal.
func Doubts(b *signalbox.Block, s signalbox.Service, id signalbox.Identity) bool {
	if h := b.Handover(s); h != nil && h.Allowed&signalbox.ByOthers != 0 {
		return true
	}
	r := b.Announcement(s)
	return r != nil && r.Identity == id
}
