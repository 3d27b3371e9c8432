package handover

import (
	"sort"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Every gateway may do everything, and one that does it is enough. Where each
// did it at once, their copies would compete for the processors that the parked
// requests wait for. So the first in rank acts, and the next stands in when it
// is not done by then. None of it is safety: every step is idempotent.
const (
	// PrepareWait bounds how long the hold waits for every gateway that can be
	// reached to have the block: whoever gets it late would park its proxies'
	// requests later than the others, and all would wait for that.
	PrepareWait = 250 * time.Millisecond
	// StandIn is the step by which the next gateway does what the ones before
	// it should have done.
	StandIn = 20 * time.Millisecond
	// OldSideWait is how much later than the new side the old one gets the
	// certificate: nobody waits for it there.
	OldSideWait = 50 * time.Millisecond
	// RelayWait is how long after it came a certificate is passed on to the
	// peers when its outcome is not in the log by then.
	RelayWait = 500 * time.Millisecond
)

// owed is what has yet to be handed out of the newest certificate; a zero time
// owes nothing.
type owed struct{ peers, agents time.Time }

// owe says who is to get a certificate from this gateway, and when.
func (m *Machine) owe(c *signalbox.Certificate, built bool, now time.Time) {
	agents := time.Duration(m.before()) * StandIn
	if c.DataCenter() != m.opt.DataCenter {
		agents += OldSideWait
	}
	m.owed = owed{peers: now, agents: now.Add(agents)}
	if !built {
		m.owed.peers = now.Add(RelayWait)
	}
}

// handOut hands out what is due of the newest certificate.
func (m *Machine) handOut(now time.Time) []Effect {
	var to Audience
	if at := m.owed.peers; !at.IsZero() && !now.Before(at) {
		to, m.owed.peers = to|ToPeers, time.Time{}
	}
	if at := m.owed.agents; !at.IsZero() && !now.Before(at) {
		to, m.owed.agents = to|ToAgents, time.Time{}
	}
	if to == 0 {
		return nil
	}
	return []Effect{Spread{Certificate: m.cert, To: to}}
}

// Owes reports whether the machine has to be told soon that time has passed.
func (m *Machine) Owes() bool {
	_, open := m.Open()
	return open || m.owed != owed{}
}

// First reports whether no other gateway of the data center comes before this
// one.
func (m *Machine) First() bool { return m.before() == 0 }

// before counts the gateways of the own data center that can be reached and
// come before this one.
func (m *Machine) before() int {
	n := 0
	for name, dc := range m.opt.Peers {
		if dc == m.opt.DataCenter && m.peers[name].up && name < m.opt.Gateway {
			n++
		}
	}
	return n
}

// firsts lists, of the data centers whose instances have to answer, the gateway
// that gives the orders there, without this one.
func (m *Machine) firsts(r *run) []string {
	first := map[signalbox.DataCenter]string{m.opt.DataCenter: m.opt.Gateway}
	for name, dc := range m.opt.Peers {
		if have, ok := first[dc]; m.peers[name].up && (!ok || name < have) {
			first[dc] = name
		}
	}
	want := map[signalbox.DataCenter]bool{r.h.From: true}
	for _, e := range r.h.Roster {
		want[e.DataCenter] = true
	}
	var out []string
	for dc := range want {
		if name := first[dc]; name != "" && name != m.opt.Gateway {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

// RelayNow reports whether the peers wait for a statement that an agent of this
// data center made: of a promotion, and of an answer when others than this data
// center's gateways have to know it for the next order. All others are passed on
// when there is time.
func (m *Machine) RelayNow(e signalbox.Evidence) bool {
	if m.before() > 0 {
		return false
	}
	switch e.Kind {
	case signalbox.SaysServing:
		return true
	case signalbox.SaysDrained, signalbox.SaysAck, signalbox.SaysRefuse:
		r := m.runs[e.Block]
		return r != nil && len(m.firsts(r)) > 0
	}
	return false
}

// hold begins the hold when every gateway that can be reached has the block, or
// one has begun.
func (m *Machine) hold(r *run, now time.Time) []Effect {
	waited := now.Sub(r.began)
	if r.routed || !m.allPrepared(r) && len(r.held) == 0 && waited < PrepareWait {
		return nil
	}
	r.routed, r.phase, r.began = true, PhaseHold, now
	return []Effect{
		Record{Block: r.block.Digest, Phase: PhaseHold, Detail: "route to " + signalbox.RouteName(r.h.Service, r.h.Term), At: now},
		Route{Block: r.block.Digest, Term: r.h.Term},
	}
}

func (m *Machine) allPrepared(r *run) bool {
	if r.prepared[m.opt.Gateway] { // resumed: the others are ahead
		return true
	}
	for name := range m.opt.Peers {
		if m.peers[name].up && !r.prepared[name] {
			return false
		}
	}
	return true
}

func (m *Machine) prepared(e Prepared) {
	if _, peer := m.opt.Peers[e.Gateway]; !peer {
		return
	}
	if r := m.runs[e.Block]; r != nil {
		r.prepared[e.Gateway] = true
	} else if early := m.early.of(e.Block); early != nil {
		early.prepared[e.Gateway] = true
	}
}
