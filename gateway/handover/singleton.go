package handover

import (
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// RosterOf computes who must give evidence for a handover: everybody outstanding
// outside the new master's data center, or for a singleton everybody but the one
// incoming; sorted (rule 3).
func (l *Ledger) RosterOf(h *signalbox.Handover) []signalbox.RosterEntry {
	return l.roster(h.Service, func(id signalbox.Identity, holder Holder) bool {
		if h.Singleton {
			return len(h.Incoming) != 1 || id != h.Incoming[0]
		}
		return holder.DataCenter != h.To
	})
}

// Previous returns the one identity that may serve a service by the log: a
// singleton's master. ok is false when the log allows more than one; the
// identity is empty when it is outstanding no more.
func (s *ServiceState) Previous() (id signalbox.Identity, ok bool) {
	var found []signalbox.Identity
	for who, holder := range s.Outstanding {
		if holder.DataCenter == s.Master() {
			found = append(found, who)
		}
	}
	if len(found) == 0 {
		return "", true
	}
	return found[0], len(found) == 1
}

// checkSingleton: one instance comes in, and the fallback is the previous
// master's alone.
func checkSingleton(h *signalbox.Handover, st *ServiceState) error {
	if !h.Singleton {
		if h.Previous != "" {
			return fmt.Errorf("%w: only a singleton's handover names the previous master", signalbox.ErrInvalid)
		}
		return nil
	}
	if len(h.Incoming) > 1 { // none is not ready yet: checkIncoming
		return fmt.Errorf("%w: %s is a singleton: one instance comes in, not %d", signalbox.ErrInvalid, h.Service, len(h.Incoming))
	}
	if h.Fallback == 0 {
		if h.Previous != "" {
			return fmt.Errorf("%w: a handover without fallback names no previous master", signalbox.ErrInvalid)
		}
		return nil
	}
	previous, ok := st.Previous()
	switch {
	case !ok:
		return fmt.Errorf("%w: more than one instance of %s may serve in %s by the log; a singleton has one: stop the others in an orderly way first", signalbox.ErrRefused, h.Service, st.Master())
	case h.Previous != previous:
		return fmt.Errorf("%w: the log has %q as the master instance of %s, the block %q; ask again", signalbox.ErrConflict, previous, h.Service, h.Previous)
	}
	return nil
}

// MayJoin reports whether an identity can be admitted to the certified term: a
// singleton's admits nobody but the one that it lists, again after a leave.
func (s *ServiceState) MayJoin(id signalbox.Identity) bool {
	h := s.Certificate.Handover()
	return !h.Singleton || h.Lists(id, s.Certificate.Term)
}
