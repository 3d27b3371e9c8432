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
	log    []*signalbox.DecidedBlock // the first block of each index that anybody appended
	terms  map[signalbox.Term]signalbox.DataCenter
	acks   map[signalbox.Identity]signalbox.Term
	strict bool // looks at more than two masters and two logs
}

func side(a *agent) int {
	if a.DataCenter == west {
		return 1
	}
	return 0
}

// judge is rule 2 as clients see it: no two data centers serve at once.
func (s *Sim) judge() {
	var sides [2]bool
	for _, a := range s.agents {
		if a.up && a.serving != 0 {
			sides[side(a)] = true
		}
	}
	if !sides[0] || !sides[1] {
		return
	}
	sides = [2]bool{}
	var open []string
	for _, a := range s.agents {
		if a.open() {
			sides[side(a)] = true
			open = append(open, fmt.Sprintf("%s@%d", a.name, a.serving))
		}
	}
	if sides[0] && sides[1] {
		s.violated("two data centers serve: %s", strings.Join(open, " "))
	}
}

// block: two voters never hold different blocks for decided.
func (o *oracle) block(g *gateway, b *signalbox.DecidedBlock) {
	if b.Index > uint64(len(o.log)) {
		o.log = append(o.log, b)
		g.s.counts(g, b)
		return
	}
	o.fork(g, b)
}

func (o *oracle) fork(g *gateway, b *signalbox.DecidedBlock) {
	if b.Index <= uint64(len(o.log)) && o.log[b.Index-1].Digest != b.Digest {
		g.s.violated("two blocks are decided for index %d: %s has %s, another one %s", b.Index, g.name, b.Digest, o.log[b.Index-1].Digest)
	}
}

// certified: a term names one data center.
func (o *oracle) certified(s *Sim, c *signalbox.Certificate) {
	if dc, ok := o.terms[c.Term]; ok && dc != c.DataCenter() {
		s.violated("term %d is certified for %s and %s", c.Term, dc, c.DataCenter())
	}
	o.terms[c.Term] = c.DataCenter()
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
	h := o.log[c.Block.Index-1].Handover(orders)
	for _, b := range o.log[c.Block.Index:] {
		if h.Lists(a.Identity, c.Term) {
			return
		}
		if ad := b.Admission(orders); ad != nil && ad.Identity == a.Identity && ad.Term == c.Term {
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
	if len(b.Requests) == 0 {
		s.Stats["empty blocks"]++
	}
	for i := range b.Requests {
		r := &b.Requests[i]
		s.say("decided %d (voter %d): %s", b.Index, b.Proposer, describe(r))
		switch {
		case r.Handover != nil && r.Handover.From != "":
			s.Stats["handovers"]++
			switch {
			case r.Handover.Allowed&signalbox.ByOthers != 0:
				s.Stats["handovers that allow others' evidence"]++
			case r.Handover.Superseding():
				s.Stats["superseding handovers"]++
			}
			if strings.HasPrefix(r.Handover.ID, "lie") {
				s.Stats["liars' handovers"]++
			}
		case r.Admit != nil:
			s.Stats["admissions"]++
		case r.Remove != nil:
			s.Stats["removals"]++
		case r.Outcome != nil:
			s.ended()
			c := g.book.Service(orders).Certificate
			if c.Block.Digest == r.Outcome.Block && c.IsFallback() {
				s.Stats["outcomes fallback"]++
			} else {
				s.Stats["outcomes forward"]++
			}
		}
	}
}

// ended lets a switchover begin that waited.
func (s *Sim) ended() {
	if s.wanted > 0 && s.faults {
		s.wanted--
		s.after(s.between(time.Millisecond, 150*time.Millisecond), func() { s.anyGateway().order() })
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
