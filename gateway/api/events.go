package api

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Maxima of the event stream.
const (
	// DefaultRing is how many recent events a gateway keeps for readers that
	// come back; some dozens of handovers.
	DefaultRing = 4096
	// MaxDetail is the longest Detail of an event, in bytes; longer ones are cut.
	MaxDetail = 512
	// MaxStreams is how many readers may follow one gateway's events at once.
	MaxStreams = 128
)

// Events is the gateway's recent events: a ring that Publish writes and every
// stream reads at its own pace. A reader that falls behind by more than the
// ring is told that it missed something. Safe for concurrent use; Publish never
// waits for a reader.
type Events struct {
	epoch string

	mu     sync.Mutex
	ring   []Event
	next   uint64 // sequence number of the next event; the ring holds those before it
	wake   chan struct{}
	closed bool
}

// NewEvents returns an empty ring of size events. epoch names this run of this
// gateway, for example "gw-east-1.1732300000": a reader that comes with an id of
// another epoch is told to look anew.
func NewEvents(epoch string, size int) *Events {
	return &Events{epoch: epoch, ring: make([]Event, max(size, 1)), next: 1, wake: make(chan struct{})}
}

// Publish adds an event and gives it its ID.
func (e *Events) Publish(event Event) {
	if len(event.Detail) > MaxDetail {
		event.Detail = strings.ToValidUTF8(event.Detail[:MaxDetail-3], "") + "..."
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	event.ID = e.id(e.next)
	e.ring[e.next%uint64(len(e.ring))] = event
	e.next++
	close(e.wake)
	e.wake = make(chan struct{})
}

// Close ends all streams; later events are dropped.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.closed = true
		close(e.wake)
	}
}

func (e *Events) id(sequence uint64) string { return fmt.Sprintf("%s-%d", e.epoch, sequence) }

// cursor returns where a reader goes on. missed says that events between its
// last one and the cursor are gone. Without an id it begins with what comes.
func (e *Events) cursor(lastID string) (next uint64, missed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if lastID == "" {
		return e.next, false
	}
	number, ok := strings.CutPrefix(lastID, e.epoch+"-")
	sequence, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || sequence >= e.next {
		return e.next, true
	}
	return e.clamp(sequence + 1)
}

// clamp moves a cursor that fell out of the ring to the oldest event.
func (e *Events) clamp(cursor uint64) (next uint64, missed bool) {
	if size := uint64(len(e.ring)); e.next > size && cursor < e.next-size {
		return e.next - size, true
	}
	return cursor, false
}

// A batch is what a reader gets at once.
type batch struct {
	events []Event
	next   uint64
	missed bool
	wake   <-chan struct{} // closed when there is more
	closed bool
}

// read returns up to limit events from the cursor on.
func (e *Events) read(cursor uint64, limit int) batch {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := batch{wake: e.wake, closed: e.closed}
	b.next, b.missed = e.clamp(cursor)
	for ; b.next < e.next && len(b.events) < limit; b.next++ {
		b.events = append(b.events, e.ring[b.next%uint64(len(e.ring))])
	}
	return b
}
