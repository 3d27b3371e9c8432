package handover

import (
	"fmt"
	"sort"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Phase is how far a handover is, in the words of the design.
type Phase string

// The phases.
const (
	PhasePrepare Phase = "prepare"
	PhaseHold    Phase = "hold"
	PhaseDrain   Phase = "drain"
	PhaseAck     Phase = "ack"
	PhaseSeal    Phase = "seal"
	PhasePromote Phase = "promote"
	PhaseRelease Phase = "release"
	PhaseSettle  Phase = "settle"
	PhaseDone    Phase = "done"
	PhaseGiveUp  Phase = "give-up"
)

// Timing of the machine. None of it is safety: every wait only decides when to
// ask again, to give up or to go on.
const (
	// HoldWait is how long a connected proxy may take to acknowledge the hold.
	HoldWait = time.Second
	// Resend is how often an order is repeated while its answer is due.
	Resend = 500 * time.Millisecond
	// PromoteGather is how long the release waits for more promoted instances
	// after the first.
	PromoteGather = 20 * time.Millisecond
	// GoneWait is how long an agent has to be unreachable before its silence,
	// with everybody else's ack, starts a superseding handover back.
	GoneWait = 3 * time.Second
	// TakeOver is the step by which the next gateway proposes what the ones
	// before it should have.
	TakeOver = 700 * time.Millisecond
)

// Options say which gateway the machine is of.
type Options struct {
	Service    signalbox.Service
	Gateway    string
	DataCenter signalbox.DataCenter
	// Peers maps every other gateway to its data center.
	Peers map[string]signalbox.DataCenter
}

// A Machine is the handover of one service as one gateway sees it. Not safe
// for concurrent use; Step takes events in any order and any number of times.
type Machine struct {
	opt    Options
	peers  map[string]peer
	agents map[signalbox.Identity]agentState
	// statements keeps, per identity, what it said that may still count.
	statements map[signalbox.Identity][]signalbox.Evidence
	serves     map[signalbox.Identity]signalbox.Term
	runs       map[signalbox.Digest]*run
	newest     *run
	cert       *signalbox.Certificate
	released   signalbox.Term
}

type peer struct {
	up    bool
	since time.Time
}

type agentState struct {
	up    bool
	since time.Time
}

// MaxStatements is how many statements of one identity a machine keeps.
const MaxStatements = 32

// NewMachine returns a machine that knows nothing yet.
func NewMachine(opt Options) *Machine {
	return &Machine{
		opt: opt, peers: map[string]peer{}, agents: map[signalbox.Identity]agentState{},
		statements: map[signalbox.Identity][]signalbox.Evidence{}, runs: map[signalbox.Digest]*run{},
		serves: map[signalbox.Identity]signalbox.Term{},
	}
}

// Certificate returns the newest certificate that the machine knows, or nil.
func (m *Machine) Certificate() *signalbox.Certificate { return m.cert }

// Open reports whether a run is open, and of which block the newest is.
func (m *Machine) Open() (newest *signalbox.DecidedBlock, open bool) {
	for _, r := range m.runs {
		if r.phase == PhaseDone {
			continue
		}
		if newest == nil || newest.Index < r.block.Index {
			newest = r.block
		}
	}
	return newest, newest != nil
}

// Runs reports whether the block has a run that is not done.
func (m *Machine) Runs(d signalbox.Digest) bool {
	r := m.runs[d]
	return r != nil && r.phase != PhaseDone
}

// Statements returns the statements that may still count, for a peer that
// comes back.
func (m *Machine) Statements() []signalbox.Evidence {
	var out []signalbox.Evidence
	for _, list := range m.statements {
		out = append(out, list...)
	}
	return out
}

// OwnHolds returns this gateway's own holds of the open runs.
func (m *Machine) OwnHolds() []Held {
	var out []Held
	for _, r := range m.runs {
		if h, ok := r.held[m.opt.Gateway]; ok && r.phase != PhaseDone && (h.Complete || h.Final) {
			out = append(out, h)
		}
	}
	return out
}

// Step takes an event in and returns what is to be done, in this order.
func (m *Machine) Step(e Event, now time.Time) []Effect {
	var out []Effect
	switch e := e.(type) {
	case Decided:
		out = m.decided(e.Block, now)
	case Held:
		m.held(e, now)
	case PeerChanged:
		m.peers[e.Gateway] = peer{up: e.Up, since: now}
	case AgentChanged:
		m.agentChanged(e, now)
	case Said:
		m.said(e.Evidence, now)
	case Serves:
		m.serves[e.Identity] = max(m.serves[e.Identity], e.Term)
	case Certified:
		out = m.certified(e.Certificate, now)
	case GiveUp:
		if r := m.runs[e.Block]; r != nil && r.gaveUp == "" {
			r.gaveUp = e.Problem
		}
	case Released:
		m.released = max(m.released, e.Term)
	case Logged:
		m.logged(e)
	case Tick:
	}
	return append(out, m.advance(now)...)
}

// decided opens a run. A block below what is certified is over already.
func (m *Machine) decided(b *signalbox.DecidedBlock, now time.Time) []Effect {
	h := b.Handover(m.opt.Service)
	if h == nil || h.From == "" || m.runs[b.Digest] != nil {
		return nil
	}
	r := newRun(b, h, now)
	m.runs[b.Digest] = r
	if m.newest == nil || m.newest.block.Index < b.Index {
		m.newest = r
	}
	if m.cert != nil && m.cert.Term >= h.Term {
		return nil
	}
	r.phase = PhaseHold
	return []Effect{
		Record{Block: b.Digest, Phase: PhaseHold, Detail: fmt.Sprintf("route to %s", signalbox.RouteName(h.Service, h.Term)), At: now},
		Route{Block: b.Digest, Term: h.Term},
	}
}

func (m *Machine) held(e Held, now time.Time) {
	r := m.runs[e.Block]
	if r == nil {
		return
	}
	r.held[e.Gateway] = e
	if e.Gateway == m.opt.Gateway {
		r.tellHeld = true
	}
	_ = now
}

func (m *Machine) agentChanged(e AgentChanged, now time.Time) {
	if m.agents[e.Identity].up != e.Up || m.agents[e.Identity].since.IsZero() {
		m.agents[e.Identity] = agentState{up: e.Up, since: now}
	}
	if e.Up { // whoever came back has to be asked again at once
		for _, r := range m.runs {
			r.orderedAt = time.Time{}
		}
	}
}

// said keeps a statement: once per kind and block (or admission).
func (m *Machine) said(e signalbox.Evidence, _ time.Time) {
	if e.Service != m.opt.Service {
		return
	}
	if e.Kind == signalbox.SaysServing {
		m.serves[e.Identity] = max(m.serves[e.Identity], e.Term)
		return
	}
	list := m.statements[e.Identity]
	for _, old := range list {
		if old.Statement == e.Statement {
			return
		}
	}
	if len(list) >= MaxStatements {
		list = list[1:]
	}
	m.statements[e.Identity] = append(list, e)
}

func (m *Machine) certified(c *signalbox.Certificate, now time.Time) []Effect {
	if c.Service != m.opt.Service || m.cert != nil && c.Term <= m.cert.Term {
		return nil
	}
	m.cert = c
	out := []Effect{Spread{Certificate: c}}
	if r := m.runs[c.Block.Digest]; r != nil {
		r.certifiedAt, r.phase = now, PhasePromote
		out = append([]Effect{Record{Block: c.Block.Digest, Phase: PhaseSeal, Detail: describe(c), At: now}}, out...)
	}
	return out
}

func describe(c *signalbox.Certificate) string {
	if c.IsFallback() {
		return fmt.Sprintf("fallback: term %d, %s serves on", c.Term, c.DataCenter())
	}
	return fmt.Sprintf("term %d, %s, evidence of %d", c.Term, c.DataCenter(), len(c.Evidence))
}

// logged closes the runs that the outcome closes.
func (m *Machine) logged(e Logged) {
	r := m.runs[e.Block]
	if r == nil {
		return
	}
	r.logged = true
	if r.h.Superseding() && e.Certified == r.h.Term {
		for _, other := range m.runs {
			if other.block.Index < r.block.Index {
				other.logged = true
			}
		}
	}
}

// advance does whatever is due now, for every open run.
func (m *Machine) advance(now time.Time) []Effect {
	var out []Effect
	var open []*run
	for _, r := range m.runs {
		open = append(open, r)
	}
	sort.Slice(open, func(i, j int) bool { return open[i].block.Index < open[j].block.Index })
	for _, r := range open {
		out = append(out, m.advanceRun(r, now)...)
		if r.logged && r.phase == PhaseDone {
			delete(m.runs, r.block.Digest)
		}
	}
	if m.newest != nil && m.newest.phase == PhaseDone && m.newest.logged {
		m.newest = nil
	}
	return out
}

// rank says how many gateways that can be reached should act before this one:
// those of the preferred data center first, by name.
func (m *Machine) rank(preferred signalbox.DataCenter) int {
	before := 0
	key := func(name string, dc signalbox.DataCenter) string {
		if dc == preferred {
			return "0" + name
		}
		return "1" + name
	}
	own := key(m.opt.Gateway, m.opt.DataCenter)
	for name, dc := range m.opt.Peers {
		if m.peers[name].up && key(name, dc) < own {
			before++
		}
	}
	return before
}
