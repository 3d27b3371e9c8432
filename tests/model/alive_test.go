package model

import "testing"

// TestNobodyIsLockedOut guards against rules that are safe because they stop everything: from every state that leaves the voters one
// more block and one more admission, there is a way to a master. (Restored disks are left out: a lost key waits for a fence.)
func TestNobodyIsLockedOut(t *testing.T) {
	for _, b := range []Bounds{{Blocks: 2, Crashes: 1}, {Blocks: 2, Leaves: 1, Admits: 1, Singleton: true}, {Blocks: 2, Fences: 1}, {Blocks: 1, Lapses: 2, Admits: 1, Leased: true}} {
		q := Search{Rules: AllRules(), Bounds: b}
		q.init()
		back, todo, states := map[key][]key{}, []key{}, map[key]State{}
		q.Observe = func(from *State, _ Action, to *State) {
			f, k := q.keyOf(from), q.keyOf(to)
			back[k] = append(back[k], f)
			states[f], states[k] = *from, *to
		}
		q.run()
		good := map[key]bool{}
		for k, s := range states {
			if s.servers() != 0 {
				good[k], todo = true, append(todo, k)
			}
		}
		for len(todo) > 0 {
			k := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, f := range back[k] {
				if !good[f] {
					good[f], todo = true, append(todo, f)
				}
			}
		}
		idle := 0
		for k, s := range states {
			blocks := s.Log.count(func(e *Entry) bool { return e.Kind == Handover })
			admits := s.Log.count(func(e *Entry) bool { return e.Kind == Admit })
			if s.servers() == 0 {
				idle++
			}
			if !good[k] && blocks < b.Blocks && (admits < b.Admits || b.Admits == 0) {
				t.Fatalf("%s: nobody can serve any more after:\n%s", b, Words(q.trace(q.seen[k])))
			}
		}
		t.Logf("%s: %d of %d states have no master; each that leaves a block and an admission leads to one", b, idle, len(states))
	}
}
