package model

import (
	"reflect"
	"testing"
)

// small is searched by every `make test`; `make model` (build tag model) adds larger ones.
func small() []Bounds {
	return []Bounds{
		{Blocks: 3},
		{Blocks: 2, Crashes: 1},
		{Blocks: 2, Leaves: 1},
		{Blocks: 1, Leaves: 1, Admits: 1, Crashes: 1},
		{Blocks: 1, Leaves: 1, Admits: 1, Removes: 1},
		{Blocks: 1, Fences: 1, Admits: 1, Removes: 1},
		{Blocks: 1, Restores: 1, Admits: 1},
		{Blocks: 2, Fences: 1},
		{Blocks: 2, Lapses: 1},
		{Blocks: 1, Lapses: 2, Crashes: 1, Leased: true},
		{Blocks: 1, Lapses: 1, Admits: 1, Removes: 1, Leased: true},
		{Blocks: 3, Singleton: true},
		{Blocks: 2, Fences: 1, Singleton: true},
		{Blocks: 2, Lapses: 1, Singleton: true, Leased: true},
		{Blocks: 2, Leaves: 1, Admits: 1, Singleton: true},
	}
}

// TestDesignHolds guards rules 1 to 5 and 8: with all of them, every state within the bounds keeps every invariant. It also fails
// when the search does not get to see what it is about.
func TestDesignHolds(t *testing.T) {
	rules, missing, total := AllRules(), goals(), 0
	for _, b := range append(small(), large()...) {
		q := Search{Rules: rules, Bounds: b, Invariants: AllInvariants}
		q.Observe = func(from *State, a Action, to *State) {
			for n := 0; n < len(missing); n++ {
				if missing[n].reached(rules, from, a, to) {
					missing[n] = missing[len(missing)-1]
					missing = missing[:len(missing)-1]
				}
			}
		}
		res := q.Run()
		total += res.States
		t.Logf("%s: %d states, %d steps deep", b, res.States, res.Depth)
		if res.Violation {
			t.Fatalf("%s:\n%s", res.Broken, Words(res.Trace))
		}
		if !res.Exhausted {
			t.Fatalf("%s: the search ended before every state was seen", b)
		}
	}
	for _, g := range missing {
		t.Errorf("the search never saw: %s", g.name)
	}
	t.Logf("%d states in all", total)
}

// TestEachClauseIsNeeded guards the clauses one by one: without it there is a way to two masters, or a reason why not.
func TestEachClauseIsNeeded(t *testing.T) {
	for _, c := range Clauses() {
		t.Run(c.Name, func(t *testing.T) {
			rules := AllRules()
			c.Drop(&rules)
			q := Search{Rules: rules, Bounds: c.Bounds, Invariants: []Invariant{OneMaster}}
			res := q.Run()
			switch {
			case c.Spare != "" && (res.Violation || !res.Exhausted):
				t.Fatalf("expected nothing to break (%s), found:\n%s", c.Spare, Words(res.Trace))
			case c.Spare != "":
				t.Logf("rule %s: nothing breaks in %d states: %s", c.Rule, res.States, c.Spare)
			case !res.Violation:
				t.Fatalf("rule %s: without it nothing breaks in %d states", c.Rule, res.States)
			default:
				t.Logf("rule %s: without it, after %d states, %s:\n%s", c.Rule, res.States, res.Broken, Words(res.Trace))
				if len(res.Trace) != res.Depth || !res.Trace[len(res.Trace)-1].After.twoMasters() {
					t.Fatalf("the trace of %d steps does not end at depth %d with two masters", len(res.Trace), res.Depth)
				}
			}
		})
	}
}

// TestNonceIsForOthersEvidence guards the scope of rule 2's question: while every block allows acks and leaves only, an instance that
// starts without asking does no harm, because nothing is taken from it that it has not given and kept on its disk.
func TestNonceIsForOthersEvidence(t *testing.T) {
	rules := AllRules()
	rules.NonceAfterStart = false
	for _, b := range []Bounds{{Blocks: 2, Crashes: 1}, {Blocks: 1, Crashes: 1, Leaves: 1, Admits: 1}} {
		q := Search{Rules: rules, Bounds: b, Invariants: AllInvariants}
		if res := q.Run(); res.Violation || !res.Exhausted {
			t.Fatalf("%s: %s:\n%s", b, res.Broken, Words(res.Trace))
		}
	}
}

// TestEveryRuleHasASwitch keeps the table of clauses complete: each field of Rules is dropped by exactly one clause, of its name.
func TestEveryRuleHasASwitch(t *testing.T) {
	all, clauses := reflect.TypeFor[Rules](), Clauses()
	if all.NumField() != len(clauses) {
		t.Fatalf("Rules has %d fields, Clauses %d entries", all.NumField(), len(clauses))
	}
	for _, c := range clauses {
		rules := AllRules()
		c.Drop(&rules)
		v := reflect.ValueOf(rules)
		for n := range all.NumField() {
			if want := all.Field(n).Name != c.Name; v.Field(n).Bool() != want {
				t.Errorf("%s: field %s is %v after the drop", c.Name, all.Field(n).Name, !want)
			}
		}
	}
}

// TestTwinsBehaveAlike guards the symmetry that the search relies on: exchanging the two instances of a data center and then taking
// a step leads to the same states as taking the step first.
func TestTwinsBehaveAlike(t *testing.T) {
	q := Search{Rules: AllRules(), Bounds: Bounds{Blocks: 2, Leaves: 1, Admits: 1, Restores: 1, Fences: 1, Removes: 1, Crashes: 1}}
	q.init()
	checked := 0
	q.Observe = func(from *State, _ Action, _ *State) {
		checked++
		if checked%97 != 0 {
			return
		}
		want := q.nextKeys(from)
		for _, x := range []ID{0, 2} {
			twin := *from
			twin.exchange(x)
			if q.keyOf(&twin) != q.keyOf(from) {
				t.Fatalf("a state and its twin have different keys: %+v", from)
			}
			if !reflect.DeepEqual(q.nextKeys(&twin), want) {
				t.Fatalf("a state and its twin go on differently: %+v", from)
			}
			twin.exchange(x)
			if twin != *from {
				t.Fatalf("exchanging twice changes the state: %+v", from)
			}
		}
	}
	q.Limit = 20_000
	q.run()
	if checked < 10_000 {
		t.Fatalf("only %d steps looked at", checked)
	}
}

func (q *Search) nextKeys(s *State) map[key]bool {
	keys := map[key]bool{}
	Successors(q.Rules, q.Bounds, s, func(_ Action, to State) { keys[q.keyOf(&to)] = true })
	return keys
}
