package agent

import (
	"bytes"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// onOrdered takes a gateway's order about a block. Whatever the order, a block
// that has its answer gets the same answer again and no other (rule 4).
func (c *core) onOrdered(ev ordered, now time.Time) {
	if ev.kind < wire.OrderKind_ORDER_DRAIN || ev.kind > wire.OrderKind_ORDER_REFUSE {
		c.emit(note{warn: true, refused: true, what: "order of unknown kind", detail: ev.kind.String()})
		return
	}
	p := c.find(ev.decided)
	if p == nil {
		if p = c.accept(ev, now); p == nil {
			return
		}
	}
	if p.gossiped = p.gossiped || ev.gateway == ""; ev.gateway != "" {
		p.orderedAt = now
	}
	switch ev.kind {
	case wire.OrderKind_ORDER_ACK:
		p.ackOrder = true
	case wire.OrderKind_ORDER_REFUSE:
		p.refuse = true
	default:
		if p.drained.Envelope != nil && c.gate.drained && ev.gateway != "" {
			c.emit(say{gateway: ev.gateway, evidence: p.drained, handover: p.handover.ID})
		}
	}
}

func (c *core) find(raw []byte) *pending {
	for _, p := range c.open {
		if bytes.Equal(p.block.Raw, raw) {
			return p
		}
	}
	return nil
}

// accept verifies a block that an order names and makes it an open one; nil when
// there is nothing to open.
func (c *core) accept(ev ordered, now time.Time) *pending {
	block, err := rpc.OpenBlock(c.cfg.trust, ev.decided)
	if err != nil {
		c.emit(note{warn: true, refused: true, what: "order with a block that does not verify", detail: err.Error()})
		return nil
	}
	for _, p := range c.open {
		if p.block.Digest == block.Digest { // the same block under another quorum's signature
			return p
		}
	}
	h := block.Handover(c.cfg.instance.Service)
	if h == nil {
		c.emit(note{warn: true, refused: true, what: "order with a block that hands nothing over"})
		return nil
	}
	entry, ok := h.Entry(c.cfg.instance.Identity)
	if !ok {
		c.emit(note{what: "order about a handover whose roster does not name this identity", handover: h.ID, term: h.Term})
		return nil
	}
	if c.repeatAnswer(ev.gateway, block.Digest, h, entry) {
		return nil
	}
	switch {
	case entry.Admission < c.Admission || entry.Admission <= c.Left:
		c.emit(note{warn: true, what: "order for an admission that is not this one", handover: h.ID, term: h.Term})
		return nil
	case h.Term <= c.term():
		c.emit(note{what: "order for a term that is settled", handover: h.ID, term: h.Term})
		return nil
	case len(c.open) >= maxOpen:
		c.emit(note{warn: true, refused: true, what: "too many open blocks", handover: h.ID, term: h.Term})
		return nil
	}
	// The roster may name an admission that no certificate has told yet (listed
	// as incoming in a block that was superseded): the agreed log knows better.
	c.keep(record{
		Open:      &openBlock{Digest: block.Digest, Raw: block.Raw, First: now.Round(0)},
		Admission: entry.Admission,
	}, false)
	p := &pending{block: block, handover: h, entry: entry, first: now}
	c.open = append(c.open, p)
	c.emit(note{what: "handover block received", handover: h.ID, term: h.Term})
	return p
}

// repeatAnswer says again what was answered to a block, or the leave that
// answers every block of its admission.
func (c *core) repeatAnswer(gateway string, block signalbox.Digest, h *signalbox.Handover, entry signalbox.RosterEntry) bool {
	for _, a := range c.Answers {
		if a.Block == block {
			c.emit(say{gateway: gateway, evidence: signalbox.Evidence{Envelope: a.Envelope, Statement: signalbox.Statement{Kind: a.Kind, Term: a.Term}}, handover: h.ID})
			return true
		}
	}
	if c.Left != 0 && entry.Admission == c.Left {
		c.emit(say{gateway: gateway, evidence: c.leaveEvidence(), handover: h.ID})
		return true
	}
	return false
}

func (c *core) leaveEvidence() signalbox.Evidence {
	return signalbox.Evidence{Envelope: c.Leave, Statement: signalbox.Statement{Kind: signalbox.SaysLeave, Admission: c.Left}}
}

// budget is how long after it was received an instance refuses a block.
func budget(h *signalbox.Handover) time.Duration {
	if h.HoldBudget <= 0 {
		return signalbox.DefaultHoldBudget
	}
	return min(h.HoldBudget, signalbox.MaxHoldBudget)
}

// deadline is when p is refused by itself. A clock that was set back since does
// not make it later than a budget from now.
func (p *pending) deadline(now time.Time) time.Time {
	if p.first.After(now) {
		p.first = now
	}
	return p.first.Add(budget(p.handover))
}

// refusable reports whether the instance may still refuse p. One that has
// promised not to serve below a higher term has nothing to refuse for.
func (c *core) refusable(p *pending) bool {
	return p.handover.Voidable() && c.Floor < p.handover.Term
}

// answerOpen gives the answers that are due.
func (c *core) answerOpen(now time.Time) {
	for _, p := range slices.Clone(c.open) {
		switch refusable := c.refusable(p); {
		case refusable && (p.refuse || !now.Before(p.deadline(now))):
			c.answerBlock(p, signalbox.SaysRefuse)
		case c.gate.drained:
			c.sayDrained(p)
			c.listen(p, now)
			if p.ackOrder || !refusable {
				c.answerBlock(p, signalbox.SaysAck)
			}
		}
	}
}

func (c *core) sayDrained(p *pending) {
	if p.drained.Envelope != nil && p.drainedOp == c.gate.op {
		return
	}
	e, ok := c.statement(signalbox.SaysDrained, p.handover.Term, p.block.Digest, p.entry.Admission)
	if !ok {
		return
	}
	p.drained, p.drainedOp = e, c.gate.op
	c.emit(say{evidence: e, handover: p.handover.ID})
}

// answerBlock gives the one answer to p: persisted, then said.
func (c *core) answerBlock(p *pending, kind signalbox.StatementKind) {
	e, ok := c.statement(kind, p.handover.Term, p.block.Digest, p.entry.Admission)
	if !ok {
		return
	}
	c.keep(record{Answer: &answer{Kind: kind, Term: p.handover.Term, Block: p.block.Digest, Envelope: e.Envelope}}, true)
	c.open = slices.DeleteFunc(c.open, func(o *pending) bool { return o == p })
	c.emit(say{evidence: e, handover: p.handover.ID})
	c.emit(note{what: "answered " + kind.String(), handover: p.handover.ID, term: p.handover.Term})
}
