package journal

import (
	"maps"
	"sync"
	"time"
)

// Links are the voters that cannot be reached, as far as this gateway's streams
// know. What they say may be wrong or late: it is a hint, to wait less for a leader
// that is dead.
type Links struct {
	mu      sync.Mutex
	down    map[string]bool
	begun   int // streams that began
	changed chan struct{}
}

func newLinks() *Links { return &Links{down: map[string]bool{}, changed: make(chan struct{})} }

// Set says whether the stream to a gateway is there, from any goroutine. It does not
// wait.
func (l *Links) Set(gateway string, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if up {
		delete(l.down, gateway)
		l.begun++
	} else if l.down[gateway] {
		return
	} else {
		l.down[gateway] = true
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// now returns who cannot be reached, how many streams have begun so far, and a
// channel that is closed when that changes; nil Links know nothing.
func (l *Links) now() (down map[string]bool, begun int, changed <-chan struct{}) {
	if l == nil {
		return nil, 0, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.down), l.begun, l.changed
}

// seeLinks tells the replica who cannot be reached, and that what was sent may be
// lost when a stream began anew; the channel is closed when that changes.
func (m *Member) seeLinks(now time.Time) <-chan struct{} {
	down, begun, changed := m.opt.Links.now()
	for i, name := range m.opt.Voters {
		m.replica.SetUnreachable(i, down[name], now)
	}
	if begun != m.begun {
		m.begun = begun
		m.replica.Lost(now)
	}
	return changed
}
