package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/signalbox-io/signalbox"
)

const (
	cluster = "sim"
	orders  = signalbox.Service("orders")
	stock   = signalbox.Service("stock")
	east    = signalbox.DataCenter("east")
	west    = signalbox.DataCenter("west")
)

// epoch is where virtual time begins.
var epoch = time.Unix(1_700_000_000, 0)

// Sim is one history.
type Sim struct {
	rnd      *rand.Rand
	now      time.Time
	since    int64 // nanoseconds from the epoch to now
	queue    agenda
	seq      int
	plan     plan
	gateways []*gateway
	agents   []*agent
	retired  []*who                   // whose keys are lost
	first    signalbox.VoterSet       // that the cluster begins with
	signed   []*signalbox.VoterChange // that the operator ever signed
	nodes    []*node
	links    [maxNodes][maxNodes]link
	oneway   [maxNodes][maxNodes]time.Time
	faults   bool
	calm     time.Time                   // until when what was provoked is left alone
	lenient  bool                        // two masters are for clients to see
	wanted   []int                       // of each service, switchovers that wait for the end of one
	lapsed   map[signalbox.Digest]string // what was signed first of a block, for provokeLapse
	off      Switch                      // the rule that is switched off
	known    known
	tracing  bool
	trace    []string
	oracle   oracle

	// Problem is the first violation, "" for none.
	Problem string
	// Unsafe: it is two masters, two logs, or a term of two data centers.
	Unsafe bool
	// Masters counts, where there are clients, after how many events two data
	// centers served, or two instances of a singleton.
	Masters int
	// Served is, by service, what clients were answered, where there are any.
	Served [][]Served
	// Stats counts what happened.
	Stats map[string]int
}

// plan is what a seed is about.
type plan struct {
	voters, followers []string
	u, r              int
	liars             int
	leases            signalbox.Leases
	services          []signalbox.Service
	singleton         map[signalbox.Service]bool
	drift             int64 // parts per million that clocks really run apart
	faultsFor         time.Duration
	snapshots         uint64 // after how many blocks one is due
	changes           int    // of the voters, at most, beside those for lost keys
}

type event struct {
	at  int64 // nanoseconds since the epoch
	seq int
	run func()
}

func (e *event) before(other *event) bool {
	return e.at < other.at || e.at == other.at && e.seq < other.seq
}

// agenda is a heap of events, the next one first.
type agenda []event

func (q *agenda) push(e event) {
	*q = append(*q, e)
	h := *q
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i], i = h[up], up
	}
	h[i] = e
}

func (q *agenda) pop() event {
	h := *q
	first, last := h[0], h[len(h)-1]
	h[len(h)-1].run = nil
	h = h[:len(h)-1]
	*q = h
	i := 0
	for len(h) > 0 {
		next, end := i*4+1, min(i*4+5, len(h))
		if next >= end {
			break
		}
		for c := next + 1; c < end; c++ {
			if h[c].before(&h[next]) {
				next = c
			}
		}
		if !h[next].before(&last) {
			break
		}
		h[i], i = h[next], next
	}
	if len(h) > 0 {
		h[i] = last
	}
	return first
}

func (s *Sim) after(d time.Duration, f func()) {
	s.seq++
	s.queue.push(event{s.since + int64(max(d, 0)), s.seq, f})
}

func (s *Sim) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rnd.Int64N(int64(high-low)))
}

func (s *Sim) chance(p float64) bool { return s.rnd.Float64() < p }

// rough is a chance that is there only while faults are.
func (s *Sim) rough(p float64) bool { return s.faults && !s.now.Before(s.calm) && s.chance(p) }

func (s *Sim) say(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%8.3f ", s.now.Sub(epoch).Seconds())+fmt.Sprintf(format, args...))
	}
}

func (s *Sim) fail(format string, args ...any) {
	if s.Problem == "" {
		s.Problem = fmt.Sprintf(format, args...)
		s.say("PROBLEM: %s", s.Problem)
	}
}

// violated is a failure of what no fault may lead to.
func (s *Sim) violated(format string, args ...any) {
	s.Unsafe = s.Unsafe || s.Problem == ""
	s.fail(format, args...)
}

// Trace is the history in words, when it was asked for.
func (s *Sim) Trace() []string { return s.trace }

func (s *Sim) run(until time.Time) {
	last := int64(until.Sub(epoch))
	for len(s.queue) > 0 && s.Problem == "" {
		if s.queue[0].at > last {
			break
		}
		e := s.queue.pop()
		s.clock(e.at)
		e.run()
		s.judge()
	}
	s.clock(last)
}

func (s *Sim) clock(at int64) { s.since, s.now = at, epoch.Add(time.Duration(at)) }

func (s *Sim) gateway(name string) *gateway {
	for _, g := range s.gateways {
		if g.name == name {
			return g
		}
	}
	return nil
}

func (s *Sim) agent(name string) *agent {
	for _, a := range s.agents {
		if a.name == name {
			return a
		}
	}
	return nil
}

func (s *Sim) agentOf(id signalbox.Identity) *agent {
	for _, a := range s.agents {
		if a.Identity == id {
			return a
		}
	}
	return nil
}

func (s *Sim) singleton(of signalbox.Service) bool { return s.plan.singleton[of] }
