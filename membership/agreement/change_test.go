package agreement

import "testing"

// A breadth-first search over a change of voters, as the votes, leases and answers
// around it go (DESIGN.md, "Changing the voters"): old voters 0 to 3 and new ones 1
// to 4, n = 4, u = r = 1 in both, 1 lies; slot i is the change, or is decided
// without it and tried again; slot i + 1 takes the instance's mastership by a lapse,
// or by a fence. Any order of steps, agents that learn of the new voters or do not.
//
// Two masters are: two blocks of slot i + 1; a lapse while the instance's lease is
// live; an instance that was fenced, was started again and is let in.

const (
	changeVoters = 5
	changeLiar   = 1
	changeQuorum = 3
)

// changeRules are the clauses that the argument rests on.
type changeRules struct {
	stopFirst, newEpochVotes, newWait, grantsNameEpoch, answersNameEpoch bool
}

// The parts of the search; each goes to its end.
const (
	searchVotes = iota
	searchLeases
	searchAnswers
)

// isOld and isNew say whose member a voter is.
func isOld(v int) bool { return v <= 3 }
func isNew(v int) bool { return v >= 1 }

// changeState is small and comparable. A grant's age: 0 none, 1 new, 2 old; two
// ticks end it. A new voter's wait: 0 not in the epoch, 1 entered, 2 half, 3 over.
type changeState struct {
	stopped, voted, knows                [changeVoters]bool // for the change, by the old; its decision
	grants                               [2][changeVoters]uint8
	mixed                                [changeVoters]uint8 // what the instance counts when grants name no epoch
	wait                                 [changeVoters]uint8
	voteOld, voteNew, promised           [changeVoters]bool // in slot i + 1; of its lapse
	changed, other, oldDecided, decided2 bool               // slot i + 1 by the old, by the new
	learned, fenced                      bool
	clear                                [2][changeVoters]bool // answers that clear, by epoch
	retried                              bool
}

func (r changeRules) bad(s *changeState) string {
	count := func(f func(int) bool) (n int) {
		for v := range changeVoters {
			if f(v) {
				n++
			}
		}
		return n
	}
	live := count(func(v int) bool { return isOld(v) && (v == changeLiar || s.grants[0][v] > 0) }) >= changeQuorum
	if !r.grantsNameEpoch {
		live = count(func(v int) bool { return isOld(v) && (v == changeLiar || s.mixed[v] > 0) }) >= changeQuorum
	}
	live = live || s.learned && count(func(v int) bool { return isNew(v) && (v == changeLiar || s.grants[1][v] > 0) }) >= changeQuorum
	lapsed := s.decided2 && count(func(v int) bool { return isNew(v) && (v == changeLiar || r.lapses(s, v)) }) >= changeQuorum
	in := count(func(v int) bool { return isOld(v) && s.clear[0][v] }) >= changeQuorum ||
		s.learned && count(func(v int) bool { return isNew(v) && s.clear[1][v] }) >= changeQuorum
	switch {
	case s.oldDecided && s.decided2:
		return "two blocks of one slot"
	case live && lapsed:
		return "a lapse of a live lease"
	case s.fenced && in:
		return "a fenced instance is let in"
	}
	return ""
}

// lapses reports whether a new voter has signed the lapse.
func (r changeRules) lapses(s *changeState, v int) bool {
	return s.promised[v] && s.grants[1][v] == 0 && (!r.newWait || s.wait[v] == 3)
}

func votes(of [changeVoters]bool, member func(int) bool) (n int) {
	for v, voted := range of {
		if member(v) && (voted || v == changeLiar) {
			n++
		}
	}
	return n
}

// successors visits every state one step away.
func (r changeRules) successors(part int, s *changeState, visit func(changeState)) {
	next := func(f func(*changeState)) {
		n := *s
		f(&n)
		visit(n)
	}
	for v := range changeVoters {
		if v != changeLiar {
			r.voter(part, s, v, next)
		}
	}
	if votes(s.voted, isOld) >= changeQuorum && !s.other {
		next(func(n *changeState) { n.changed = true })
	}
	if !s.changed && !s.retried {
		next(func(n *changeState) { // the slot is decided without the change; it is tried in the next
			n.retried, n.stopped, n.voted = true, [changeVoters]bool{}, [changeVoters]bool{}
		})
	}
	if votes(s.voteOld, isOld) >= changeQuorum {
		next(func(n *changeState) { n.oldDecided = true })
	}
	if s.changed && votes(s.voteNew, isNew) >= changeQuorum {
		next(func(n *changeState) { n.decided2 = true })
	}
	if s.changed {
		next(func(n *changeState) { n.learned = true })
	}
	if s.decided2 && part == searchAnswers {
		next(func(n *changeState) { n.fenced, n.clear = true, [2][changeVoters]bool{} })
	}
	if s.fenced { // the liar says whatever helps
		next(func(n *changeState) { n.clear[0][changeLiar], n.clear[1][changeLiar] = true, true })
	}
	if part == searchLeases {
		next(tick)
	}
}

// tick ages grants and waits.
func tick(n *changeState) {
	for v := range changeVoters {
		for _, g := range []*uint8{&n.grants[0][v], &n.grants[1][v], &n.mixed[v]} {
			if *g > 0 {
				*g = (*g + 1) % 3
			}
		}
		if w := &n.wait[v]; *w == 1 || *w == 2 {
			*w++
		}
	}
}

