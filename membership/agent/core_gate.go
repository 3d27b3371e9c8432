package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// gate is what the core knows of the instance, and the order that is being
// carried out.
type gate struct {
	known bool // the driver has said how the instance is, or was given an order
	open  bool
	term  signalbox.Term // served while open
	// drained: stepped down by order, with nothing in flight. The instance
	// stays so until it is promoted; starting it again leaves it closed.
	drained bool
	// position is what the data had reached when it drained.
	position driver.Position

	op       uint64 // the last order
	busy     bool   // it is being carried out
	goal     goal   // what it is for
	failures int
	retryAt  time.Time
}

// goal is what an order to the driver is to reach.
type goal struct {
	open bool
	term signalbox.Term
}

// target is the term to serve now, 0 for closed.
func (c *core) target() signalbox.Term {
	if len(c.open) > 0 || c.stop.phase >= stopClosing || !c.fresh {
		return 0
	}
	t := c.mayServe()
	if t == 0 || !c.leaseLive(c.now) {
		return 0
	}
	return t
}

// untouched reports whether the instance was never part of a term.
func (c *core) untouched() bool {
	return c.cert == nil && c.Floor == 0 && c.Admission == 0 && len(c.open) == 0
}

// unmanaged reports whether the instance serves without ever having been handed
// over: a live service before its adoption, which is left alone until it can be
// promoted to the term that adopts it.
func (c *core) unmanaged() bool {
	return c.gate.open && c.gate.term == 0 && c.Floor == 0 && c.Left == 0 && len(c.open) == 0 &&
		(c.cert == nil || c.mayServe() != 0)
}

// reconcile brings what is and what should be together. It runs after every
// event and is idempotent.
func (c *core) reconcile(now time.Time) {
	if c.broken {
		return
	}
	c.checkFresh()
	c.updateLease(now)
	c.answerOpen(now)
	c.proceedStop(now)
	c.updateHold()
	c.drive(now)
	c.proceedHelp(now)
	c.sayServing()
	c.repeat(now)
	c.tellChange()
}

// drive gives the driver the order that the target needs.
func (c *core) drive(now time.Time) {
	g, target := &c.gate, c.target()
	mustDrain := len(c.open) > 0 || c.stop.phase == stopClosing
	switch {
	case c.unmanaged() && target == 0:
		return
	case !g.known && !mustDrain: // an instance that serves on beside a new agent must not be disturbed
		return
	case target != 0 && g.open && g.term == target && !g.busy:
		return
	case target == 0 && !g.open && !g.busy && (g.drained || !mustDrain):
		return
	}
	next := goal{open: target != 0, term: target}
	if !next.open {
		next.term = max(c.term(), g.term)
	}
	if next == g.goal && (g.busy || now.Before(g.retryAt)) {
		return
	}
	if next != g.goal {
		g.failures = 0
	}
	g.op++
	g.goal, g.busy, g.known, g.drained, g.position = next, true, true, false, nil
	c.followAnew()
	if next.open {
		c.emit(promote{op: g.op, order: driver.Promotion{Service: c.cfg.instance.Service, Term: target, Position: c.cert.Position(), Leased: c.cert.Leases().Used()}})
		return
	}
	g.open = false
	c.emit(stepDown{op: g.op, order: driver.StepDown{
		Service: c.cfg.instance.Service, Term: next.term, Deadline: c.nextDeadline(now), Incoming: c.incoming(), Streams: c.streams(),
	}})
}

// streams is what becomes of streams in the drain that is due. Only a handover
// that can still be refused is given up because of them.
func (c *core) streams() signalbox.StreamPolicy {
	if len(c.open) == 0 {
		return signalbox.StreamsWait
	}
	p := c.open[len(c.open)-1]
	if p.handover.Streams == signalbox.StreamsAbort && !c.refusable(p) {
		return signalbox.StreamsWait
	}
	return p.handover.Streams
}

// abort refuses what is open because streams outlive the drain.
func (c *core) abort() {
	for _, p := range c.open {
		if p.handover.Streams == signalbox.StreamsAbort && c.refusable(p) {
			p.refuse = true
			c.emit(note{warn: true, what: "streams outlive the drain: refusing", handover: p.handover.ID, term: p.handover.Term})
		}
	}
}

