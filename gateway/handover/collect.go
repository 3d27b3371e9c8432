package handover

import (
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// collect asks for others' evidence where the block allows it and the identity's
// own answer does not come: at once for whom nobody can reach, for the others
// when the hold budget has run out. Whoever can be reached is asked for its ack
// first. An attest is a person's and is not asked for here.
func (m *Machine) collect(r *run, now time.Time) []Effect {
	kinds := r.h.Allowed & signalbox.EvidenceKinds(signalbox.Lapse|signalbox.Fence)
	if kinds == 0 || !r.collectedAt.IsZero() && now.Sub(r.collectedAt) < Resend {
		return nil
	}
	var out []Effect
	for _, kind := range []signalbox.EvidenceKind{signalbox.Lapse, signalbox.Fence} {
		if kind == signalbox.Fence && now.Sub(r.began) < HoldWait {
			continue // who cannot be reached yet may be in a moment, and a fence is not undone
		}
		var of []signalbox.RosterEntry
		for _, e := range r.h.Roster {
			_, proven := m.evidence(r, e)
			if !proven && kinds.Has(kind) && (kind != signalbox.Lapse || e.Leased) && m.silent(r, e, now) {
				of = append(of, e)
			}
		}
		if len(of) == 0 {
			continue
		}
		if words := kind.String() + " of " + namesOf(of); !r.collecting[words] {
			r.collecting[words] = true
			out = append(out, Record{Block: r.block.Digest, Phase: r.phase, Detail: "asking for the " + words, At: now})
		}
		out = append(out, Collect{Kind: kind, Block: r.block, Of: of})
	}
	if out != nil {
		r.collectedAt = now
	}
	return out
}

func namesOf(entries []signalbox.RosterEntry) string {
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return strings.Join(names, ", ")
}

// silent reports whether an identity's own answer need not be waited for any
// more. It is no evidence; it decides when to ask others for theirs (rule 6).
func (m *Machine) silent(r *run, e signalbox.RosterEntry, now time.Time) bool {
	if now.Sub(r.began) >= r.h.HoldBudget {
		return true
	}
	if e.DataCenter == m.opt.DataCenter {
		a, known := m.agents[e.Identity]
		return known && !a.up || !known && now.Sub(r.began) >= HoldWait
	}
	for name, dc := range m.opt.Peers {
		if dc == e.DataCenter && m.peers[name].up {
			return false // that gateway knows
		}
	}
	return true
}