// voter has an honest voter do what it may.
func (r changeRules) voter(part int, s *changeState, v int, next func(func(*changeState))) {
	if isOld(v) && !s.knows[v] && !s.voted[v] {
		next(func(n *changeState) { n.voted[v], n.stopped[v] = true, true })
	}
	if s.changed && !s.knows[v] {
		next(func(n *changeState) {
			n.knows[v] = true
			if isNew(v) {
				n.wait[v] = 1
			}
		})
	}
	if isOld(v) && s.changed && s.knows[v] && !r.newEpochVotes && !s.voteOld[v] {
		next(func(n *changeState) { n.voteOld[v] = true })
	}
	if isNew(v) && s.knows[v] && !s.voteNew[v] {
		next(func(n *changeState) { n.voteNew[v] = true })
	}
	switch {
	case part == searchLeases:
		r.leases(s, v, next)
	case part == searchAnswers && s.fenced:
		r.answers(s, v, next)
	}
}

// leases has a voter grant, and promise that it does not.
func (r changeRules) leases(s *changeState, v int, next func(func(*changeState))) {
	if isOld(v) && !s.knows[v] && !(r.stopFirst && s.stopped[v]) {
		next(func(n *changeState) { n.grants[0][v], n.mixed[v] = 1, 1 })
	}
	if isNew(v) && s.knows[v] && !s.promised[v] {
		next(func(n *changeState) { n.grants[1][v], n.mixed[v] = 1, 1 })
	}
	if isNew(v) && s.decided2 && s.knows[v] && !s.promised[v] {
		next(func(n *changeState) { n.promised[v] = true })
	}
}

// answers has a voter answer the instance that was started again.
func (r changeRules) answers(s *changeState, v int, next func(func(*changeState))) {
	sees := s.voteNew[v] // a voter says what it voted for
	epoch := 0
	if s.voted[v] || s.knows[v] {
		epoch = 1
	}
	if isOld(v) && !sees && (epoch == 0 || !r.answersNameEpoch) {
		next(func(n *changeState) { n.clear[0][v] = true })
	}
	if isNew(v) && !sees && s.knows[v] {
		next(func(n *changeState) { n.clear[1][v] = true })
	}
}

const unfinished = "the search is not at its end"

// search returns the first violation, and how many states it saw.
func (r changeRules) search(part, most int) (string, int) {
	var start changeState
	seen, queue := map[changeState]bool{start: true}, []changeState{start}
	for len(queue) > 0 && len(seen) < most {
		s := queue[0]
		queue = queue[1:]
		if why := r.bad(&s); why != "" {
			return why, len(seen)
		}
		r.successors(part, &s, func(n changeState) {
			if n = r.reduced(part, n); !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		})
	}
	if len(queue) > 0 {
		return unfinished, len(seen)
	}
	return "", len(seen)
}

// reduced forgets what cannot matter any more, and tells voters 2 and 3 apart by
// nothing but what they did.
func (r changeRules) reduced(part int, s changeState) changeState {
	for v := range changeVoters {
		if s.knows[v] {
			s.stopped[v] = false
		}
		if r.grantsNameEpoch {
			s.mixed[v] = 0
		}
	}
	if part != searchAnswers && s.changed {
		s.voted = [changeVoters]bool{}
	}
	if part == searchLeases && s.decided2 {
		s.voteNew = [changeVoters]bool{}
	}
	if s.did(2) < s.did(3) {
		return s.swapped(2, 3)
	}
	return s
}

// did packs all that a voter did.
func (s *changeState) did(v int) (n int) {
	for _, b := range []bool{s.stopped[v], s.voted[v], s.knows[v], s.voteOld[v], s.voteNew[v], s.promised[v], s.clear[0][v], s.clear[1][v]} {
		n *= 2
		if b {
			n++
		}
	}
	for _, g := range []uint8{s.grants[0][v], s.grants[1][v], s.mixed[v], s.wait[v]} {
		n = n*4 + int(g)
	}
	return n
}

func (s changeState) swapped(a, b int) changeState {
	for _, of := range []*[changeVoters]bool{&s.stopped, &s.voted, &s.knows, &s.voteOld, &s.voteNew, &s.promised, &s.clear[0], &s.clear[1]} {
		of[a], of[b] = of[b], of[a]
	}
	for _, of := range []*[changeVoters]uint8{&s.grants[0], &s.grants[1], &s.mixed, &s.wait} {
		of[a], of[b] = of[b], of[a]
	}
	return s
}

// TestChangeOfVoters guards the argument of DESIGN.md, "Changing the voters": no two
// masters, and two without any one of its clauses.
func TestChangeOfVoters(t *testing.T) {
	all := changeRules{true, true, true, true, true}
	for name, part := range map[string]int{"votes": searchVotes, "leases": searchLeases, "answers": searchAnswers} {
		t.Run(name, func(t *testing.T) {
			why, states := all.search(part, 4_000_000)
			if why != "" {
				t.Errorf("%s after %d states", why, states)
			}
			t.Logf("%d states", states)
		})
	}
	for _, c := range []struct {
		name string
		part int
		drop func(*changeRules)
	}{
		{"no votes in the old epoch", searchVotes, func(r *changeRules) { r.newEpochVotes = false }},
		{"stop granting first", searchLeases, func(r *changeRules) { r.stopFirst = false }},
		{"new voters wait", searchLeases, func(r *changeRules) { r.newWait = false }},
		{"grants name their epoch", searchLeases, func(r *changeRules) { r.grantsNameEpoch = false }},
		{"answers name the epoch", searchAnswers, func(r *changeRules) { r.answersNameEpoch = false }},
	} {
		t.Run("without: "+c.name, func(t *testing.T) {
			rules := all
			c.drop(&rules)
			why, states := rules.search(c.part, 4_000_000)
			t.Logf("%q after %d states", why, states)
			if why == "" || why == unfinished {
				t.Error("no two masters")
			}
		})
	}
}
