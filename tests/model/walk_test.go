package model

import (
	"math/rand/v2"
	"testing"
)

// TestWalksBeyondTheBounds guards the choice of bounds: random walks with many faults at once, far longer than what can be searched,
// keep every invariant too. The seed is fixed.
func TestWalksBeyondTheBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rules, steps := AllRules(), 0
	for walk := range walks {
		b := Bounds{Blocks: 4, Admits: 2, Removes: 1, Leaves: 4, Crashes: 3, Restores: walk & 1, Fences: walk / 2 % 2 * 3}
		if walk%3 == 0 {
			b.Blocks, b.Admits, b.Removes = 3, 2, 2
		}
		b.Singleton = walk%5 == 0
		if walk/4%2 == 0 {
			b.Lapses, b.Leased = 2, walk/8%2 == 0
		}
		s := Initial(b)
		var trace []Step
		for len(trace) < 80 {
			next, ok := randomStep(rng, rules, b, &s)
			if !ok {
				break
			}
			trace, s = append(trace, next), next.After
			for _, v := range AllInvariants {
				if !rules.holds(v, &s) {
					t.Fatalf("%s:\n%s", v, Words(trace))
				}
			}
		}
		steps += len(trace)
	}
	t.Logf("%d walks, %d steps", walks, steps)
}

// randomStep chooses what happens first, then how, so that the many ways to append a block do not drown the rest.
func randomStep(rng *rand.Rand, r Rules, b Bounds, s *State) (Step, bool) {
	var by [16 << 3][]Step
	var kinds []int
	Successors(r, b, s, func(a Action, to State) {
		kind := int(a.Op)<<3 | int(a.Entry.Kind)
		if by[kind] == nil {
			kinds = append(kinds, kind)
		}
		by[kind] = append(by[kind], Step{Action: a, After: to})
	})
	if len(kinds) == 0 {
		return Step{}, false
	}
	of := by[kinds[rng.IntN(len(kinds))]]
	return of[rng.IntN(len(of))], true
}
