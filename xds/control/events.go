package control

import "sync"

// Event is something that the server observed. It is one of the types below.
type Event interface{ event() }

// ProxyConnected is emitted when a proxy's first configuration stream opened.
type ProxyConnected struct{ Proxy, DataCenter string }

// ProxyGone is emitted when a proxy's last configuration stream ended.
type ProxyGone struct{ Proxy, DataCenter string }

// RouteAcknowledged is emitted when a proxy accepted (or reported to have) a
// service's route at a term. It is not proof that the old route is unused.
type RouteAcknowledged struct {
	Proxy, Service string
	Term           uint64
}

// Rejected is emitted when a proxy refused a resource; Message is the proxy's
// own words.
type Rejected struct {
	Proxy, Type, Resource, Message string
	Term                           uint64
}

// Load is a proxy's report for one term's name over one interval. A name that
// the proxy reported before and no longer does is emitted once with zeros.
type Load struct {
	Proxy, Service            string
	Term                      uint64
	InProgress, Total, Errors uint64
}

// Overflow is emitted when events were dropped because OnEvent did not keep
// up: read Server.Proxies again.
type Overflow struct{ Dropped int }

func (ProxyConnected) event()    {}
func (ProxyGone) event()         {}
func (RouteAcknowledged) event() {}
func (Rejected) event()          {}
func (Load) event()              {}
func (Overflow) event()          {}

// queue decouples the server from OnEvent: put never blocks.
type queue struct {
	mu      sync.Mutex
	events  []Event
	dropped int
	max     int
	wake    chan struct{}
}

func newQueue(limit int) *queue { return &queue{max: limit, wake: make(chan struct{}, 1)} }

func (q *queue) put(e Event) {
	q.mu.Lock()
	if len(q.events) >= q.max {
		q.dropped++
	} else {
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	signal(q.wake)
}

func (q *queue) take() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	if q.dropped > 0 {
		events = append(events, Overflow{Dropped: q.dropped})
		q.dropped = 0
	}
	return events
}

// run delivers events until stop is closed, then what is left.
func (q *queue) run(stop <-chan struct{}, deliver func(Event)) {
	for {
		for _, e := range q.take() {
			deliver(e)
		}
		select {
		case <-q.wake:
		case <-stop:
			for _, e := range q.take() {
				deliver(e)
			}
			return
		}
	}
}

// signal wakes the one reader of a channel of capacity 1.
func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
