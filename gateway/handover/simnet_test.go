package handover_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// sim is a cluster in virtual time: four gateways (the first is the voter), six
// agents, links that delay, reorder and break, processes that crash and start
// again. Everything follows from the seed.
type sim struct {
	rnd      *rand.Rand
	now      time.Time
	queue    simQueue
	seq      int
	gateways []*simGateway
	agents   []*simAgent
	links    map[string]*simLink
	faults   bool
	broken   string // the rule that agents break, to see that it shows
	trace    []string
	problem  string
	decided  int
	stats    map[string]int
}

type simEvent struct {
	at  time.Time
	seq int
	run func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simLink is a connection between two processes. What was sent on a connection
// that broke is lost; a new one tells everything again, as sessions do.
type simLink struct {
	up  bool
	era int
}

func (s *sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.seq, f})
}

func (s *sim) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rnd.Int64N(int64(high-low)))
}

func (s *sim) chance(p float64) bool { return s.rnd.Float64() < p }

func (s *sim) say(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%8.3f ", s.now.Sub(epoch).Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) fail(format string, args ...any) {
	if s.problem == "" {
		s.problem = fmt.Sprintf(format, args...)
		s.say("PROBLEM: %s", s.problem)
	}
}

func linkKey(a, b string) string { return min(a, b) + "|" + max(a, b) }

func (s *sim) link(a, b string) *simLink {
	l := s.links[linkKey(a, b)]
	if l == nil {
		l = &simLink{}
		s.links[linkKey(a, b)] = l
	}
	return l
}

// send delivers f unless the link breaks first. Messages overtake each other.
func (s *sim) send(from, to string, f func()) {
	l := s.link(from, to)
	if !l.up {
		return
	}
	era := l.era
	delay := s.between(200*time.Microsecond, 3*time.Millisecond)
	if from[0] != to[0] {
		delay += 10 * time.Millisecond
	}
	if s.faults && s.chance(0.02) {
		delay += s.between(0, 2*time.Second)
	}
	s.after(delay, func() {
		if l.up && l.era == era {
			f()
		}
	})
}

// cut breaks a link; both ends notice, and connect again after a while.
func (s *sim) cut(a, b string, d time.Duration) {
	l := s.link(a, b)
	if l.up {
		l.up = false
		l.era++
		s.noticed(a, b, false)
	}
	era := l.era
	s.after(d, func() {
		if l.era == era && !l.up {
			s.connect(a, b)
		}
	})
}

func (s *sim) connect(a, b string) {
	l := s.link(a, b)
	if l.up || !s.alive(a) || !s.alive(b) {
		return
	}
	l.up = true
	l.era++
	s.noticed(a, b, true)
}

func (s *sim) alive(name string) bool {
	if g := s.gateway(name); g != nil {
		return g.up
	}
	return s.agent(name).up
}

func (s *sim) gateway(name string) *simGateway {
	for _, g := range s.gateways {
		if g.name == name {
			return g
		}
	}
	return nil
}

func (s *sim) agent(name string) *simAgent {
	for _, a := range s.agents {
		if a.name == name {
			return a
		}
	}
	return nil
}

func (s *sim) noticed(a, b string, up bool) {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		if g := s.gateway(pair[0]); g != nil && g.up {
			g.linkChanged(pair[1], up)
		}
	}
}

// neighbours are the links that a process has.
func (s *sim) neighbours(name string) []string {
	var out []string
	for _, g := range s.gateways {
		if g.name != name && (s.gateway(name) != nil || g.name[0] == name[0]) {
			out = append(out, g.name)
		}
	}
	if s.gateway(name) != nil {
		for _, a := range s.agents {
			if a.name[0] == name[0] {
				out = append(out, a.name)
			}
		}
	}
	return out
}

func (s *sim) run(until time.Time) {
	for len(s.queue) > 0 && s.problem == "" {
		e := heap.Pop(&s.queue).(simEvent)
		if e.at.After(until) {
			s.after(e.at.Sub(s.now), e.run)
			break
		}
		s.now = e.at
		e.run()
	}
	s.now = until
}

// judge is the oracle: it looks at open gates only, at nothing that decides.
func (s *sim) judge() {
	var open []string
	sides := map[byte]bool{}
	for _, a := range s.agents {
		if a.up && a.serving != 0 {
			open = append(open, fmt.Sprintf("%s@%d", a.name, a.serving))
			sides[a.name[0]] = true
		}
	}
	if len(sides) > 1 {
		s.fail("two data centers serve: %s", strings.Join(open, " "))
	}
}

// proposed is the voter: it checks, writes, and may die before it replies.
func (s *sim) proposed(r signalbox.Request) {
	voter := s.gateways[0]
	if !voter.up {
		return
	}
	block, err := voter.book.decide(r)
	if err != nil {
		return
	}
	s.decided++
	s.say("decided %d: %s", block.Index, describeRequest(&r))
	switch {
	case r.Handover != nil && r.Handover.Allowed&signalbox.ByOthers != 0:
		s.stats["failover"]++
	case r.Handover != nil && r.Handover.Superseding():
		s.stats["superseding"]++
	case r.Remove != nil && !r.Remove.Announces():
		if kind, err := rpc.EvidenceKind(r.Remove.Evidence); err == nil && kind.ByOthers() {
			s.stats["removed by others"]++
		}
	}
	if r.Outcome != nil {
		ended := "forward"
		if c := voter.book.Service(orders).Certificate; c.Block.Digest == r.Outcome.Block && c.IsFallback() {
			ended = "fallback"
		}
		s.stats[ended]++
	}
	voter.applied()
}

func describeRequest(r *signalbox.Request) string {
	switch {
	case r.Handover != nil:
		h := r.Handover
		return fmt.Sprintf("handover %s %s->%s term %d fallback %d roster %d", h.ID, h.From, h.To, h.Term, h.Fallback, len(h.Roster))
	case r.Admit != nil:
		return fmt.Sprintf("admit %s to %d", r.Admit.Name, r.Admit.Term)
	case r.Outcome != nil:
		return fmt.Sprintf("outcome term %d", r.Outcome.Certified)
	}
	if r.Remove.Announces() {
		return "announce the removal of " + nameOf(r.Remove.Identity)
	}
	return "remove " + nameOf(r.Remove.Identity)
}
