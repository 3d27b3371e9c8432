package handover

import (
	"sort"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// Maxima of what a machine remembers.
const (
	// MaxStatements is how many statements of one identity are kept.
	MaxStatements = 32
	// MaxIdentities is of how many identities statements are kept; those of an
	// open roster always are.
	MaxIdentities = 4096
	// MaxEarly is for how many blocks that the log has not brought yet the
	// words of peers are kept.
	MaxEarly = 16
)

// early is what was heard of a block before the log brought it: a peer whose
// copy of the log is ahead tells each thing once.
type early struct {
	prepared map[string]bool // gateways
	held     map[string]Held
	gaveUp   string
	logged   signalbox.Term
}

// earlyWords keeps them, the oldest going first.
type earlyWords struct {
	byBlock map[signalbox.Digest]*early
	order   []signalbox.Digest
}

func (w *earlyWords) of(d signalbox.Digest) *early {
	if e := w.byBlock[d]; e != nil {
		return e
	}
	if w.byBlock == nil {
		w.byBlock = map[signalbox.Digest]*early{}
	}
	if len(w.order) >= MaxEarly {
		delete(w.byBlock, w.order[0])
		w.order = append([]signalbox.Digest(nil), w.order[1:]...)
	}
	e := &early{prepared: map[string]bool{}, held: map[string]Held{}}
	w.byBlock[d], w.order = e, append(w.order, d)
	return e
}

func (w *earlyWords) take(d signalbox.Digest) *early {
	e := w.byBlock[d]
	if e == nil {
		return nil
	}
	delete(w.byBlock, d)
	for i, o := range w.order {
		if o == d {
			w.order = append(w.order[:i:i], w.order[i+1:]...)
			break
		}
	}
	return e
}

// hearEarly gives a run what was said of its block before.
func (m *Machine) hearEarly(r *run) {
	e := m.early.take(r.block.Digest)
	if e == nil {
		return
	}
	for gateway := range e.prepared {
		r.prepared[gateway] = true
	}
	for _, h := range e.held {
		m.held(h)
	}
	if e.gaveUp != "" {
		r.giveUp(e.gaveUp)
	}
	if e.logged != 0 {
		m.logged(Logged{Block: r.block.Digest, Certified: e.logged})
	}
}

// said keeps a statement: one of each kind for each block (or admission).
func (m *Machine) said(e signalbox.Evidence) {
	switch {
	case e.Service != m.opt.Service:
		return
	case e.Kind == signalbox.SaysServing:
		m.serves[e.Identity] = max(m.serves[e.Identity], e.Term)
		return
	case e.Kind != signalbox.SaysLeave && e.Term <= m.settledTerm:
		return // of a block that is over
	}
	list, known := m.statements[e.Identity]
	if !known && len(m.statements) >= MaxIdentities && !m.awaited(e.Identity) {
		return
	}
	for _, old := range list {
		if old.Kind == e.Kind && old.Block == e.Block && old.Admission == e.Admission && old.Term == e.Term {
			return // another incarnation's repetition proves the same
		}
	}
	if len(list) >= MaxStatements {
		list = append([]signalbox.Evidence(nil), list[1:]...)
	}
	m.statements[e.Identity] = append(list, e)
}

// awaited reports whether a roster of an open run names the identity.
func (m *Machine) awaited(id signalbox.Identity) bool {
	for _, r := range m.runs {
		if _, ok := r.h.Entry(id); ok {
			return true
		}
	}
	return false
}

// Statements returns the statements that may still count, for a peer that
// comes back: by identity, in the order in which they came.
func (m *Machine) Statements() []signalbox.Evidence {
	var ids []signalbox.Identity
	for id := range m.statements {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	var out []signalbox.Evidence
	for _, id := range ids {
		out = append(out, m.statements[id]...)
	}
	return out
}

// prune forgets what only a run that ended needed: answers to its block and to
// those before it, everything said for an admission that evidence ended, and
// who is neither serving nor there. Leaves of other admissions stay: they count
// for later blocks (rule 4). So does what a block that supersedes the ended one
// waits for: its roster names the same admissions, and whoever has answered is
// not asked again.
func (m *Machine) prune(r *run) {
	m.settled = max(m.settled, r.block.Index)
	m.settledTerm = max(m.settledTerm, r.h.Term)
	for id := range m.statements {
		entry, listed := r.h.Entry(id)
		m.forget(id, func(s signalbox.Statement) bool {
			ended := listed && r.outcome == r.h.Term && s.Admission <= entry.Admission && !m.needed(r, s)
			return ended || s.Kind != signalbox.SaysLeave && s.Term <= m.settledTerm
		})
	}
	for id, t := range m.serves {
		if m.cert != nil && t < m.cert.Term {
			delete(m.serves, id)
		}
	}
	for id, a := range m.agents {
		if !a.up {
			delete(m.agents, id)
		}
	}
}

// needed reports whether another open run waits for a statement: it answers that
// run's block, or is evidence for it.
func (m *Machine) needed(ended *run, s signalbox.Statement) bool {
	for _, r := range m.runs {
		if r == ended || r.logged {
			continue
		}
		if s.Block == r.block.Digest {
			return true
		}
		if entry, ok := r.h.Entry(s.Identity); ok && rpc.Proves(r.h, r.block.Digest, entry, s) == nil {
			return true
		}
	}
	return false
}

// forget drops the statements of an identity that over names.
func (m *Machine) forget(id signalbox.Identity, over func(signalbox.Statement) bool) {
	var keep []signalbox.Evidence
	for _, s := range m.statements[id] {
		if !over(s.Statement) {
			keep = append(keep, s)
		}
	}
	if len(keep) == 0 {
		delete(m.statements, id)
		return
	}
	m.statements[id] = keep
}
