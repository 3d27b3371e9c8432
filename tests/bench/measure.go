package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

const (
	warmUp  = 1500 * time.Millisecond // of the load, before the first switch of a turn
	between = 500 * time.Millisecond  // two switches: one does not disturb the next
	perTurn = 10                      // switches of one system before it is another's turn
	oneCut  = 3 * time.Minute
	toJudge = time.Minute
)

// measured is one system in one configuration.
type measured struct {
	name string
	of   config
	sys  system
	// services are configured, in all; 0: it is not about them.
	services int

	cuts  []cutover
	loads []*demo.Load
	to    string // of the next switch

	interruption []float64            // ms, sorted by done
	by           map[string][]float64 // interruption by the data center that became master
	added        []float64            // ms, of all requests that met a hold
	addedP99     []float64            // ms, of each switch
	excess       []float64            // ms, hold until the release less the longest request in flight when it began
	excessSeen   []float64            // ms, the same until the new master's first answer
	phases       map[string][]float64
	phasesTo     map[string]map[string][]float64
	requests     int
	failed       int
	held         int
	unmet        int // switches that no request met
	back         int // switches that did not go forward
	problems     map[string]int
	verdict      oracle.Verdict
}

func newMeasured(name string, of config, sys system) *measured {
	return &measured{
		name: name, of: of, sys: sys, to: demo.West, by: map[string][]float64{}, phases: map[string][]float64{},
		phasesTo: map[string]map[string][]float64{}, problems: map[string]int{},
	}
}

// inTurns makes the switches of several systems, a few of each at a time, so that what changes on the machine meanwhile
// meets all of them.
func inTurns(ctx context.Context, o options, switches int, systems []*measured, change ...func(*load.Config)) error {
	for made := 0; made < switches; made += perTurn {
		n := min(perTurn, switches-made)
		for _, m := range systems {
			o.say("%s: %s, switches %d to %d of %d", m.of, m.name, made+1, made+n, switches)
			if err := m.turn(ctx, n, change...); err != nil {
				return fmt.Errorf("%s, %s: %w", m.name, m.of, err)
			}
		}
	}
	for _, m := range systems {
		if err := m.done(ctx); err != nil {
			return fmt.Errorf("%s, %s: %w", m.name, m.of, err)
		}
	}
	return nil
}

// turn makes n switches under load.
func (m *measured) turn(ctx context.Context, n int, change ...func(*load.Config)) error {
	l, err := m.sys.load(m.of.rate, change...)
	if err != nil {
		return err
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return l.Stop()
	}
	defer func() { _ = stop() }() // an error is another one's consequence then
	var cuts []cutover
	rest := warmUp
	for range n {
		if err := pause(ctx, rest); err != nil {
			return err
		}
		one, err := m.cut(ctx)
		if err != nil {
			return fmt.Errorf("switch %d: %w", len(m.cuts)+len(cuts)+1, err)
		}
		cuts = append(cuts, one)
		rest = between
	}
	if err := pause(ctx, between); err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	m.loads, m.cuts = append(m.loads, l), append(m.cuts, cuts...)
	m.sum(l, cuts)
	return nil
}

func (m *measured) cut(ctx context.Context) (cutover, error) {
	ctx, cancel := context.WithTimeout(ctx, oneCut)
	defer cancel()
	c, err := m.sys.cut(ctx, m.to)
	c.to = m.to
	if c.problem == "" {
		m.to = other(m.to)
	}
	return c, err
}

// sum looks at a load twice: first for when the new master's first answer of each switch came, then for what met the
// hold until then. So all systems are measured by what callers saw, whatever a system takes for the end of its release.
func (m *measured) sum(l *demo.Load, cuts []cutover) {
	window := l.Window()
	for _, c := range cuts {
		if c.problem != "" {
			m.back++
		}
		window.Holds = append(window.Holds, load.Hold{ID: c.id, Term: c.term, Begin: c.begin, End: c.end})
		if c.problem != "" {
			m.problems[c.problem]++
		}
		if m.phasesTo[c.to] == nil {
			m.phasesTo[c.to] = map[string][]float64{}
		}
		for phase, ms := range c.phases {
			m.phases[phase] = append(m.phases[phase], ms)
			m.phasesTo[c.to][phase] = append(m.phasesTo[c.to][phase], ms)
		}
	}
	for i, s := range l.Report(window).Switches {
		if s.FirstAnswered > window.Holds[i].Begin {
			window.Holds[i].End = s.FirstAnswered
		}
	}
	r := l.Report(window)
	m.requests, m.failed, m.held = m.requests+r.Total, m.failed+r.Failed, m.held+r.Held
	for reason, n := range r.Failures {
		m.problems["requests failed: "+reason] += n
	}
	for i, s := range r.Switches {
		if s.Parked == 0 {
			m.unmet++
			continue
		}
		m.interruption = append(m.interruption, s.InterruptionMs)
		m.by[cuts[i].to] = append(m.by[cuts[i].to], s.InterruptionMs)
		m.addedP99 = append(m.addedP99, s.AddedP99Ms)
		m.met(l, window.Holds[i], cuts[i].end, s.NormMs)
	}
}

// met looks at the requests that met one hold, until the first answer; the system says when it released.
func (m *measured) met(l *demo.Load, hold load.Hold, released int64, norm float64) {
	longest := int64(0)
	for r := range l.Records {
		if r.Sched > hold.End {
			break
		}
		if r.End < hold.Begin {
			continue
		}
		if !r.Slow {
			m.added = append(m.added, float64(r.End-r.Sched)/1e6-norm)
		}
		if r.Term < hold.Term && !r.Failed() {
			longest = max(longest, r.End-r.Begin)
		}
	}
	m.excess = append(m.excess, float64(released-hold.Begin-longest)/1e6)
	m.excessSeen = append(m.excessSeen, float64(hold.End-hold.Begin-longest)/1e6)
}

// done has the oracle judge, and sorts.
func (m *measured) done(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, toJudge)
	defer cancel()
	if m.verdict, err = m.sys.judge(ctx, m.loads); err != nil {
		return err
	}
	m.loads = nil // they are large
	for _, values := range []map[string][]float64{m.by, m.phases, {"": m.interruption, "added": m.added, "p99": m.addedP99, "excess": m.excess, "seen": m.excessSeen}} {
		for _, v := range values {
			slices.Sort(v)
		}
	}
	for _, phases := range m.phasesTo {
		for _, v := range phases {
			slices.Sort(v)
		}
	}
	return nil
}

// quantile is the nearest rank of sorted values; NaN when there are none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func median(sorted []float64) float64 { return quantile(sorted, 0.5) }

// noSlow leaves slow requests out of the load.
func noSlow(c *load.Config) { c.SlowFraction = 0 }
