package agent

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// An instance that has drained waits for a gateway's order to ack so long before
// it looks at what the others of the roster said by gossip, because the gateways
// may be out of its reach: overhearAfter from the block on when that came by
// gossip alone (the direct way takes milliseconds), and overhearLate after the
// last order of a gateway, which repeats them twice a second.
const (
	overhearAfter = 200 * time.Millisecond
	overhearLate  = 1500 * time.Millisecond
)

// wordsPerEntry bounds what is remembered unverified, for each of a roster.
const wordsPerEntry = 4

// onOverheard takes what another instance said, unverified, as gossip brought
// it. Only what is about an open block matters.
func (c *core) onOverheard(raw []byte) {
	s, err := rpc.InspectStatement(raw)
	if err != nil || s.Service != c.cfg.instance.Service {
		return
	}
	for _, p := range c.open {
		_, listed := p.handover.Entry(s.Identity)
		about := s.Block == p.block.Digest || s.Kind == signalbox.SaysLeave
		if !listed || !about || s.Identity == c.cfg.instance.Identity || p.ackOrder || len(p.words) >= wordsPerEntry*len(p.handover.Roster) {
			continue
		}
		if !slices.ContainsFunc(p.words, func(have []byte) bool { return bytes.Equal(have, raw) }) {
			p.words = append(p.words, raw)
		}
	}
}

// overhears reports whether every other instance of the roster is known, by its
// own signature, to have drained: then the ack is due, whoever says so.
func (c *core) overhears(p *pending) bool {
	drained := map[signalbox.Identity]bool{c.cfg.instance.Identity: true}
	for _, raw := range p.words {
		e, err := rpc.OpenStatement(c.cfg.trust.Cluster, raw, func(id signalbox.Identity) ed25519.PublicKey {
			entry, _ := p.handover.Entry(id)
			return entry.PublicKey
		})
		if err != nil {
			continue
		}
		entry, listed := p.handover.Entry(e.Identity)
		if listed && (e.Kind == signalbox.SaysDrained && e.Block == p.block.Digest || rpc.Proves(p.handover, p.block.Digest, entry, e.Statement) == nil) {
			drained[e.Identity] = true
		}
	}
	return !slices.ContainsFunc(p.handover.Roster, func(e signalbox.RosterEntry) bool { return !drained[e.Identity] })
}

// listenFrom is when p may be acked without an order.
func (p *pending) listenFrom() time.Time {
	if p.orderedAt.IsZero() {
		return p.first.Add(overhearAfter)
	}
	return p.orderedAt.Add(overhearLate)
}

// listens reports whether p waits for a gateway's order that may never come.
func (c *core) listens(p *pending) bool { return p.gossiped && !p.ackOrder && c.gate.drained }

// listen has p acked when nobody orders it although everybody has drained.
func (c *core) listen(p *pending, now time.Time) {
	if !c.listens(p) || now.Before(p.listenFrom()) || len(p.words) == p.weighed && len(p.handover.Roster) > 1 {
		return
	}
	p.weighed = len(p.words)
	if c.overhears(p) {
		p.ackOrder = true
		c.emit(note{what: "no gateway orders the ack, and everybody has drained", handover: p.handover.ID, term: p.handover.Term})
	}
}
