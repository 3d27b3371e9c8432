package agreement

import (
	"flag"
	"slices"
	"testing"
	"time"
)

var (
	searchViews  = flag.Int("search.views", 3, "views of the exhaustive search; with 4 it has not ended within 10^8 states")
	searchStates = flag.Int("search.states", 100_000_000, "states after which the exhaustive search gives up; about 75 bytes each")
)

// pack puts a world into a key.
func pack(w world) uint64 { return uint64(w[0])<<42 | uint64(w[1])<<21 | uint64(w[2]) }

func unpack(k uint64) world {
	return world{int(k >> 42), int(k >> 21 & (1<<21 - 1)), int(k & (1<<21 - 1))}
}

// explore goes through all states, breadth first; it returns a shortest way to
// two decided values, or nil.
func (s *search) explore(limit int) []string {
	first := s.id(local{view: 1})
	begin := pack(world{first, first, first})
	before := map[uint64]uint64{begin: begin}
	found := func(from uint64, next world) (ended bool) {
		to := pack(next)
		if _, ok := before[to]; ok {
			return false
		}
		before[to] = from
		s.next = append(s.next, to)
		return s.decided(next) > 1
	}
	for level := []uint64{begin}; len(level) > 0; s.depth++ {
		for i, key := range level {
			if s.states++; s.states > limit {
				s.t.Fatalf("more than %d states: all that are within %d steps, and %d of the %d of the next step; %d are known of the one after, and %d voter states",
					limit, s.depth-1, i, len(level), len(s.next), len(s.locals))
			}
			if s.visit(key, found) {
				return s.way(before, s.next[len(s.next)-1])
			}
		}
		level, s.next = s.next, level[:0]
	}
	return nil
}

// visit takes every step from a state, until found says that it was the last.
func (s *search) visit(key uint64, found func(from uint64, next world) (ended bool)) bool {
	w := unpack(key)
	for who, id := range w {
		if who > 0 && w[who-1] == id {
			continue // the same as the one before
		}
		for _, st := range s.stepsOf(id) {
			if !s.possible(w, who, st.action) {
				continue
			}
			s.taken++
			next := w
			next[who] = st.to
			if found(key, s.canonical(next)) {
				return true
			}
		}
	}
	return false
}

// way names the steps that led to a world.
func (s *search) way(before map[uint64]uint64, to uint64) (way []string) {
	for before[to] != to {
		from := unpack(before[to])
		for who, id := range from {
			for _, st := range s.stepsOf(id) {
				next := from
				next[who] = st.to
				if s.possible(from, who, st.action) && pack(s.canonical(next)) == to {
					way = append(way, st.action.String())
					to = before[to]
					goto found
				}
			}
		}
	found:
	}
	slices.Reverse(way)
	return way
}

// TestExhaustive guards agreement itself: whatever one liar of four does, with
// all messages lost, repeated and reordered and voters crashing after every
// step, no two values of a slot are decided.
func TestExhaustive(t *testing.T) {
	s := newSearch(t, *searchViews, 0)
	began := time.Now()
	if way := s.explore(*searchStates); way != nil {
		t.Fatalf("two values decided: %q", way)
	}
	t.Logf("4 voters, 1 liar, 2 values, %d views: %d states of %d voter states, at most %d steps deep, %d steps, %v",
		s.views, s.states, len(s.locals), s.depth-1, s.taken, time.Since(began).Round(time.Millisecond))
}
