package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/signalbox-io/signalbox"
)

const (
	cluster = "sim"
	orders  = signalbox.Service("orders")
	east    = signalbox.DataCenter("east")
	west    = signalbox.DataCenter("west")
)

// epoch is where virtual time begins.
var epoch = time.Unix(1_700_000_000, 0)

// Sim is one history.
type Sim struct {
	rnd      *rand.Rand
	now      time.Time
	queue    agenda
	seq      int
	plan     plan
	gateways []*gateway
	voters   []*gateway // in the voter set's order
	agents   []*agent
	retired  []*who // whose keys are lost
	quorum   fake   // knows all voters, verifies
	links    map[string]*link
	oneway   map[string]time.Time
	faults   bool
	off      Switch // the rule that is switched off
	tracing  bool
	trace    []string
	oracle   oracle

	// Problem is the first violation, "" for none.
	Problem string
	// Unsafe: it is two masters, two logs, or a term of two data centers.
	Unsafe bool
	// Stats counts what happened.
	Stats map[string]int
}

// plan is what a seed is about.
type plan struct {
	voters, followers []string
	u, r              int
	liars             int
	leases            signalbox.Leases
	drift             int64 // parts per million that clocks really run apart
	faultsFor         time.Duration
}

type event struct {
	at  time.Time
	seq int
	run func()
}

type agenda []event

func (q agenda) Len() int { return len(q) }
func (q agenda) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q agenda) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *agenda) Push(x any)   { *q = append(*q, x.(event)) }
func (q *agenda) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1].run = nil
	*q = old[:len(old)-1]
	return e
}

func (s *Sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, event{s.now.Add(max(d, 0)), s.seq, f})
}

func (s *Sim) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rnd.Int64N(int64(high-low)))
}

func (s *Sim) chance(p float64) bool { return s.rnd.Float64() < p }

// rough is a chance that is there only while faults are.
func (s *Sim) rough(p float64) bool { return s.faults && s.chance(p) }

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
	for len(s.queue) > 0 && s.Problem == "" {
		if s.queue[0].at.After(until) {
			break
		}
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.run()
		s.judge()
	}
	s.now = until
}

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
