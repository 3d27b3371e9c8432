package coordinator

import (
	"encoding/binary"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/session"
)

// kindIncarnation notes the highest incarnation heard of an identity: a state
// directory that was rolled back is told by it (rule 8), also after all gateways
// were started again.
const kindIncarnation journal.Kind = "incarnation"

// loadIncarnations reads the notes, before anybody can say hello.
func (c *Coordinator) loadIncarnations() error {
	notes, err := c.opt.Journal.Notes(kindIncarnation)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	for id, raw := range notes {
		if len(raw) == 8 {
			c.heard[signalbox.Identity(id)] = binary.BigEndian.Uint64(raw)
		}
	}
	return nil
}

// sawIncarnation takes an incarnation that somebody else heard of.
func (c *Coordinator) sawIncarnation(id signalbox.Identity, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.heard[id]; known && n > before {
		c.heard[id] = n
	}
}

// checkIncarnation refuses a hello from before the newest.
func (c *Coordinator) checkIncarnation(in signalbox.Instance, n uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if highest := c.heard[in.Identity]; n < highest {
		return fmt.Errorf("%w: incarnation %d of %s was seen already, this is %d; it needs a new key", session.ErrRolledBack, highest, in.Name, n)
	}
	c.heard[in.Identity] = n
	return nil
}

// keepIncarnation notes what was heard of an identity that the log knows.
func (c *Coordinator) keepIncarnation(id signalbox.Identity) {
	known := false
	c.opt.Journal.View(func(l *handover.Ledger) { _, known = l.Enrolled(id) })
	c.mu.Lock()
	n := c.heard[id]
	c.mu.Unlock()
	if known && n > 0 {
		c.later(func() error {
			return c.opt.Journal.PutNote(kindIncarnation, string(id), binary.BigEndian.AppendUint64(nil, n))
		})
	}
}

// forget drops what is known of an identity that left no trace in the log, so
// that agents with ever new keys do not fill the memory.
func (c *Coordinator) forget(s *service, id signalbox.Identity) {
	known := false
	c.opt.Journal.View(func(l *handover.Ledger) { _, known = l.Enrolled(id) })
	if known {
		return
	}
	delete(s.instances, id)
	delete(s.admitting, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.heard, id)
	delete(c.keys, id)
}
