package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Run runs a seed's history to its end. With tracing the history is kept in words.
func Run(seed uint64, off Switch, tracing bool) *Sim {
	s := New(seed, off)
	s.tracing = tracing
	end := epoch.Add(s.plan.faultsFor)
	s.say("voters %v, followers %v, %d lie, leases %v", s.plan.voters, s.plan.followers, s.plan.liars, s.plan.leases.TTL)
	s.after(time.Millisecond, func() { s.harm(end) })
	s.after(time.Millisecond, s.attend)
	s.run(end.Add(time.Second))
	for open := "unknown"; open != "" && s.Problem == ""; {
		if open = s.settled(); open != "" && s.now.After(end.Add(40*time.Second)) {
			s.Problem = "not settled: " + open
		}
		s.run(s.now.Add(time.Second))
	}
	return s
}

// byOthers reports whether others' evidence is part of the history: not where
// agents break a rule that is about their own.
func (s *Sim) byOthers() bool {
	switch s.off {
	case AckWithGateOpen, ForgetsItsAck, AckUnsynced, TwoAnswers, LeaveIsNotFinal, LeavesServing:
		return false
	}
	return true
}

// harm schedules faults and switchovers at random.
func (s *Sim) harm(until time.Time) {
	s.faults = s.now.Before(until)
	if !s.faults {
		return
	}
	down := s.between(50*time.Millisecond, 5*time.Second)
	switch k := s.rnd.IntN(100); {
	case k < 40:
		s.anyGateway().order()
	case k < 47: // the new side is gone when it should promote
		s.anyGateway().order()
		for _, a := range s.agents {
			if a.up && a.serving == 0 {
				s.after(20*time.Millisecond, func() { a.crash(down) })
			}
		}
	case k < 57:
		if s.byOthers() {
			s.disaster(down)
		}
	case k < 63:
		s.anyGateway().crash(down)
	case k < 73:
		a := s.agents[s.rnd.IntN(len(s.agents))]
		if s.off == RolledBack && a.up {
			a.loseDisk()
		}
		a.crash(down)
	case k < 80:
		if a := s.agents[s.rnd.IntN(len(s.agents))]; a.up {
			a.stop()
		}
	case k < 86:
		s.partition(down)
	case k < 96:
		s.cutOff(down)
	case k < 98:
		s.join()
	default:
		s.lose()
	}
	s.after(s.between(20*time.Millisecond, 700*time.Millisecond), func() { s.harm(until) })
}

func (s *Sim) anyGateway() *gateway { return s.gateways[s.rnd.IntN(len(s.gateways))] }

// disaster: the master's side is gone or cut off, and somebody fails over.
func (s *Sim) disaster(down time.Duration) {
	var master signalbox.DataCenter
	for _, g := range s.gateways {
		if st := g.book.Service(orders); st != nil && st.Certificate != nil {
			master = st.Master()
		}
	}
	g := s.anyGateway()
	defer func() { s.after(s.between(10*time.Millisecond, 500*time.Millisecond), g.failover) }()
	if s.chance(0.25) {
		s.isolate(master, down)
		return
	}
	cutOff := s.chance(0.3)
	for _, a := range s.agents {
		if !a.up || a.DataCenter != master || !s.chance(0.8) {
			continue
		}
		if !cutOff {
			a.crash(down)
			continue
		}
		for _, n := range s.neighbours(a.node) {
			s.cut(a.node, n, down)
		}
	}
}

// isolate cuts a whole data center off.
func (s *Sim) isolate(dc signalbox.DataCenter, d time.Duration) {
	for _, g := range s.gateways {
		for _, p := range s.gateways {
			if g.dc == dc && p.dc != dc {
				s.cut(g.node, p.node, d)
			}
		}
	}
}

// partition lets nothing through one way, for a time.
func (s *Sim) partition(d time.Duration) {
	g := s.anyGateway()
	for _, n := range s.neighbours(g.node) {
		if s.chance(0.6) {
			if s.chance(0.5) {
				s.oneway[g.id][n.id] = s.now.Add(d)
			} else {
				s.oneway[n.id][g.id] = s.now.Add(d)
			}
		}
	}
}

// cutOff breaks one session, or all of a gateway's to its peers.
func (s *Sim) cutOff(d time.Duration) {
	g := s.anyGateway()
	others := s.neighbours(g.node)
	g.late = s.chance(0.2)
	if s.chance(0.6) {
		s.cut(g.node, others[s.rnd.IntN(len(others))], d)
		return
	}
	for _, n := range others {
		if n.gw != nil {
			s.cut(g.node, n, d)
		}
	}
}

// join brings another instance.
func (s *Sim) join() {
	for _, n := range []string{"e3", "w3"} {
		if s.agent(n) == nil && s.chance(0.5) {
			a := s.newAgent(n)
			s.agents = append(s.agents, a)
			s.forgetNeighbours()
			s.Stats["instances that joined"]++
			a.start()
			return
		}
	}
}

// lose takes a disk: of an instance, or of a voter while the others, but those
// that lie, have theirs.
func (s *Sim) lose() {
	if s.chance(0.6) {
		a := s.agents[s.rnd.IntN(len(s.agents))]
		if a.up && s.byOthers() {
			a.loseDisk()
		}
		return
	}
	g := s.anyGateway()
	if g.voter == nil {
		g.loseDisk()
		return
	}
	for _, v := range s.voters {
		if v != g && !v.voter.disk.begun || v.voter.liar != nil {
			return
		}
	}
	g.loseDisk()
}

// settled says what is not over, "" when everything is.
func (s *Sim) settled() string {
	var bad []string
	var newest *gateway
	for _, g := range s.gateways {
		if newest == nil || g.book.Index() > newest.book.Index() {
			newest = g
		}
	}
	st := newest.book.Service(orders)
	for _, g := range s.gateways {
		own := g.book.Service(orders)
		switch _, open := g.machine.Open(); {
		case !g.up:
			bad = append(bad, g.name+" is down")
		case g.voter != nil && g.voter.replica == nil:
			bad = append(bad, g.name+" does not vote")
		case own == nil || own.Term() != st.Term() || g.book.Index() < newest.book.Index():
			bad = append(bad, fmt.Sprintf("%s: log ends at %d of %d", g.name, g.book.Index(), newest.book.Index()))
		case len(own.Open) > 0:
			bad = append(bad, fmt.Sprintf("%s: %d blocks are open in the log", g.name, len(own.Open)))
		case open:
			bad = append(bad, fmt.Sprintf("%s: run of a handover is in phase %s", g.name, g.machine.Status(s.now)[0].Phase))
		case g.machine.Certificate() == nil || g.machine.Certificate().Term != st.Term():
			bad = append(bad, g.name+": the certificate is not the log's")
		}
	}
	serving := 0
	for _, a := range s.agents {
		if a.open() && a.serving == st.Term() {
			serving++
			if _, ok := st.Outstanding[a.Identity]; !ok {
				bad = append(bad, a.name+" serves and is not outstanding")
			}
		}
	}
	if serving == 0 {
		bad = append(bad, fmt.Sprintf("nobody serves term %d in %s", st.Term(), st.Master()))
	}
	return strings.Join(bad, "; ")
}
