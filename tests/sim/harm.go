package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Run runs a seed's history to its end. With tracing the history is kept in words.
func Run(seed uint64, off Switch, tracing bool) *Sim {
	s := New(seed, off)
	s.tracing = tracing
	s.play()
	return s
}

// RunServed is Run with clients. Two masters do not end the history: clients have
// to notice.
func RunServed(seed uint64, off Switch) *Sim {
	s := New(seed, off)
	s.lenient = true
	s.Served = make([][]Served, len(s.plan.services))
	for n := range s.Served {
		s.after(time.Millisecond, func() { s.ask(n) })
	}
	s.play()
	return s
}

func (s *Sim) play() {
	end := epoch.Add(s.plan.faultsFor)
	s.say("voters %v, followers %v, %d lie, leases %v", s.plan.voters, s.plan.followers, s.plan.liars, s.plan.leases.TTL)
	s.after(time.Millisecond, func() { s.harm(end) })
	s.after(time.Millisecond, s.attend)
	if s.plan.changes > 0 {
		s.after(s.between(300*time.Millisecond, 3*time.Second), s.reform)
	}
	s.run(end.Add(time.Second))
	for open := "unknown"; open != "" && s.Problem == ""; {
		if open = s.settled(); open != "" && s.now.After(end.Add(40*time.Second)) {
			s.Problem = "not settled: " + open
		}
		s.run(s.now.Add(time.Second))
	}
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
	if s.now.Before(s.calm) {
		s.after(100*time.Millisecond, func() { s.harm(until) })
		return
	}
	s.provoke()
	down := s.between(50*time.Millisecond, 5*time.Second)
	switch k := s.rnd.IntN(100); {
	case k < 40:
		for _, d := range s.anyGateway().desks {
			d.order()
		}
	case k < 47: // the new side is gone when it should promote
		d := s.anyDesk()
		d.order()
		for _, a := range s.agents {
			if a.up && a.serving == 0 && a.Service == d.service {
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
		a := s.anyAgent()
		if s.off == RolledBack && a.up {
			a.loseDisk()
		}
		switch {
		case s.chance(0.7):
			a.crash(down)
		case s.chance(0.7):
			a.freeze(down)
		default:
			s.step(&a.clock)
		}
	case k < 80:
		if a := s.anyAgent(); a.up {
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

// provoke does more of what shows a switch that seldom shows.
func (s *Sim) provoke() {
	switch s.off {
	case RolledBack:
		if a := s.anyAgent(); a.up && s.chance(0.15) {
			a.loseDisk()
		}
	case NewVotersForgetPromises:
		if s.chance(0.3) {
			s.anyDesk().failover()
		}
	case LeaseByWallClock:
		for _, a := range s.agents {
			if !a.clock.pauses && s.chance(0.4) {
				a.clock.stepped -= s.between(0, 2*time.Second)
			}
		}
	}
}

func (s *Sim) anyGateway() *gateway { return s.gateways[s.rnd.IntN(len(s.gateways))] }

func (s *Sim) anyAgent() *agent { return s.agents[s.rnd.IntN(len(s.agents))] }

func (s *Sim) anyDesk() *desk {
	d := s.anyGateway().desks
	return d[s.rnd.IntN(len(d))]
}

// disaster: the master's side is gone or cut off, and somebody fails over.
func (s *Sim) disaster(down time.Duration) {
	d := s.anyDesk()
	n := d.n
	var master signalbox.DataCenter
	for _, g := range s.gateways {
		if st := g.desks[n].state(); st != nil && st.Certificate != nil {
			master = st.Master()
		}
	}
	defer func() { s.after(s.between(10*time.Millisecond, 500*time.Millisecond), d.failover) }()
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
	for _, n := range []string{"e3", "w3", "e3s", "w3s"} {
		if slices.Contains(s.plan.services, serviceOf(n)) && s.agent(n) == nil && s.chance(0.5) {
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
		a := s.anyAgent()
		if a.up && s.byOthers() {
			a.loseDisk()
		}
		return
	}
	if g := s.anyGateway(); s.mayLose(g) {
		g.loseDisk()
	}
}

// settled says what is not over, "" when everything is.
func (s *Sim) settled() string {
	newest := s.gateways[0]
	for _, g := range s.gateways {
		if g.book.Index() > newest.book.Index() {
			newest = g
		}
	}
	var bad []string
	for _, g := range s.gateways {
		switch {
		case !g.up:
			bad = append(bad, g.name+" is down")
		case g.voter.seat.named && g.voter.replica == nil:
			bad = append(bad, g.name+" does not vote")
		case g.book.Index() < newest.book.Index():
			bad = append(bad, fmt.Sprintf("%s: log ends at %d of %d", g.name, g.book.Index(), newest.book.Index()))
		default:
			for _, d := range g.desks {
				bad = append(bad, d.unsettled(newest)...)
			}
		}
	}
	for _, d := range newest.desks {
		bad = append(bad, d.served()...)
	}
	return strings.Join(bad, "; ")
}

// maxStatements is how many statements a machine may keep when all is over.
const maxStatements = 40

func (d *desk) unsettled(newest *gateway) (bad []string) {
	_, open := d.machine.Open()
	own, term := d.state(), newest.desks[d.n].state().Term()
	switch {
	case own.Term() != term:
		bad = append(bad, fmt.Sprintf("%s: term %d, not %d", d.name, own.Term(), term))
	case len(own.Open) > 0:
		bad = append(bad, fmt.Sprintf("%s: %d blocks are open in the log", d.name, len(own.Open)))
	case open:
		bad = append(bad, fmt.Sprintf("%s: run of a handover is in phase %s", d.name, d.machine.Status(d.s.now)[0].Phase))
	case d.machine.Certificate() == nil || d.machine.Certificate().Term != term:
		bad = append(bad, d.name+": the certificate is not the log's")
	case own.Last > 1 && len(d.machine.Statements()) > maxStatements:
		bad = append(bad, fmt.Sprintf("%s: keeps %d statements", d.name, len(d.machine.Statements())))
	}
	return bad
}

// served says what is wrong with who serves a service.
func (d *desk) served() (bad []string) {
	st, serving := d.state(), 0
	for _, a := range d.s.agents {
		if a.Service != d.service || !a.open() || a.serving != st.Term() {
			continue
		}
		serving++
		if _, ok := st.Outstanding[a.Identity]; !ok {
			bad = append(bad, a.name+" serves and is not outstanding")
		}
	}
	if serving == 0 {
		bad = append(bad, fmt.Sprintf("nobody serves term %d of %s in %s", st.Term(), d.service, st.Master()))
	}
	return bad
}
