package model

import (
	"fmt"
	"strings"
)

func (d DC) String() string {
	if d == East {
		return "east"
	}
	return "west"
}

func (x ID) String() string {
	if x >= originals {
		return x.DC().String() + "-restored"
	}
	return fmt.Sprintf("%s-%d", x.DC(), x%2+1)
}

func (s Set) String() string {
	var names []string
	for x := range ID(idents) {
		if s.Has(x) {
			names = append(names, x.String())
		}
	}
	return "{" + strings.Join(names, ", ") + "}"
}

// Words tells a trace, one line per step.
func Words(steps []Step) string {
	var b strings.Builder
	for n, step := range steps {
		fmt.Fprintf(&b, "%3d. %s\n", n+1, step.words())
	}
	return b.String()
}

func (p Step) words() string {
	a, l := p.Action, &p.After.Log
	switch a.Op {
	case opAppend:
		return fmt.Sprintf("voters append entry %d: %s", l.Len-1, a.Entry)
	case opForget:
		return fmt.Sprintf("voters lose entry %d (its signatures still exist)", a.K)
	case opAck:
		return fmt.Sprintf("%s acks entry %d (never below term %d again)", a.X, a.K, l.E[a.K].Term)
	case opRefuse:
		return fmt.Sprintf("%s refuses entry %d", a.X, a.K)
	case opLeave:
		return fmt.Sprintf("%s stops in order: leave names its admission by entry %d; it starts again", a.X, a.K)
	case opCrash:
		return fmt.Sprintf("%s is killed and starts again", a.X)
	case opRestore:
		return fmt.Sprintf("an older disk of %s is put into use", a.X)
	case opAsk:
		return fmt.Sprintf("%s has its nonce answered by the voters", a.X)
	case opFence:
		if a.K == 0 {
			return fmt.Sprintf("%s is fenced for its removal; it starts again", a.X)
		}
		return fmt.Sprintf("%s is fenced for entry %d; it starts again", a.X, a.K)
	case opLapse:
		return fmt.Sprintf("voters promise %s no lease, wait, and sign its lapse for entry %d", a.X, a.K)
	case opExpire:
		return fmt.Sprintf("the lease of %s runs out (serving now: %s)", a.X, p.After.servers())
	default:
		return fmt.Sprintf("%s serves at term %d (serving now: %s)", a.X, a.Term, p.After.servers())
	}
}

// String tells what a search is bounded by.
func (b Bounds) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		name string
	}{
		{b.Blocks, "blocks"}, {b.Admits, "admissions"}, {b.Removes, "removals"}, {b.Leaves, "leaves"}, {b.Crashes, "crashes"},
		{b.Restores, "restores"}, {b.Fences, "fences"}, {b.Lapses, "lapses"}, {b.Forgets, "forgets"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.name, p.n))
		}
	}
	if b.Singleton {
		parts = append(parts, "singleton")
	}
	if b.Leased {
		parts = append(parts, "adopted with leases")
	}
	return strings.Join(parts, ", ")
}

// String tells an entry.
func (e Entry) String() string {
	switch e.Kind {
	case Handover:
		kind, end, more := "block", "no fallback", ""
		if e.has(Superseding) {
			kind = "superseding block"
		}
		if e.Fallback != 0 {
			end = fmt.Sprintf("fallback term %d for %s", e.Term+1, e.Fallback)
		}
		if e.has(AllowsMore) {
			more = ", allows a fence"
		}
		return fmt.Sprintf("%s, term %d to %s, incoming %s, roster %s, %s%s", kind, e.Term, e.To(), e.Incoming, e.Roster, end, more)
	case Admit:
		return fmt.Sprintf("%s is admitted to term %d", ID(e.Ref), e.Term)
	case Outcome:
		if e.has(Forward) {
			return fmt.Sprintf("outcome of entry %d: its term is certified", e.Of)
		}
		return fmt.Sprintf("outcome of entry %d: its fallback is certified", e.Of)
	case Announce:
		return fmt.Sprintf("the removal of %s is announced: from now on others may say that it is off", ID(e.Ref))
	case Remove:
		if e.has(ByFence) {
			return fmt.Sprintf("%s is removed (it was fenced)", ID(e.Ref))
		}
		return fmt.Sprintf("%s is removed", ID(e.Ref))
	default:
		return "adopted: term 1, east"
	}
}