// nextDeadline is when the first open block will be refused; zero for never.
func (c *core) nextDeadline(now time.Time) time.Time {
	var first time.Time
	for _, p := range c.open {
		if d := p.deadline(now); c.refusable(p) && (first.IsZero() || d.Before(first)) {
			first = d
		}
	}
	return first
}

func (c *core) onDrove(ev drove, now time.Time) {
	g := &c.gate
	if ev.op != g.op || !g.busy {
		return // an order that was replaced
	}
	g.busy = false
	if ev.err == nil && len(ev.position) > signalbox.MaxPosition {
		ev.err = fmt.Errorf("%w: its position has %d bytes, at most %d", signalbox.ErrInvalid, len(ev.position), signalbox.MaxPosition)
	}
	if errors.Is(ev.err, driver.ErrStreams) {
		c.abort()
	}
	if ev.err != nil {
		wait := min(driveBackoff<<min(g.failures, 10), maxDriveBackoff)
		g.failures++
		g.retryAt = now.Add(wait)
		c.problem = "driver: " + ev.err.Error()
		c.emit(note{warn: true, what: "the driver failed", term: g.goal.term, detail: ev.err.Error()})
		return
	}
	g.failures, g.retryAt, c.problem = 0, time.Time{}, ""
	if g.goal.open {
		g.open, g.term = true, g.goal.term
		c.emit(note{what: "promoted", term: g.term, handover: c.cert.Handover().ID})
		return
	}
	g.drained, g.position = true, ev.position
	g.goal = goal{} // a later order to close is a new one
}

// onReported compares what the driver says with what the core believes.
func (c *core) onReported(ev reported, now time.Time) {
	if ev.readiness.Ready && !c.report.readiness.Ready && c.stop.phase == stopNone {
		c.wantNow("", now) // perhaps a certificate was missed
	}
	c.report = ev
	if ev.err != nil {
		c.problem = "driver: " + ev.err.Error()
		return
	}
	g := &c.gate
	if !g.busy && g.failures == 0 && c.help.failures == 0 {
		c.problem = ""
	}
	if g.busy || ev.op != g.op {
		return // asked before the last order was carried out
	}
	c.met = true
	status := ev.status
	another := c.run != "" && status.Run != c.run
	c.run = status.Run
	if another {
		c.followAnew()
	}
	switch {
	case !g.known:
		c.meet(status)
	case g.open && !status.Master && !another && status.Run != "" && c.leaseLapsed():
		g.open = false // it has closed by itself
	case g.open && (!status.Master || another):
		g.open = false
		c.serving = signalbox.Evidence{}
		c.restarted()
	case g.open:
		g.term = status.Term
	case status.Master:
		c.emit(note{warn: true, what: "the instance serves without having been promoted", term: status.Term})
		g.open, g.term, g.drained = true, status.Term, false
	case another:
		c.restarted()
	}
	c.onLeaving(status.Leaving)
}

// meet takes the first report. An instance that serves a term which it may serve
// was not started again, only its agent was.
func (c *core) meet(status driver.Status) {
	g := &c.gate
	g.known, g.open = true, status.Master
	if !status.Master {
		return
	}
	g.term = status.Term
	if g.term != 0 && g.term >= c.Floor && g.term <= c.term() {
		c.fresh = true
		c.lease.presumed = c.now.Add(c.cert.Leases().TTL)
		c.emit(note{what: "the instance serves on", term: g.term})
	}
}

// sayServing signs, once per promotion, that the instance serves.
func (c *core) sayServing() {
	t := c.target()
	if t == 0 || !c.gate.open || c.gate.term != t || c.gate.busy || c.serving.Term == t {
		return
	}
	e, ok := c.statement(signalbox.SaysServing, t, c.cert.Block.Digest, c.admission())
	if !ok {
		return
	}
	c.serving = e
	c.emit(say{evidence: e, handover: c.cert.Handover().ID})
}

// updateHold has stragglers wait while the instance may open again soon, and
// tells the newest term known.
func (c *core) updateHold() {
	next := hold{known: c.term()}
	waits := len(c.open) > 0 || c.Floor > c.term() || c.mayServe() != 0 && !c.leaseLapsed()
	if c.stop.phase < stopClosing && waits {
		next.park = signalbox.DefaultHoldBudget + parkMargin
		if n := len(c.open); n > 0 {
			next.park = budget(c.open[n-1].handover) + parkMargin
		}
	}
	if next != c.held {
		c.held = next
		c.emit(next)
	}
}
