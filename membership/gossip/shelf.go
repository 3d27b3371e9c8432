package gossip

import (
	"container/list"
	"sync"
)

// shelf is a bounded grow-only set: what was added stays until it is forgotten
// or, as a last resort, pushed out by newer entries. A key that left is
// remembered for a while, so that a late copy is not taken for news.
type shelf[K comparable] struct {
	limit      int // entries
	limitBytes int

	mu      sync.Mutex
	entries map[K]*list.Element // of *item[K]
	order   *list.List          // oldest first
	bytes   int
	gone    recent[K]
}

type item[K comparable] struct {
	key K
	raw []byte
}

func newShelf[K comparable](limit, limitBytes int) *shelf[K] {
	return &shelf[K]{
		limit: limit, limitBytes: limitBytes,
		entries: make(map[K]*list.Element), order: list.New(),
		gone: recent[K]{limit: TombstonesPerLimit * limit},
	}
}

// add puts an entry in unless its key is or was there, and returns how many of
// the oldest entries had to make room.
func (s *shelf[K]) add(key K, raw []byte) (fresh bool, evicted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entries[key]; ok || s.gone.has(key) {
		return false, 0
	}
	s.entries[key] = s.order.PushBack(&item[K]{key, raw})
	s.bytes += len(raw)
	for len(s.entries) > s.limit || s.bytes > s.limitBytes {
		s.remove(s.order.Front())
		evicted++
	}
	return true, evicted
}

func (s *shelf[K]) remove(e *list.Element) {
	it := s.order.Remove(e).(*item[K])
	delete(s.entries, it.key)
	s.bytes -= len(it.raw)
	s.gone.add(it.key)
}

// knows says whether the key is or recently was on the shelf.
func (s *shelf[K]) knows(key K) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.entries[key]
	return ok || s.gone.has(key)
}

func (s *shelf[K]) get(key K) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok {
		return nil, false
	}
	return e.Value.(*item[K]).raw, true
}

// forget removes every entry whose key matches and returns how many they were.
// The caller's function runs outside the lock.
func (s *shelf[K]) forget(match func(K) bool) int {
	var matched []K
	for _, key := range s.keys() {
		if match(key) {
			matched = append(matched, key)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, key := range matched {
		if e, ok := s.entries[key]; ok {
			s.remove(e)
			n++
		}
	}
	return n
}

func (s *shelf[K]) keys() []K {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]K, 0, len(s.entries))
	for e := s.order.Front(); e != nil; e = e.Next() {
		keys = append(keys, e.Value.(*item[K]).key)
	}
	return keys
}

func (s *shelf[K]) all() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	raws := make([][]byte, 0, len(s.entries))
	for e := s.order.Front(); e != nil; e = e.Next() {
		raws = append(raws, e.Value.(*item[K]).raw)
	}
	return raws
}

func (s *shelf[K]) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// recent remembers the last limit keys that were added to it.
type recent[K comparable] struct {
	limit int
	set   map[K]struct{}
	ring  []K
	next  int
}

func (r *recent[K]) has(key K) bool {
	_, ok := r.set[key]
	return ok
}

func (r *recent[K]) add(key K) {
	if r.has(key) {
		return
	}
	if r.set == nil {
		r.set = make(map[K]struct{})
	}
	if len(r.ring) < r.limit {
		r.ring = append(r.ring, key)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = key
		r.next = (r.next + 1) % r.limit
	}
	r.set[key] = struct{}{}
}
