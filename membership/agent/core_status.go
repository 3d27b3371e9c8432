package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// The states of an instance, as InstanceStatus and people name them.
const (
	StateStarting = "starting" // may serve and does not yet, or waits for the voters
	StateStandby  = "standby"
	StateServing  = "serving"
	StateDraining = "draining"
	StateDrained  = "drained"
	StateAcked    = "acked"
	StateLeaving  = "leaving" // serves on until the proxies have been told
	StateLeft     = "left"
)

// maxProblem bounds what a status says of a problem, in bytes.
const maxProblem = 256

func (c *core) stateName() string {
	switch {
	case c.stop.phase == stopDone:
		return StateLeft
	case len(c.open) > 0 && c.gate.drained:
		return StateDrained
	case len(c.open) > 0:
		return StateDraining
	case c.stop.phase != stopNone:
		return StateLeaving
	case c.Floor > c.term():
		return StateAcked
	case c.gate.open:
		return StateServing
	case !c.gate.known || !c.fresh || c.mayServe() != 0:
		return StateStarting
	}
	return StateStandby
}

// status is what the gateways are told; ping is the one it answers, or 0.
func (c *core) status(ping uint64) *wire.InstanceStatus {
	s := &wire.InstanceStatus{
		Identity: rpc.IdentityToBytes(c.cfg.instance.Identity), Service: string(c.cfg.instance.Service),
		State: c.stateName(), Term: uint64(c.term()), Floor: uint64(c.Floor), Admission: c.Admission,
		InFlight: c.report.status.InFlight, Ready: c.report.err == nil && c.report.readiness.Ready,
		Problem: c.problem, Address: c.cfg.address, Ping: ping,
		LagNano: int64(c.report.readiness.Lag), LagBytes: c.report.readiness.LagBytes, Problems: named(c.report.readiness.Problems),
		Prepares: c.cfg.prepares, Prepared: c.help.prepared, Follows: c.cfg.follows,
		Expected: expected(c.report.readiness.Expected), Lost: lost(c.report.readiness.Lost),
	}
	if c.gate.open {
		s.Term = uint64(c.gate.term)
	}
	if s.Problem == "" {
		s.Problem = c.rejected
	}
	if s.Problem == "" {
		s.Problem = c.leaseProblem(c.now)
	}
	if due := c.challenge(); !due.IsZero() {
		s.Challenge = due[:]
		if s.Problem == "" {
			s.Problem = "waits for a quorum of voters to answer its start"
		}
	}
	if s.Problem == "" && !s.Ready {
		s.Problem = c.report.readiness.Problem
	}
	s.Problem = clip(s.Problem)
	return s
}

// clip shortens a text of a driver to what is passed on: valid UTF-8, as
// everything that goes into a message has to be.
func clip(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxProblem)], "") }

// named is what people should look at, as it is passed on.
func named(problems []driver.Problem) (out []*wire.NamedProblem) {
	for _, p := range problems[:min(len(problems), driver.MaxProblems)] {
		out = append(out, &wire.NamedProblem{Name: clip(p.Name), What: clip(p.What), Do: clip(p.Do), Refuses: p.Refuses})
	}
	return out
}

func expected(e *driver.ExpectedLoss) *wire.ExpectedLoss {
	if e == nil {
		return nil
	}
	m := &wire.ExpectedLoss{Known: e.Known, Bytes: e.Bytes, AgeNano: int64(e.Age)}
	if e.Limit != nil {
		m.Limited, m.Limit = true, *e.Limit
	}
	return m
}

func lost(l *driver.Loss) *wire.Lost {
	if l == nil {
		return nil
	}
	return &wire.Lost{Term: uint64(l.Term), Known: l.Known, Bytes: l.Bytes, Writes: l.Writes, Kept: clip(l.Kept)}
}

// tellChange tells all gateways when the status changed. What is in flight
// counts only while people wait for it.
func (c *core) tellChange() {
	s := c.status(0)
	inFlight := s.InFlight
	if s.State != StateDraining && s.State != StateLeaving {
		inFlight = 0
	}
	now := fmt.Sprint(s.State, s.Term, s.Floor, s.Admission, s.Ready, inFlight, s.Problem, s.Prepared, s.Prepares, s.Follows, s.Lost.GetTerm())
	now += string(s.Challenge)
	for _, p := range s.Problems {
		now += "\n" + p.Name
	}
	if now != c.told {
		c.told = now
		c.emit(tell{status: s})
	}
}

// onConnected tells a gateway everything that it may have missed.
func (c *core) onConnected(gateway string, now time.Time) {
	c.emit(tell{gateway: gateway, status: c.status(0)})
	for _, a := range c.Answers {
		if a.Term >= c.term() {
			c.emit(say{gateway: gateway, evidence: signalbox.Evidence{Envelope: a.Envelope, Statement: signalbox.Statement{Kind: a.Kind, Term: a.Term}}})
		}
	}
	if c.Left != 0 && c.Left == c.Admission {
		c.emit(say{gateway: gateway, evidence: c.leaveEvidence()})
	}
	for _, p := range c.open {
		if p.drained.Envelope != nil && c.gate.drained {
			c.emit(say{gateway: gateway, evidence: p.drained, handover: p.handover.ID})
		}
	}
	if c.serving.Envelope != nil && c.gate.open {
		c.emit(say{gateway: gateway, evidence: c.serving})
	}
	c.tellAttested(gateway)
	if c.asksStart() {
		c.question(&c.started, gateway)
	}
	if c.asksToLeave() {
		c.question(&c.stop.quiz, gateway)
	}
	if c.stop.phase == stopNone && c.report.readiness.Ready {
		c.wantNow(gateway, now)
	}
}

// Next is when the core wants a ticked event, zero for never, as of its last
// Step. What was due then was done, or waits for something else than time.
func (c *core) Next(now time.Time) time.Time {
	var first time.Time
	at := func(t time.Time) {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	at(c.nextDeadline(now))
	at(c.nextHelp())
	at(c.nextLease(now))
	for _, p := range c.open {
		if c.listens(p) {
			at(p.listenFrom())
		}
	}
	if !c.gate.busy && c.gate.failures > 0 {
		at(c.gate.retryAt)
	}
	if c.asksStart() {
		at(c.started.asked.Add(repeatAfter))
	}
	if c.asksToLeave() {
		at(c.stop.quiz.asked.Add(repeatAfter))
	}
	if c.stop.phase == stopClosing {
		at(c.stop.began.Add(max(leaveQuorum, leaveMost) + time.Millisecond))
	}
	if c.needsGrant() {
		at(c.wantAt)
	}
	return first
}
