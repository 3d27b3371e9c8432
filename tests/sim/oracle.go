package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// oracle looks at what happened, at nothing that decides: gates, the blocks that
// voters hold for decided, certificates, acks.
type oracle struct {
	epoch  uint64                    // of the block after log
	log    []*signalbox.DecidedBlock // the first block of each index that anybody appended
	terms  map[termOf]signalbox.DataCenter
	acks   map[signalbox.Identity]signalbox.Term
	strict bool // looks at more than two masters and two logs
}

type termOf struct {
	service signalbox.Service
	term    signalbox.Term
}

func side(a *agent) int {
	if a.DataCenter == west {
		return 1
	}
	return 0
}

// judge is rule 2 as clients see it: no two data centers serve at once, and no two
// instances of a singleton.
func (s *Sim) judge() {
	for i, of := range s.plan.services {
		s.judgeService(i, of)
	}
}

func (s *Sim) judgeService(n int, of signalbox.Service) {
	var gates [2]int
	for _, a := range s.agents {
		if a.up && a.serving != 0 && a.n == n {
			gates[side(a)]++
		}
	}
	one := s.plan.singleton[of]
	if (gates[0] == 0 || gates[1] == 0) && (!one || gates[0]+gates[1] < 2) {
		return
	}
	gates = [2]int{}
	var open []string
	for _, a := range s.agents {
		if a.n == n && a.open() {
			gates[side(a)]++
			open = append(open, fmt.Sprintf("%s@%d", a.name, a.serving))
		}
	}
	two := gates[0] > 0 && gates[1] > 0
	switch {
	case !two && (!one || len(open) < 2):
	case s.lenient:
		s.Masters++
	case two:
		s.violated("two data centers serve: %s", strings.Join(open, " "))
	default:
		s.violated("two instances of a singleton serve: %s", strings.Join(open, " "))
	}
}

// block: two voters never hold different blocks for decided.
func (o *oracle) block(g *gateway, b *signalbox.DecidedBlock) {
	if b.Index > uint64(len(o.log)) {
		o.log = append(o.log, b)
		o.voters(g, b)
		g.s.counts(g, b)
		return
	}
	o.fork(g, b)
}

// voters: a block is decided by the set that the blocks before it lead to, and by no
// other. That no set has more liars than it stands is what the history assumes.
func (o *oracle) voters(g *gateway, b *signalbox.DecidedBlock) {
	if b.Epoch != o.epoch {
		g.s.violated("block %d is decided by voter set %d, which is set %d's to decide", b.Index, b.Epoch, o.epoch)
	}
	c := b.Voters()
	if c == nil {
		return
	}
	o.epoch++
	liars := 0
	for _, name := range c.Names() {
		if g.s.gateway(name).voter.liar != nil {
			liars++
		}
	}
	if c.Epoch != o.epoch || liars > c.Lying {
		g.s.fail("block %d brings voter set %d after set %d, with %d liars of %d", b.Index, c.Epoch, b.Epoch, liars, c.Lying)
	}
}

// foreign: the block after the newest is one more set's.
func (o *oracle) foreign(g *gateway, b *signalbox.DecidedBlock) {
	if b.Index == uint64(len(o.log))+1 && b.Epoch != o.epoch {
		g.s.violated("block %d is decided by voter set %d, which is set %d's to decide", b.Index, b.Epoch, o.epoch)
	}
}

func (o *oracle) fork(g *gateway, b *signalbox.DecidedBlock) {
	if b.Index <= uint64(len(o.log)) && o.log[b.Index-1].Digest != b.Digest {
		g.s.violated("two blocks are decided for index %d: %s has %s, another one %s", b.Index, g.name, b.Digest, o.log[b.Index-1].Digest)
	}
}

// certified: a term names one data center.
func (o *oracle) certified(s *Sim, c *signalbox.Certificate) {
	key := termOf{c.Service, c.Term}
	if dc, ok := o.terms[key]; ok && dc != c.DataCenter() {
		s.violated("term %d is certified for %s and %s", c.Term, dc, c.DataCenter())
	}
	o.terms[key] = c.DataCenter()
}

func (o *oracle) acked(id signalbox.Identity, t signalbox.Term) { o.acks[id] = max(o.acks[id], t) }

