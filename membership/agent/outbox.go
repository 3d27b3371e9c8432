package agent

import (
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

const (
	// unhurriedAfter is how much later than the gateway that asked the others
	// get an answer: in a handover every process that is told takes processor
	// time from the parked requests. One that stands in asks, and gets it then.
	unhurriedAfter = 100 * time.Millisecond
	// gossipAfter is how much later gossip is told, for the case that the
	// direct ways are cut and nobody has noticed.
	gossipAfter = 200 * time.Millisecond
	// statusAfter is for how long changes of the status are gathered.
	statusAfter = 100 * time.Millisecond
)

// outbox keeps what nobody waits for until its time has come. The runner's
// goroutine owns it.
type outbox struct {
	owed     []owed               // the first due first
	status   *wire.InstanceStatus // the newest that the gateways were not told
	statusAt time.Time
}

// owed is a statement for all gateways but one, or for gossip.
type owed struct {
	due    time.Time
	gossip bool
	except string
	raw    []byte
}

// next is when something is due, zero for never.
func (o *outbox) next() time.Time {
	next := o.statusAt
	if len(o.owed) > 0 && (next.IsZero() || o.owed[0].due.Before(next)) {
		next = o.owed[0].due
	}
	return next
}

// leadOf notes which gateway an event came from: it waits for what comes of it.
func (r *runner) leadOf(ev event) {
	switch from := ev.(type) {
	case ordered:
		r.lead = from.gateway
	case granted:
		r.lead = from.gateway
	}
}

// sayAll sends a statement to the gateway that waits for it, and to the others
// when there is time; to all at once when nobody is known to wait, or no time
// is left.
func (r *runner) sayAll(raw []byte, kind signalbox.StatementKind, now time.Time) {
	lead := r.lead
	if kind == signalbox.SaysLeave || !r.connected(lead) {
		r.send("", statementFrame(raw))
		r.agent.broadcast(raw)
		return
	}
	r.send(lead, statementFrame(raw))
	r.outbox.owe(owed{due: now.Add(unhurriedAfter), except: lead, raw: raw})
	r.outbox.owe(owed{due: now.Add(gossipAfter), gossip: true, raw: raw})
}

func (o *outbox) owe(w owed) {
	at := len(o.owed)
	for at > 0 && w.due.Before(o.owed[at-1].due) {
		at--
	}
	o.owed = slices.Insert(o.owed, at, w)
}

func statementFrame(raw []byte) *wire.AgentFrame {
	return &wire.AgentFrame{Kind: &wire.AgentFrame_Statement{Statement: raw}}
}

func (r *runner) connected(gateway string) bool {
	for _, s := range r.agent.sessions {
		if s.address == gateway {
			return s.up.Load()
		}
	}
	return false
}

// tellAll tells the gateways of a status: gathered with what comes right after,
// but an instance that leaves is told of at once.
func (r *runner) tellAll(status *wire.InstanceStatus, now time.Time) {
	o := &r.outbox
	if o.status = status; o.statusAt.IsZero() {
		o.statusAt = now.Add(statusAfter)
	}
	if status.GetState() == StateLeaving || status.GetState() == StateLeft {
		o.statusAt = now
		r.flush(now)
	}
}

// flush sends what is due.
func (r *runner) flush(now time.Time) {
	o := &r.outbox
	if !o.statusAt.IsZero() && !now.Before(o.statusAt) {
		r.send("", &wire.AgentFrame{Kind: &wire.AgentFrame_Status{Status: o.status}})
		o.status, o.statusAt = nil, time.Time{}
	}
	for len(o.owed) > 0 && !now.Before(o.owed[0].due) {
		first := o.owed[0]
		o.owed = o.owed[1:]
		if first.gossip {
			r.agent.broadcast(first.raw)
			continue
		}
		for _, s := range r.agent.sessions {
			if s.address != first.except {
				s.send(statementFrame(first.raw))
			}
		}
	}
}
