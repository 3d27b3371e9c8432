package model

import (
	"hash/maphash"
)

// key identifies a state up to the exchange of the two instances of a data center.
type key [2]uint64

// Result is what a search found.
type Result struct {
	States    int
	Depth     int
	Exhausted bool      // every state within the bounds was visited
	Violation bool      // an invariant does not hold
	Broken    Invariant // which one
	Trace     []Step    // the shortest way there
}

// Step is one step of a trace.
type Step struct {
	Action Action
	After  State
}

// Search looks at every state reachable within the bounds, breadth-first, so the first violation found is a shortest one. It stops
// at the first violation, or when limit states were visited. observe, if not nil, sees every step.
type Search struct {
	Rules      Rules
	Bounds     Bounds
	Invariants []Invariant
	Limit      int
	Observe    func(from *State, a Action, to *State)

	seeds   [2]maphash.Seed
	seen    map[key]int32
	parents []int32
	keys    []key
}

// Run does the search.
func (q *Search) Run() Result {
	if longest := 1 + 2*q.Bounds.Blocks + q.Bounds.Admits + 2*q.Bounds.Removes; longest > MaxLog {
		panic("model: the bounds allow a longer log than a state can hold")
	}
	q.init()
	return q.run()
}

func (q *Search) run() Result {
	frontier := []State{Initial(q.Bounds)}
	q.add(q.keyOf(&frontier[0]), -1)
	first := 0
	var res Result
	for len(frontier) > 0 {
		var next []State
		begin := len(q.parents)
		for n := range frontier {
			bad := int32(-1)
			Successors(q.Rules, q.Bounds, &frontier[n], func(a Action, to State) {
				if q.Observe != nil {
					q.Observe(&frontier[n], a, &to)
				}
				at, fresh := q.add(q.keyOf(&to), int32(first+n))
				if !fresh || bad >= 0 {
					return
				}
				next = append(next, to)
				for _, v := range q.Invariants {
					if !q.Rules.holds(v, &to) {
						bad, res.Broken = at, v
						return
					}
				}
			})
			if bad >= 0 {
				res.Violation, res.States, res.Depth = true, len(q.parents), res.Depth+1
				res.Trace = q.trace(bad)
				return res
			}
			if q.Limit > 0 && len(q.parents) > q.Limit {
				res.States = len(q.parents)
				return res
			}
		}
		if len(next) > 0 {
			res.Depth++
		}
		frontier, first = next, begin
	}
	res.States, res.Exhausted = len(q.parents), true
	return res
}

func (q *Search) init() {
	q.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	q.seen, q.parents, q.keys = map[key]int32{}, nil, nil
}

func (q *Search) add(k key, parent int32) (at int32, fresh bool) {
	if at, ok := q.seen[k]; ok {
		return at, false
	}
	at = int32(len(q.parents))
	q.seen[k] = at
	q.parents = append(q.parents, parent)
	q.keys = append(q.keys, k)
	return at, true
}

// trace walks from the first state along the keys, so that it names real instances and not their exchanged twins.
func (q *Search) trace(at int32) []Step {
	var path []key
	for ; at > 0; at = q.parents[at] {
		path = append(path, q.keys[at])
	}
	s := Initial(q.Bounds)
	var steps []Step
	for n := len(path) - 1; n >= 0; n-- {
		found := false
		Successors(q.Rules, q.Bounds, &s, func(a Action, to State) {
			if !found && q.keyOf(&to) == path[n] {
				found = true
				steps = append(steps, Step{Action: a, After: to})
			}
		})
		if !found {
			panic("model: a trace cannot be followed: the rules treat the two instances of a data center differently")
		}
		s = steps[len(steps)-1].After
	}
	return steps
}

// keyOf is the smallest hash among the state's four twins. Two hashes of 64 bits make a collision among 10^7 states improbable
// (about 10^-25).
func (q *Search) keyOf(s *State) key {
	least := q.hash(s)
	twin := *s
	for n := range 3 {
		twin.exchange(ID(n & 1 * 2)) // east, west, east: all four combinations
		if k := q.hash(&twin); k[0] < least[0] || k[0] == least[0] && k[1] < least[1] {
			least = k
		}
	}
	return least
}

func (q *Search) hash(s *State) key {
	return key{maphash.Comparable(q.seeds[0], *s), maphash.Comparable(q.seeds[1], *s)}
}

// exchange swaps the identities x and x+1 everywhere.
func (s *State) exchange(x ID) {
	swap := func(set Set) Set {
		a, b := set>>x&1, set>>(x+1)&1
		return set&^(3<<x) | b<<x | a<<(x+1)
	}
	for i := range int(s.Log.Len) {
		e := &s.Log.E[i]
		e.Incoming, e.Roster, e.Fallback = swap(e.Incoming), swap(e.Roster), swap(e.Fallback)
		if (e.Kind == Admit || e.Kind == Announce || e.Kind == Remove) && ID(e.Ref)&^1 == x {
			e.Ref ^= 1
		}
	}
	s.Inst[x], s.Inst[x+1] = s.Inst[x+1], s.Inst[x]
	s.Alive = swap(s.Alive)
	for d := range s.CopyOf {
		if c := s.CopyOf[d]; c == uint8(x)+1 || c == uint8(x)+2 {
			s.CopyOf[d] = uint8(x)*2 + 3 - c
		}
	}
}
