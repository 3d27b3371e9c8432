package agreement

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// packet is an encoded message on its way from a voter to a node.
type packet struct {
	from, to int
	raw      []byte
}

// node runs a voter: its replica, its disk and its log. Twins are two nodes of
// one voter.
type node struct {
	voter int
	cfg   Config
	r     *Replica // nil while it is down
	disk  []byte
	log   []*Decision
	liar  *liar
}

// network is a set of nodes and everything under way between them, moved by the
// test: any packet at any time, or never, or twice.
type network struct {
	t      testing.TB
	nodes  []*node
	bag    []packet
	now    time.Time
	want   int // slots that are to be decided
	sent   map[Kind]int
	bytes  int
	tell   func(string)
	crash  func(*node, point) bool
	number int
}

// point is where a node may crash while it carries out effects.
type point int

const (
	beforePersist point = iota
	afterPersist
	betweenSends
	beforeDecide
	afterDecide
)

func newNetwork(t testing.TB, n, u int) *network {
	w := &network{t: t, now: start, sent: map[Kind]int{}, tell: func(string) {}, crash: func(*node, point) bool { return false }}
	for i := range n {
		w.add(config(n, u, i, 0))
	}
	return w
}

func (w *network) add(cfg Config) *node {
	n := &node{voter: cfg.Self, cfg: cfg}
	w.nodes = append(w.nodes, n)
	w.restart(n)
	return n
}

func (n *node) hint() int {
	if len(n.log) == 0 {
		return 0
	}
	var hint int
	_, _ = fmt.Sscanf(string(n.log[len(n.log)-1].Value), "p%d", &hint)
	return hint
}

