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
	// MuteWait is how long a gateway that can be reached may take to say how its
	// proxies are.
	MuteWait = 2 * HoldWait
	// Resend is how often an order is repeated while its answer is due.
	Resend = 500 * time.Millisecond
	// PromoteGather is how long the release waits for more promoted instances
	// after the first.
	PromoteGather = 5 * time.Millisecond
	// SettleWait is how long after the release the outcome is proposed: the
	// parked requests are answered meanwhile, and logging takes processor and
	// disk from them. Nothing is unsafe without it, since the certificate is out.
	SettleWait = 100 * time.Millisecond
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
	early      earlyWords
	// settled is the newest block whose run ended, with its term: that and every
	// block before it are over.
	settled     uint64
	settledTerm signalbox.Term
	cert        *signalbox.Certificate
	owed        owed
}

type peer struct {
	up    bool
	since time.Time
}

type agentState struct {
	up    bool
	since time.Time
}

// NewMachine returns a machine that knows nothing yet.
func NewMachine(opt Options) *Machine {
	return &Machine{
		opt: opt, peers: map[string]peer{}, agents: map[signalbox.Identity]agentState{},
		statements: map[signalbox.Identity][]signalbox.Evidence{}, runs: map[signalbox.Digest]*run{},
		serves: map[signalbox.Identity]signalbox.Term{},
	}
}

// byIndex lists the runs, oldest block first.
func (m *Machine) byIndex() []*run {
	if len(m.runs) == 0 {
		return nil
	}
	out := make([]*run, 0, len(m.runs))
	for _, r := range m.runs {
		out = append(out, r)
	}
	if len(out) > 1 {
		sort.Slice(out, func(i, j int) bool { return out[i].block.Index < out[j].block.Index })
	}
	return out
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

// OwnHolds returns this gateway's own holds of the open runs.
func (m *Machine) OwnHolds() []Held {
	var out []Held
	for _, r := range m.byIndex() {
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
		out = m.decided(e, now)
	case Prepared:
		m.prepared(e)
	case Held:
		m.held(e)
	case PeerChanged:
		m.peers[e.Gateway] = peer{up: e.Up, since: now}
	case AgentChanged:
		m.agentChanged(e, now)
	case Said:
		m.said(e.Evidence)
	case Serves:
		m.serves[e.Identity] = max(m.serves[e.Identity], e.Term)
	case Certified:
		out = m.certified(e, now)
	case GiveUp:
		m.giveUp(e)
	case Logged:
		m.logged(e)
	case Removed:
		m.forget(e.Identity, func(s signalbox.Statement) bool { return s.Admission < e.Index })
	case Tick:
	}
	return append(out, m.advance(now)...)
}

// decided opens a run. A block below what is certified holds nothing any more,
// and one that was settled before says nothing new.
func (m *Machine) decided(e Decided, now time.Time) []Effect {
	b := e.Block
	h := b.Handover(m.opt.Service)
	if h == nil || h.From == "" || b.Index <= m.settled || m.runs[b.Digest] != nil {
		return nil
	}
	r := newRun(b, h, now)
	m.runs[b.Digest] = r
	r.prepared[m.opt.Gateway] = e.Resumed
	m.hearEarly(r)
	if m.cert != nil && m.cert.Term >= h.Term || e.Resumed {
		return nil
	}
	return []Effect{TellPrepared{Block: b.Digest}}
}

func (m *Machine) held(e Held) {
	if _, peer := m.opt.Peers[e.Gateway]; !peer && e.Gateway != m.opt.Gateway {
		return
	}
	r := m.runs[e.Block]
	if r == nil {
		if early := m.early.of(e.Block); early != nil {
			early.held[e.Gateway] = e
		}
		return
	}
	r.held[e.Gateway] = e
	if e.Gateway == m.opt.Gateway {
		r.tellHeld = true
	}
}

func (m *Machine) giveUp(e GiveUp) {
	if r := m.runs[e.Block]; r != nil {
		r.giveUp(e.Problem)
	} else if early := m.early.of(e.Block); early != nil {
		early.gaveUp = e.Problem
	}
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

func (m *Machine) certified(e Certified, now time.Time) []Effect {
	c := e.Certificate
	if c.Service != m.opt.Service || m.cert != nil && c.Term <= m.cert.Term {
		return nil
	}
	m.cert = c
	m.owe(c, e.Built, now)
	r := m.runs[c.Block.Digest]
	if r == nil {
		return nil
	}
	r.certifiedAt, r.phase = now, PhasePromote
	return []Effect{Record{Block: c.Block.Digest, Phase: PhaseSeal, Detail: describe(c), At: now}}
}

func describe(c *signalbox.Certificate) string {
	if c.IsFallback() {
		return fmt.Sprintf("fallback: term %d, %s serves on", c.Term, c.DataCenter())
	}
	return fmt.Sprintf("term %d, %s, evidence of %d", c.Term, c.DataCenter(), len(c.Evidence))
}

// logged closes the block's run and all before it: the voters decide a block
// only when none is open, or to supersede what is.
func (m *Machine) logged(e Logged) {
	if m.cert != nil && m.cert.Block.Digest == e.Block {
		m.owed.peers = time.Time{} // the log carries it
	}
	r := m.runs[e.Block]
	if r == nil {
		if early := m.early.of(e.Block); early != nil {
			early.logged = e.Certified
		}
		return
	}
	for _, other := range m.runs {
		if other.block.Index <= r.block.Index {
			other.logged = true
		}
	}
	r.outcome = e.Certified
}

// advance does whatever is due now, for every open run.
func (m *Machine) advance(now time.Time) []Effect {
	out := m.handOut(now)
	runs := m.byIndex()
	for _, r := range runs {
		out = append(out, m.advanceRun(r, now)...)
	}
	for _, r := range runs {
		if r.logged && r.phase == PhaseDone {
			delete(m.runs, r.block.Digest)
			m.prune(r)
		}
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
