package coordinator

import (
	"encoding/binary"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/rpc"
)

// kindIncarnation notes the highest incarnation heard of an identity, with what
// that start drew: a state directory that was rolled back or copied is told by it
// (rule 8), also after all gateways were started again.
const kindIncarnation journal.Kind = "incarnation"

// start is one start of an agent with an identity.
type start struct {
	incarnation uint64
	// drawn tells two starts that count themselves alike; "" where nobody said.
	drawn string
}

// maxDrawn bounds what an agent says that it drew, in bytes.
const maxDrawn = rpc.NonceSize

func (s start) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, s.incarnation), s.drawn...)
}

func decodeStart(raw []byte) (start, bool) {
	if len(raw) < 8 || len(raw) > 8+maxDrawn {
		return start{}, false
	}
	return start{binary.BigEndian.Uint64(raw), string(raw[8:])}, true
}

// loadIncarnations reads the notes, before anybody can say hello.
func (c *Coordinator) loadIncarnations() error {
	notes, err := c.opt.Journal.Notes(kindIncarnation)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	for id, raw := range notes {
		if s, ok := decodeStart(raw); ok {
			c.heard[signalbox.Identity(id)] = s
		}
	}
	return nil
}

// sawIncarnation takes a start that somebody else heard of. One that counts
// itself like the one known here keeps the place that it has there: whichever of
// two copies comes to a gateway second is refused by it.
func (c *Coordinator) sawIncarnation(id signalbox.Identity, said start) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.heard[id]; known && said.incarnation > before.incarnation && len(said.drawn) <= maxDrawn {
		c.heard[id] = said
	}
}

// checkIncarnation refuses a hello from before the newest, and one of another
// start that claims to be the newest: its state is a copy.
func (c *Coordinator) checkIncarnation(in signalbox.Instance, said start) error {
	if len(said.drawn) > maxDrawn {
		return fmt.Errorf("%w: the hello of %s names its start by %d bytes, at most %d", signalbox.ErrInvalid, in.Name, len(said.drawn), maxDrawn)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	highest := c.heard[in.Identity]
	switch {
	case said.incarnation < highest.incarnation:
		return fmt.Errorf("%w: incarnation %d of %s was seen already, this is %d; it needs a new key", session.ErrRolledBack, highest.incarnation, in.Name, said.incarnation)
	case said.incarnation == highest.incarnation && said.drawn != highest.drawn && said.drawn != "" && highest.drawn != "":
		return fmt.Errorf("%w: another start of %s was incarnation %d already: its state was copied or rolled back; it needs a new key", session.ErrRolledBack, in.Name, said.incarnation)
	}
	if said.incarnation > highest.incarnation || said.drawn != "" {
		c.heard[in.Identity] = said
	}
	return nil
}

// keepIncarnation notes what was heard of an identity that the log knows.
func (c *Coordinator) keepIncarnation(id signalbox.Identity) {
	known := false
	c.opt.Journal.View(func(l *handover.Ledger) { _, known = l.Enrolled(id) })
	c.mu.Lock()
	newest := c.heard[id]
	c.mu.Unlock()
	if known && newest.incarnation > 0 {
		c.later(func() error { return c.opt.Journal.PutNote(kindIncarnation, string(id), newest.encode()) })
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
	delete(s.leaves, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.heard, id)
	delete(c.keys, id)
}