func (w *network) restart(n *node) {
	var state *State
	if n.disk != nil {
		var err error
		if state, err = DecodeState(n.disk); err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	if n.r, err = New(n.cfg, uint64(len(n.log)+1), n.hint(), state, w.now); err != nil {
		w.t.Fatal(err)
	}
	w.settle(n)
}

// settle tells the replica what waits, and gives it a value when it asks.
func (w *network) settle(n *node) {
	if n.r == nil || n.liar != nil {
		return
	}
	n.r.SetPending(len(n.log) < w.want, w.now)
	if n.r.NeedsValue() && (len(n.log) < w.want || n.r.View() > 1) {
		w.number++
		e, err := n.r.Propose(fmt.Appendf(nil, "p%d slot %d number %d", n.voter, n.r.Slot(), w.number), w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		w.do(n, e)
	}
}

// do carries out effects in their order; the node may crash at each point.
func (w *network) do(n *node, e Effects) {
	down := func(p point) bool {
		if w.crash(n, p) {
			n.r = nil
		}
		return n.r == nil
	}
	if e.Persist != nil {
		if down(beforePersist) {
			return
		}
		raw, err := e.Persist.Encode()
		if err != nil {
			w.t.Fatal(err)
		}
		n.disk = raw
		if down(afterPersist) {
			return
		}
	}
	for _, o := range e.Send {
		w.post(n.voter, o)
		if down(betweenSends) {
			return
		}
	}
	if d := e.Decide; d != nil {
		if down(beforeDecide) {
			return
		}
		w.decided(n, d)
		if down(afterDecide) {
			return
		}
	}
}

func (w *network) post(from int, o Outgoing) {
	raw, err := o.Message.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	for i, to := range w.nodes {
		if to.voter != from && (o.To == Everyone || o.To == to.voter) {
			w.bag = append(w.bag, packet{from, i, raw})
			w.sent[o.Message.Kind]++
			w.bytes += len(raw)
		}
	}
}

// decided takes a decision into a node's log and looks whether anybody has
// another one.
func (w *network) decided(n *node, d *Decision) {
	if err := n.cfg.Scheme.VerifyQuorum("fake", n.cfg.voteTwoInput(d.View, d.Value), d.Signature); err != nil {
		w.t.Fatalf("voter %d decided without a quorum: %v", n.voter, err)
	}
	if d.Slot != uint64(len(n.log)+1) {
		w.t.Fatalf("voter %d decided slot %d after %d", n.voter, d.Slot, len(n.log))
	}
	if n.cfg.Validate(d.Slot, 0, d.Value) != nil {
		w.t.Fatalf("voter %d decided %q", n.voter, d.Value)
	}
	for _, other := range w.nodes {
		if len(other.log) >= int(d.Slot) && other.log[d.Slot-1].Digest != d.Digest {
			w.t.Fatalf("slot %d: voter %d decided %q, voter %d %q", d.Slot, n.voter, d.Value, other.voter, other.log[d.Slot-1].Value)
		}
	}
	n.log = append(n.log, d)
	n.r.Advance(d.Slot+1, n.hint(), w.now)
	w.settle(n)
}

// take removes packet i from the bag.
func (w *network) take(i int) packet {
	p := w.bag[i]
	w.bag = slices.Delete(w.bag, i, i+1)
	return p
}

func (w *network) deliver(p packet) {
	n := w.nodes[p.to]
	m, err := Decode(p.raw)
	if err != nil {
		w.t.Fatal(err)
	}
	if n.liar != nil {
		n.liar.hear(p.from, m)
		return
	}
	if n.r == nil {
		return
	}
	e, err := n.r.Step(p.from, m, w.now)
	w.tell(fmt.Sprintf("%d -> %d: %s", p.from, n.voter, describe(m, err)))
	w.do(n, e)
	w.settle(n)
}

func describe(m *Message, err error) string {
	s := fmt.Sprintf("%s slot %d view %d", m.Kind, m.Slot, m.View)
	if m.Kind == Proposal || m.Kind == Value {
		s += fmt.Sprintf(" %q", m.Value)
	}
	if m.Kind != Certified && m.Kind != Decided && m.Quorum != nil {
		s += fmt.Sprintf(" certificate of view %d", m.Quorum.View)
	}
	if m.Change != nil {
		s += fmt.Sprintf(" after the end of view %d", m.Change.View)
	}
	if err != nil {
		s += ": refused"
	}
	return s
}

func (w *network) tick(n *node) {
	if n.r == nil || n.liar != nil {
		return
	}
	e, err := n.r.Tick(w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	if !e.Empty() {
		w.tell(fmt.Sprintf("%d: its clock, view %d", n.voter, n.r.View()))
	}
	w.do(n, e)
	w.settle(n)
}

// follow gives a node the next decision of another one's log, as the gateways'
// log stream does.
func (w *network) follow(n, from *node) {
	if n.r == nil || len(from.log) <= len(n.log) {
		return
	}
	d := from.log[len(n.log)]
	n.log = append(n.log, d)
	n.r.Advance(d.Slot+1, n.hint(), w.now)
	w.settle(n)
}

// heal ends all faults: everything arrives in order, within a millisecond, until
// each node that is up has the wanted log. It fails when that takes too long.
func (w *network) heal(within time.Duration) {
	end := w.now.Add(within)
	for {
		for len(w.bag) > 0 {
			w.deliver(w.take(0))
		}
		done := true
		for _, n := range w.nodes {
			if n.r == nil || n.liar != nil {
				continue
			}
			w.settle(n)
			for _, other := range w.nodes {
				w.follow(n, other)
			}
			done = done && len(n.log) >= w.want
		}
		if done && len(w.bag) == 0 {
			return
		}
		w.now = w.now.Add(time.Millisecond)
		if len(w.bag) == 0 {
			w.now = w.next()
		}
		if w.now.After(end) {
			w.t.Fatalf("not decided %v after the faults stopped: %s", within, w.state())
		}
		for _, n := range w.nodes {
			w.tick(n)
		}
	}
}

// next is when the first clock has something to do.
func (w *network) next() time.Time {
	var next time.Time
	for _, n := range w.nodes {
		if n.r == nil || n.liar != nil {
			continue
		}
		if d := n.r.Deadline(); !d.IsZero() && (next.IsZero() || d.Before(next)) {
			next = d
		}
	}
	if next.Before(w.now) {
		return w.now
	}
	return next
}

func (w *network) state() (s string) {
	for _, n := range w.nodes {
		if n.r == nil {
			s += fmt.Sprintf("\nvoter %d is down with %d slots", n.voter, len(n.log))
			continue
		}
		s += fmt.Sprintf("\nvoter %d: %d slots, view %d, ended %d, votes in %d and %d", n.voter, len(n.log), n.r.st.View, n.r.st.Ended, n.r.st.VotedOne, n.r.st.VotedTwo)
	}
	return s
}
