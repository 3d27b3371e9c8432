package handover

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

// MaxHandovers is of how many handovers the ids are known; the oldest go first.
const MaxHandovers = 4096

// A DecidedHandover is what is known of a handover for as long as its id is.
type DecidedHandover struct {
	ID       string
	Index    uint64
	Service  signalbox.Service
	From, To signalbox.DataCenter
	// Term is the one that it is for, At the time of its block.
	Term signalbox.Term
	At   time.Time
	// Certified is the term that came of it, another than Term when it was given
	// up; SupersededBy is the handover that took it over instead. Ended is when the
	// log had either, zero while it is open.
	Certified    signalbox.Term
	SupersededBy string
	Ended        time.Time
}

// A Taken is a responsibility that a person took: by an attest, or by breaking
// glass. It is kept for ever.
type Taken struct {
	// Index is the block's that says so.
	Index uint64
	// What says what for, By who and Reason why.
	What, By, Reason string
	At               time.Time
}

// register is what the log said that no rule of the interlock asks for, and that
// has to outlive the blocks.
type register struct {
	handovers map[string]DecidedHandover
	ids       []string // oldest first
	// leases is what any voter may have promised or granted.
	leases lease.Saved
}

func newRegister() register {
	return register{handovers: map[string]DecidedHandover{}, leases: lease.Saved{Promises: map[lease.Of]lease.Promise{}}}
}

// Decided returns the handover of an id; false when the log has none, or had it
// more than MaxHandovers ago.
func (l *Ledger) Decided(id string) (DecidedHandover, bool) {
	h, ok := l.register.handovers[id]
	return h, ok
}

// Over returns the handovers that are over, of those that are known, oldest
// first.
func (l *Ledger) Over() []DecidedHandover {
	var out []DecidedHandover
	for _, id := range l.register.ids {
		if h := l.register.handovers[id]; !h.Ended.IsZero() {
			out = append(out, h)
		}
	}
	return out
}

// LeaseChanges returns what any voter may have promised or granted by the log.
func (l *Ledger) LeaseChanges() []lease.Change {
	var out []lease.Change
	if l.register.leases.Longest > 0 {
		out = append(out, lease.Change{Longest: l.register.leases.Longest})
	}
	for of, promise := range l.register.leases.Promises {
		out = append(out, lease.Change{Of: of, Promise: promise})
	}
	return out
}

func (g *register) remember(h DecidedHandover) {
	if _, known := g.handovers[h.ID]; !known {
		g.ids = append(g.ids, h.ID)
	}
	g.handovers[h.ID] = h
	for len(g.ids) > MaxHandovers {
		delete(g.handovers, g.ids[0])
		g.ids = g.ids[1:]
	}
}

// ended notes what came of a handover, where its id is still known.
func (g *register) ended(id string, c *signalbox.Certificate, at time.Time) {
	h, known := g.handovers[id]
	if !known || !h.Ended.IsZero() {
		return
	}
	h.Ended = at
	if c.Handover().ID == id {
		h.Certified = c.Term
	} else {
		h.SupersededBy = c.Handover().ID
	}
	g.handovers[id] = h
}

func (l *Ledger) applyRegister(b *signalbox.DecidedBlock, r *signalbox.Request) {
	switch {
	case r.Handover != nil:
		h := r.Handover
		decided := DecidedHandover{ID: h.ID, Index: b.Index, Service: h.Service, From: h.From, To: h.To, Term: h.Term, At: b.At}
		if h.From == "" { // an adoption is certified by its block alone
			decided.Certified, decided.Ended = h.Term, b.At
		}
		l.register.remember(decided)
		l.register.promise(b.Index, h)
		if glass := h.BreakGlass; glass != nil {
			var rules []string
			for _, rule := range glass.Overrides {
				rules = append(rules, string(rule))
			}
			l.took(b, h.Service, Taken{What: fmt.Sprintf("broke glass (%s) for %s, term %d", strings.Join(rules, ", "), h.ID, h.Term), By: h.By, Reason: glass.Reason, At: b.At})
		}
	case r.Outcome != nil:
		c := l.outcomes[r.Outcome.Service]
		for _, e := range c.Evidence {
			entry, _ := c.Handover().Entry(e.Identity)
			l.attested(b, e.Statement, e.Witness, entry.Name+" for "+c.Handover().ID)
		}
	case r.Started != nil:
		m := r.Started
		l.took(b, m.Service, Taken{What: fmt.Sprintf("started %s without a quorum of voters, term %d", l.enrolled[signalbox.Identity(m.ID)].Name, m.Term), By: m.By(), Reason: m.Reason, At: m.At})
	case r.Remove != nil && r.Remove.Announces():
		if r.Remove.Allowed.Has(signalbox.Lapse) {
			l.register.leases.Apply(lease.Change{
				Of:      lease.Of{Service: r.Remove.Service, Identity: r.Remove.Identity},
				Promise: lease.Promise{Below: r.Remove.Below, UpTo: b.Index},
			})
		}
	case r.Remove != nil:
		if s, w, err := rpc.InspectTestimony(r.Remove.Evidence); err == nil {
			l.attested(b, s, w, l.enrolled[r.Remove.Identity].Name+" to remove it")
		}
	}
}

// promise notes what voters may have promised, and granted, for a handover block.
func (g *register) promise(index uint64, h *signalbox.Handover) {
	g.leases.Apply(lease.Change{Longest: max(h.Leases.LapseWait(), h.FallbackLeases.LapseWait())})
	for _, e := range h.Roster {
		if e.Leased && h.Allowed.Has(signalbox.Lapse) {
			g.leases.Apply(lease.Change{Of: lease.Of{Service: h.Service, Identity: e.Identity}, Promise: lease.Promise{Below: h.Term, UpTo: index}})
		}
	}
}

func (l *Ledger) attested(b *signalbox.DecidedBlock, s signalbox.Statement, w *signalbox.Witness, whom string) {
	if s.Kind == signalbox.SaysAttest && w != nil && len(w.By) == 1 {
		l.took(b, s.Service, Taken{What: fmt.Sprintf("attested %s, term %d", whom, s.Term), By: w.By[0], Reason: w.Reason, At: w.At})
	}
}

func (l *Ledger) took(b *signalbox.DecidedBlock, s signalbox.Service, t Taken) {
	t.Index = b.Index
	st := l.state(s)
	st.Taken = append(st.Taken, t)
}
