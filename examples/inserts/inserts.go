// Package inserts is the load of the database demo and benchmarks: a few
// connections that insert a row every few milliseconds, connect again when they
// are cut, and remember what was acknowledged. What it knows afterwards is all
// that a client can know: every acknowledged row must be on the new master.
//
// It guarantees that a row is counted as acknowledged only when the server said
// so, and that every row has an identity of its own, so that one whose answer was
// lost is not mistaken for another.
package inserts

import (
	"context"
	"fmt"
	"math"
	"sort"
	"sync"
	"time"
)

// The load that the published figures of the peers were measured with.
const (
	Writers = 2
	Every   = 5 * time.Millisecond
)

const (
	// connectTimeout bounds one attempt to connect: longer than any hold.
	connectTimeout = 30 * time.Second
	// statementTimeout bounds one insert.
	statementTimeout = 30 * time.Second
	// retryAfter is the pause after a failed attempt to connect.
	retryAfter = 5 * time.Millisecond
)

// Schema makes the table; run it on the master before the load.
const Schema = `create table if not exists signalbox_inserts (writer int, n bigint, at timestamptz default clock_timestamp(), primary key (writer, n))`

// Config is a load.
type Config struct {
	// Store is where the clients connect to, the proxy.
	Store   Store
	Writers int           // default Writers
	First   int           // the number of the first writer, for several loads of one server
	Every   time.Duration // default Every
}

// Load runs until Stop.
type Load struct {
	cfg    Config
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	acked    []ack      // in the order of the acknowledgements
	failed   []time.Time
	refused  []time.Time // attempts to connect that failed
	sessions int
	last     error
}

// ack is one acknowledged row. The server said so between began and at: who runs this may have done something else before
// it looked.
type ack struct {
	Row
	began, at time.Time
}

// Start starts the writers.
func Start(cfg Config) *Load {
	if cfg.Writers == 0 {
		cfg.Writers = Writers
	}
	if cfg.Every == 0 {
		cfg.Every = Every
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cfg: cfg, cancel: cancel}
	for w := range cfg.Writers {
		l.done.Go(func() { l.write(ctx, cfg.First+w) })
	}
	return l
}

// Stop ends the load and waits for what is in flight.
func (l *Load) Stop() {
	l.cancel()
	l.done.Wait()
}

func (l *Load) write(ctx context.Context, writer int) {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	var conn Session
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for n := int64(0); ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if conn == nil {
			if conn = l.connect(ctx); conn == nil {
				return
			}
		}
		one, cancel := context.WithTimeout(context.Background(), statementTimeout) // what was begun is brought to its end
		began := time.Now()
		err := conn.Insert(one, Row{writer, n})
		cancel()
		l.note(ack{Row{writer, n}, began, time.Now()}, err)
		if err != nil { // read-only, or cut: another server may serve by now
			conn.Close()
			conn = nil
		}
	}
}

// connect tries until it is connected; nil when the load ends.
func (l *Load) connect(ctx context.Context) Session {
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, connectTimeout)
		conn, err := l.cfg.Store.Open(one)
		cancel()
		l.mu.Lock()
		switch {
		case err == nil:
			l.sessions++
		case ctx.Err() == nil:
			l.refused = append(l.refused, time.Now())
			l.last = err
		}
		l.mu.Unlock()
		if err == nil {
			return conn
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
	return nil
}

func (l *Load) note(a ack, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, a.at)
		l.last = err
		return
	}
	l.acked = append(l.acked, a)
}

// Stats are the figures of a load, or of a part of it.
type Stats struct {
	Acknowledged int `json:"acknowledged"`
	// Failed are statements that were answered with an error or not at all.
	Failed int `json:"failed_statements"`
	// Refused are attempts to connect that failed.
	Refused int `json:"failed_connects"`
	// Outage is the longest time in which no row was acknowledged to anybody.
	Outage time.Duration `json:"-"`
	// OutageMS is the same in milliseconds, for JSON.
	OutageMS float64 `json:"write_outage_ms"`
	// Last is the newest error, "" for none.
	Last string `json:"last_error,omitempty"`
}

// Total is everything so far.
func (l *Load) Total() Stats { return l.Between(time.Time{}, time.Unix(math.MaxInt32, 0)) }

// Between is what was begun between two moments and acknowledged, and what failed between them.
func (l *Load) Between(from, to time.Time) Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := func(t time.Time) bool { return !t.Before(from) && t.Before(to) }
	var s Stats
	var before time.Time
	for _, a := range l.acked {
		if in(a.began) {
			s.Acknowledged++
		}
		if !in(a.at) {
			continue
		}
		if !before.IsZero() {
			s.Outage = max(s.Outage, a.at.Sub(before))
		}
		before = a.at
	}
	for _, t := range l.failed {
		if in(t) {
			s.Failed++
		}
	}
	for _, t := range l.refused {
		if in(t) {
			s.Refused++
		}
	}
	if l.last != nil {
		s.Last = l.last.Error()
	}
	s.OutageMS = float64(s.Outage.Microseconds()) / 1000
	return s
}

// Span is when the first of the rows that were begun within a time was
// acknowledged, at the latest, and when the last was, at the earliest: a server
// whose last is after another's first did acknowledge after the other. Zero for
// none.
func (l *Load) Span(from, to time.Time) (first, last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		if a.began.Before(from) || !a.at.Before(to) {
			continue
		}
		if first.IsZero() {
			first = a.at
		}
		if a.began.After(last) {
			last = a.began
		}
	}
	return first, last
}

// Flows waits until rows are begun and acknowledged after a moment, n of them.
func (l *Load) Flows(ctx context.Context, after time.Time, n int) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		if l.since(after) >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for inserts to be acknowledged: %w: %s", ctx.Err(), l.Total().Last)
		}
	}
}

func (l *Load) since(after time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := sort.Search(len(l.acked), func(i int) bool { return !l.acked[i].at.Before(after) })
	n := 0
	for _, a := range l.acked[first:] {
		if !a.began.Before(after) {
			n++
		}
	}
	return n
}

// Check looks for every acknowledged row on a server and returns how many it has
// not. Rows without an acknowledgement may be there or not.
func (l *Load) Check(ctx context.Context, server Store) (lost int, err error) {
	missing, err := l.Missing(ctx, server, time.Unix(math.MaxInt32, 0))
	return len(missing), err
}

// Missing is when each row was acknowledged that was begun before a moment and
// that a server has not.
func (l *Load) Missing(ctx context.Context, server Store, before time.Time) (at []time.Time, err error) {
	there, err := server.Rows(ctx)
	if err != nil {
		return nil, fmt.Errorf("check inserts: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.acked {
		if a.began.Before(before) && !there[a.Row] {
			at = append(at, a.at)
		}
	}
	return at, nil
}
