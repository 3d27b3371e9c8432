package sim

import (
	"maps"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

// agent is the simplest agent that keeps rules 2 and 4: one persisted answer to a
// block, never below what it acked. Its disk survives a crash.
type agent struct {
	*who
	*node
	s        *Sim
	n        int // its service among the history's
	key      int // counts its keys
	up       bool
	run      int // counts starts, so that what an earlier process began is void
	disk     agentDisk
	image    agentDisk // a backup that somebody made
	unsynced []func()
	clock    clock
	trust    rpc.Trust // with the voters that it knows
	ballot   seat      // the newest of them

	serving signalbox.Term // the gate is open at this term
	lease   *lease.Holder  // of serving's term; nil: it uses none
	drained signalbox.Digest
	hangs   bool
	answers map[tag]rpc.Answer // by voter, to the nonce of this start
	fresh   bool               // a quorum of them keeps it from nothing
	held    bool               // a quorum answered, and it is kept closed
	nonces  uint64
	renewAt time.Time
	leaseBy uint64    // the admission that the lease is by
	told    bool      // that it serves the term
	frozen  time.Time // until when nothing of it runs
	ticks   int
}

type agentDisk struct {
	cert      *signalbox.Certificate
	floor     signalbox.Term
	admission uint64 // newest known
	admitted  signalbox.Term
	left      uint64
	highest   signalbox.Term
	answers   map[signalbox.Digest]signalbox.Evidence
	first     map[signalbox.Digest]time.Time
	leave     signalbox.Evidence
	chain     [][]byte // the blocks that changed the voters
}

// copied is an image of the disk.
func (d agentDisk) copied() agentDisk {
	d.answers, d.first = maps.Clone(d.answers), maps.Clone(d.first)
	return d
}

func newAgentDisk() agentDisk {
	return agentDisk{answers: map[signalbox.Digest]signalbox.Evidence{}, first: map[signalbox.Digest]time.Time{}}
}

func (a *agent) start() {
	if a.image.answers == nil {
		a.image = a.disk.copied()
	}
	a.up, a.run, a.serving, a.lease, a.drained = true, a.run+1, 0, nil, signalbox.Digest{}
	a.held = false
	a.remembers()
	if a.answers == nil || a.s.off != NonceIsStale {
		a.answers = map[tag]rpc.Answer{}
	}
	a.fresh = a.s.off == NonceNotAsked
	a.hangs = a.s.rough(0.1) || a.s.off == NewVotersForgetPromises
	for _, n := range a.s.neighbours(a.node) {
		a.s.connect(a.node, n)
	}
	a.serve()
	a.tick(a.run)
}

func (a *agent) crash(down time.Duration) {
	if !a.up {
		return
	}
	a.up, a.serving, a.frozen = false, 0, time.Time{}
	a.s.Stats["crashes of instances"]++
	for i := len(a.unsynced) - 1; i >= 0; i-- {
		a.unsynced[i]()
	}
	a.unsynced = nil
	for _, n := range a.s.neighbours(a.node) {
		a.s.cut(a.node, n, down+time.Millisecond)
	}
	a.s.say("%s down for %v", a.name, down)
	a.s.after(down, func() {
		if !a.up {
			a.start()
		}
	})
}

// freeze stops the process, or the whole machine with its boot clock, for a while.
// Its gate stays as it is.
func (a *agent) freeze(d time.Duration) {
	if !a.up || a.s.now.Before(a.frozen) {
		return
	}
	a.s.say("%s is frozen for %v", a.name, d)
	a.frozen = a.s.now.Add(d)
	if a.clock.pauses {
		a.s.Stats["paused machines"]++
		a.s.after(d, func() { a.clock.missed += d })
		return
	}
	a.s.Stats["stopped processes"]++
}

// thawed does f when the process runs.
func (a *agent) thawed(f func()) {
	if wait := a.frozen.Sub(a.s.now); wait > 0 {
		a.s.after(wait, func() { a.thawed(f) })
		return
	}
	f()
}

func (a *agent) after(d time.Duration, f func()) { a.s.after(d, func() { a.thawed(f) }) }

// write makes a change of the agent's disk; it may crash before or after.
func (a *agent) write(change func()) bool {
	if a.s.rough(0.004) {
		a.crash(a.s.between(20*time.Millisecond, 3*time.Second))
		return false
	}
	change()
	if a.s.rough(0.004) {
		a.crash(a.s.between(20*time.Millisecond, 3*time.Second))
		return false
	}
	return true
}

// loseDisk: the machine comes back without its key, and makes a new one.
func (a *agent) loseDisk() {
	a.s.Stats["lost keys of instances"]++
	a.crash(a.s.between(100*time.Millisecond, 2*time.Second))
	a.s.say("%s lost its key", a.name)
	if a.s.off == RolledBack {
		a.disk = a.image
		return
	}
	a.key++
	a.s.retired = append(a.s.retired, a.who)
	a.who, a.disk = everybody.actor(a.name, a.key), newAgentDisk()
}

// stop is the orderly one: gate closed, leave persisted, said, exit.
func (a *agent) stop() {
	if a.disk.admission > a.disk.left {
		if a.s.off != LeavesServing {
			a.serving = 0
		}
		if !a.write(func() {
			a.disk.left = a.disk.admission
			a.disk.leave = a.leaves(a.disk.admission, a.disk.highest)
		}) {
			return
		}
		a.s.say("%s leaves admission %d", a.name, a.disk.left)
		a.tell(a.disk.leave)
	}
	run, exit := a.run, 5*time.Millisecond
	if a.s.off == LeavesServing {
		exit = 2 * time.Second
	}
	a.after(exit, func() {
		if a.run == run {
			a.crash(a.s.between(100*time.Millisecond, 2*time.Second))
		}
	})
}

func (a *agent) tell(e signalbox.Evidence) {
	for _, n := range a.s.neighbours(a.node) {
		g := n.gw
		a.s.send(a.node, n, func() { g.desk(a.Service).statement(e) })
	}
}

// tick looks at the own clock, and asks for what is missing.
func (a *agent) tick(run int) {
	if !a.up || a.run != run {
		return
	}
	a.serve()
	a.renew()
	if a.serving != 0 && a.s.off == RolledBack && a.s.chance(0.02) {
		a.image = a.disk.copied()
	}
	if a.ticks++; a.ticks%4 == 0 && a.open() {
		a.status()
	}
	if !a.fresh {
		a.ask(run)
	}
	c := a.disk.cert
	missing := c == nil || c.DataCenter() == a.DataCenter && c.Term >= a.disk.floor && (a.basis() == 0 || a.held)
	if a.serving == 0 && missing {
		for _, n := range a.s.neighbours(a.node) {
			g := n.gw
			a.s.send(a.node, n, func() { g.desk(a.Service).wants(a) })
		}
	}
	a.after(100*time.Millisecond, func() { a.tick(run) })
}

// granted takes a certificate, and the block that admits it.
func (a *agent) granted(c *signalbox.Certificate, admitted *signalbox.DecidedBlock) {
	newer := a.disk.cert == nil || c.Term > a.disk.cert.Term
	if newer && !a.verify(c) {
		return
	}
	var ad *signalbox.Admission
	if admitted != nil {
		if ad = admitted.Admission(a.Service); ad != nil && (ad.Identity != a.Identity || admitted.Index < a.disk.admission) {
			ad = nil
		}
	}
	if newer || ad != nil && (a.disk.admitted != ad.Term || a.disk.admission != admitted.Index) {
		kept := a.write(func() {
			if newer {
				a.disk.cert = c
				if c.Handover().Lists(a.Identity, c.Term) && !c.IsFallback() {
					a.disk.admission = max(a.disk.admission, c.Block.Index)
				}
			}
			if ad != nil {
				a.disk.admitted, a.disk.admission = ad.Term, max(a.disk.admission, admitted.Index)
			}
		})
		if !kept {
			return
		}
	}
	if newer {
		a.drained = signalbox.Digest{}
		a.serving = 0 // until it may serve the new term
	}
	run := a.run
	a.after(a.s.between(time.Millisecond, 10*time.Millisecond), func() {
		if a.up && a.run == run {
			a.serve()
		}
	})
}

// basis is the admission by which it may serve the certificate's term, 0 for none.
func (a *agent) basis() uint64 {
	c := a.disk.cert
	if c == nil {
		return 0
	}
	var by uint64
	if h := c.Handover(); h.Lists(a.Identity, c.Term) || a.s.off == ServesUnlisted {
		by = c.Block.Index
		if e, ok := h.Entry(a.Identity); ok && c.IsFallback() {
			by = e.Admission
		}
	}
	if a.disk.admitted == c.Term {
		by = max(by, a.disk.admission)
	}
	if by <= a.disk.left && a.s.off != LeaveIsNotFinal {
		return 0
	}
	return by
}

// may reports whether all but the lease lets it serve.
func (a *agent) may() bool {
	c := a.disk.cert
	return a.up && a.fresh && c != nil && c.DataCenter() == a.DataCenter && c.Term >= a.disk.floor && a.basis() != 0 && a.drained.IsZero()
}

func (a *agent) serve() {
	if !a.may() {
		return
	}
	c := a.disk.cert
	if a.serving != c.Term {
		a.serving, a.lease, a.told = c.Term, nil, false
		a.s.say("%s may serve term %d by %d", a.name, c.Term, a.basis())
		a.s.oracle.serves(a)
		a.renew()
	}
	if a.open() && !a.told {
		a.status()
	}
}

// status tells that it serves, unsigned.
func (a *agent) status() {
	a.told = true
	for _, n := range a.s.neighbours(a.node) {
		g, serves := n.gw, handover.Serves{Identity: a.Identity, Term: a.serving}
		a.s.send(a.node, n, func() {
			if g.up {
				d := g.desk(a.Service)
				d.broadcast(func(p *desk) { p.step(serves) })
				d.step(serves)
			}
		})
	}
}
