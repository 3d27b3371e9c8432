package agent

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// leasing is the lease of the term that the instance may serve (rule 2: where the
// service uses leases it serves with a live one only).
type leasing struct {
	leases signalbox.Leases // zero: the term uses none
	holder *lease.Holder
	admit  uint64    // the admission that holder is for
	askAt  time.Time // when to ask the voters again
	// refused is why the last voter that refused did so; "" after a grant.
	refused string

	// given is the deadline that the driver has taken for term: what the
	// instance enforces by itself. giving is the newest that it was told of, by
	// the order op; busy until it has answered.
	term   signalbox.Term
	given  lease.Instant
	has    bool
	op     uint64
	giving lease.Instant
	busy   bool
	// presumed is until when an instance that this agent found serving has a
	// lease at most: of an agent before this one, and it enforces that itself.
	presumed time.Time
}

// updateLease asks the voters when it is time to, and tells the driver of what
// they granted.
func (c *core) updateLease(now time.Time) {
	l := &c.lease
	t := c.mayServe()
	if l.leases = (signalbox.Leases{}); t != 0 {
		l.leases = c.cert.Leases()
	}
	if !l.leases.Used() || c.stop.phase == stopDone || !c.cfg.deadMan {
		l.holder = nil
		return
	}
	if l.holder == nil || l.holder.Term() != t || l.admit != c.admission() || l.holder.Epoch() != c.voting.epoch {
		l.admit = c.admission()
		l.holder = lease.NewHolder(l.leases, c.voting.quorum, lease.Request{
			Service: c.cfg.instance.Service, Term: t, Identity: c.cfg.instance.Identity, Admission: l.admit, Incarnation: c.Incarnation,
			Epoch: c.voting.epoch,
		})
		l.askAt = now
		if l.term != t {
			l.term = t
			l.forget()
		}
	}
	if !now.Before(l.askAt) {
		l.askAt = now.Add(lease.Renewal(l.leases))
		c.askLease()
	}
	c.giveLease()
}

func (c *core) askLease() {
	request := c.lease.holder.Renew(lease.Nonce(c.cfg.nonce()[:lease.NonceSize]), c.at)
	raw, err := rpc.SealLeaseRequest(c.cfg.trust.Cluster, rpc.Lease(request), c.cfg.key)
	if err != nil { // names were checked at the start
		c.emit(note{warn: true, what: "cannot sign a lease request", term: request.Term, detail: err.Error()})
		return
	}
	c.emit(askLease{raw})
}

// giveLease tells the driver of a later deadline than it knows, one order at a
// time.
func (c *core) giveLease() {
	l := &c.lease
	deadline, ok := l.holder.Deadline()
	known := deadline.Boot <= l.giving.Boot // given, or refused by the driver
	if !ok || l.busy || known || deadline.Passed(c.at) {
		return
	}
	l.op++
	l.busy, l.giving = true, deadline
	c.emit(giveLease{op: l.op, order: driver.LeaseOrder{
		Service: c.cfg.instance.Service, Term: l.term, Deadline: deadline.Time(), Boot: deadline.Boot,
	}})
}

// onLeaseReply takes what a voter said.
func (c *core) onLeaseReply(reply *wire.LeaseReply) {
	l := &c.lease
	if l.holder == nil {
		return
	}
	if len(reply.GetGrant()) == 0 {
		if why := clip(reply.GetVoter() + ": " + reply.GetProblem()); why != l.refused {
			l.refused = why
			c.emit(note{what: "a voter grants no lease", term: l.term, detail: why})
		}
		return
	}
	grant, voter, err := rpc.OpenLeaseGrant(c.cfg.trust.Cluster, reply.GetGrant(), c.voting.voter)
	if err != nil {
		c.emit(note{warn: true, refused: true, what: "lease that does not verify", detail: err.Error()})
		return
	}
	if c.voting.epoch == 0 {
		grant.Epoch = 0
	}
	if l.holder.Granted(voter, lease.Request(grant), c.at) {
		l.refused = ""
	}
}

// onLeaseGiven notes what the driver has taken.
func (c *core) onLeaseGiven(ev leaseGiven) {
	l := &c.lease
	if ev.op != l.op || !l.busy {
		return
	}
	l.busy = false
	if ev.err != nil { // told again when the voters have granted it anew
		c.problem = "driver: " + ev.err.Error()
		c.emit(note{warn: true, what: "the driver takes no lease", term: l.term, detail: ev.err.Error()})
		return
	}
	l.given, l.has, l.presumed = l.giving, true, time.Time{}
}

// forget has the driver told again.
func (l *leasing) forget() { l.has, l.busy, l.giving = false, false, lease.Instant{} }

// leaseLive reports whether the instance may serve as far as leases go: the term
// uses none, or the driver has taken one that is live.
func (c *core) leaseLive(now time.Time) bool {
	l := &c.lease
	switch {
	case !c.cert.Leases().Used():
		return true
	case l.has && l.term == c.cert.Term:
		return !l.given.Passed(c.at)
	}
	return c.gate.open && c.gate.term == c.cert.Term && now.Before(l.presumed)
}

// leaseLapsed reports whether the instance had a lease of its term and it has run
// out: then another may be master soon, and nothing is worth waiting for.
func (c *core) leaseLapsed() bool {
	return c.cert != nil && c.cert.Leases().Used() && !c.leaseLive(c.now)
}

// leaseProblem says to people why an instance that may serve does not; "" when
// that is not the lease.
func (c *core) leaseProblem(now time.Time) string {
	switch {
	case c.mayServe() == 0 || c.leaseLive(now):
		return ""
	case !c.cfg.deadMan:
		return fmt.Sprintf("term %d uses leases and this driver has no dead-man: it cannot serve; use another driver, or the service without leases", c.cert.Term)
	case c.lease.refused != "":
		return "no lease: " + c.lease.refused
	}
	return "no lease: fewer than a quorum of voters have answered"
}

// nextLease is when something about the lease is due; zero for never.
func (c *core) nextLease(now time.Time) (first time.Time) {
	l := &c.lease
	if l.holder == nil {
		return time.Time{}
	}
	first = l.askAt
	sooner := func(t time.Time) {
		if t.After(now) && t.Before(first) {
			first = t
		}
	}
	if l.has {
		left := min(l.given.Boot-c.at.Boot, l.given.Wall-c.at.Wall)
		sooner(now.Add(left))
	}
	sooner(l.presumed)
	return first
}
