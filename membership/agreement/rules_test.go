package agreement

import (
	"strings"
	"testing"
)

// TestEachRuleIsNeeded guards the rules by name: the search finds two decided
// values when one is switched off.
func TestEachRuleIsNeeded(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  Rule
		views int
	}{
		{"OneVoteOne", OneVoteOne, 2},
		{"NoVoteTwoAfterTimeout", NoVoteTwoAfterTimeout, 2},
		{"TimeoutTellsLock", TimeoutTellsLock, 2},
		{"ChangeNeeded", ChangeNeeded, 2},
		{"ProposeHighest", ProposeHighest, 3},
		{"HighestProven", HighestProven, 2},
		{"ChangeIsQuorum", ChangeIsQuorum, 2},
		{"ChangeIsSigned", ChangeIsSigned, 2},
		{"FullQuorum", FullQuorum, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSearch(t, c.views, c.rule)
			way := s.explore(3_000_000)
			if way == nil {
				t.Errorf("nothing is found without it in %d states", s.states)
			}
			t.Logf("%d states, then:\n%s", s.states, strings.Join(way, "\n"))
		})
	}
	t.Run("disk", func(t *testing.T) {
		s := newSearch(t, 1, 0)
		s.noDisk = true
		if s.explore(3_000_000) == nil {
			t.Error("nothing is found when votes may leave before they are on the disk")
		}
	})
}

// TestCoveredRules tells of the rules that others cover for: without one of them
// nothing is found. They stay: without CertifiedBeforeTwo a voter locks on what
// it cannot show, and nobody hears its timeouts.
func TestCoveredRules(t *testing.T) {
	for name, rule := range map[string]Rule{
		"OneVoteTwo: of one vote 1 comes one certificate":             OneVoteTwo,
		"NoVoteOneAfterTimeout: who ended the view votes 2 no more":   NoVoteOneAfterTimeout,
		"CertifiedBeforeTwo: a vote 2 is for what one voted 1 for":    CertifiedBeforeTwo,
		"ViewInDecision: it takes four views, TestSharesOfOtherViews": ViewInDecision,
	} {
		if way := newSearch(t, 2, rule).explore(3_000_000); way != nil {
			t.Errorf("%s: it is needed after all: %q", name, way)
		}
	}
}

// TestSharesOfOtherViews guards why a vote 2 signs its view: with shares over
// the block alone, a lying leader adds up those of the views 1 and 3 to a second
// decision, although each voter obeyed every other rule.
func TestSharesOfOtherViews(t *testing.T) {
	const a, b = 0, 1
	propose := func(view, value, change, justify int) action {
		return action{kind: Proposal, view: view, value: value, change: change, justify: justify}
	}
	certify := func(view, value int) action { return action{kind: Certified, view: view, value: value} }
	clock := action{kind: Timeout}
	way := []struct {
		who int
		action
	}{
		{0, propose(1, a, -1, 0)}, {1, propose(1, a, -1, 0)}, {0, certify(1, a)}, // 0 locks a, view 1
		{1, clock}, {2, clock}, // view 1 ends without 0: nobody names a
		{1, propose(2, b, 0, 0)}, {2, propose(2, b, 0, 0)}, {1, certify(2, b)}, // 1 locks b, view 2
		{0, action{kind: Value, view: 1}}, {0, clock}, {2, clock}, // view 2 ends without 1: 0 names a
		{0, propose(3, a, 1, 1)}, {2, propose(3, a, 1, 1)}, {2, certify(3, a)}, // 2 locks a, view 3
		{0, clock}, {1, action{kind: Want, view: 3}}, // view 3 ends without 2: 1 names b
		{0, propose(4, b, 2, 2)}, {1, propose(4, b, 2, 2)}, {0, certify(4, b)}, {1, certify(4, b)},
	}
	for _, without := range []Rule{0, ViewInDecision} {
		s := newSearch(t, 4, without)
		first := s.id(local{view: 1})
		w := world{first, first, first}
		for i, st := range way {
			if !s.possible(w, st.who, st.action) {
				t.Fatalf("step %d (%s) cannot be", i, st.action)
			}
			l := s.locals[w[st.who]]
			next := s.after(l, s.run(l, st.action))
			if next == l {
				t.Fatalf("step %d (%s): the voter refused", i, st.action)
			}
			w[st.who] = s.id(next)
		}
		if got, want := s.decided(w), map[Rule]int{0: 1, ViewInDecision: 2}[without]; got != want {
			t.Errorf("without %b: %d values decided, want %d", without, got, want)
		}
	}
}