// serves: only what is certified and in the log, listed or admitted by it, and
// not below the own ack.
func (o *oracle) serves(a *agent) {
	a.s.Stats["masterships"]++
	if !o.strict {
		return
	}
	c := a.disk.cert
	if at := c.Block.Index; at > uint64(len(o.log)) || o.log[at-1].Digest != c.Block.Digest {
		a.s.fail("%s serves term %d by a block that was not decided", a.name, c.Term)
		return
	}
	if o.acks[a.Identity] > c.Term {
		a.s.fail("%s serves term %d below its ack of %d", a.name, c.Term, o.acks[a.Identity])
	}
	h := o.log[c.Block.Index-1].Handover(a.Service)
	for _, b := range o.log[c.Block.Index:] {
		if h.Lists(a.Identity, c.Term) {
			return
		}
		if ad := b.Admission(a.Service); ad != nil && ad.Identity == a.Identity && ad.Term == c.Term {
			return
		}
	}
	if !h.Lists(a.Identity, c.Term) {
		a.s.fail("%s serves term %d and is neither listed nor admitted", a.name, c.Term)
	}
}

// counts says what was decided, once.
func (s *Sim) counts(g *gateway, b *signalbox.DecidedBlock) {
	s.Stats["blocks"]++
	if len(b.Requests) > 1 {
		s.Stats["blocks of several services"]++
	}
	if len(b.Requests) == 0 {
		s.Stats["empty blocks"]++
	}
	for i := range b.Requests {
		r := &b.Requests[i]
		s.say("decided %d (voter %d): %s", b.Index, b.Proposer, describe(r))
		switch {
		case r.Handover != nil && r.Handover.From != "":
			s.Stats["handovers"]++
			if r.Handover.Singleton {
				s.Stats["handovers of singletons"]++
			}
			switch {
			case r.Handover.Allowed&signalbox.ByOthers != 0:
				s.Stats["handovers that allow others' evidence"]++
			case r.Handover.Superseding():
				s.Stats["superseding handovers"]++
			}
			if strings.HasPrefix(r.Handover.ID, "lie") {
				s.Stats["liars' handovers"]++
			}
		case r.Voters != nil:
			s.Stats["changes of voters"]++
		case r.Snapshot != nil:
			s.Stats["snapshots"]++
		case r.Admit != nil:
			s.Stats["admissions"]++
		case r.Remove != nil:
			s.Stats["removals"]++
		case r.Outcome != nil:
			s.ended(g.desk(r.Outcome.Service).n)
			c := g.book.Service(r.Outcome.Service).Certificate
			if c.Block.Digest == r.Outcome.Block && c.IsFallback() {
				s.Stats["outcomes fallback"]++
			} else {
				s.Stats["outcomes forward"]++
			}
		}
	}
}

// ended lets a switchover begin that waited.
func (s *Sim) ended(of int) {
	if s.wanted[of] > 0 && s.faults {
		s.wanted[of]--
		s.after(s.between(time.Millisecond, 150*time.Millisecond), func() { s.anyGateway().desks[of].order() })
	}
}

func describe(r *signalbox.Request) string {
	switch {
	case r.Handover != nil:
		h := r.Handover
		var names []string
		for _, e := range h.Roster {
			names = append(names, nameOf(e.Identity))
		}
		return fmt.Sprintf("handover %s %s->%s term %d fallback %d allows %s roster %s", h.ID, h.From, h.To, h.Term, h.Fallback, h.Allowed, strings.Join(names, " "))
	case r.Voters != nil:
		return fmt.Sprintf("voters of epoch %d: %s, %d unavailable, %d lying", r.Voters.Epoch, strings.Join(r.Voters.Names(), " "), r.Voters.Unavailable, r.Voters.Lying)
	case r.Admit != nil:
		return fmt.Sprintf("admit %s to %d", nameOf(r.Admit.Identity), r.Admit.Term)
	case r.Outcome != nil:
		return fmt.Sprintf("outcome term %d", r.Outcome.Certified)
	case r.Remove != nil && r.Remove.Announces():
		return "announce the removal of " + nameOf(r.Remove.Identity)
	case r.Remove != nil:
		return "remove " + nameOf(r.Remove.Identity)
	}
	return "nothing"
}
