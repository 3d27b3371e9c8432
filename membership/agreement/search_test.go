package agreement

import (
	"fmt"
	"testing"
	"time"
)

// The search drives real replicas: three honest voters of four; the fourth lies
// and leads every view. Whoever leads sends what it likes to whom it likes, made
// of all shares that were ever released; the network is the same. Each voter is
// made anew from its durable state before each step, as after a crash.
//
// What a voter does depends on its own state and the message only, so each step
// of the code is run once and looked up afterwards.
const (
	honest   = 3
	values   = 2
	maxViews = 4
)

// local is an honest voter: its state, and what it has released.
type local struct {
	view, ended, one, two, lock uint8
	value, locked               uint8
	// Released: votes by view and value, timeouts by view and named certificate.
	ones, twos uint8
	timeouts   [maxViews + 1]uint8
}

func bit(view, value int) uint8 { return 1 << ((view-1)*values + value) }

// action is a message to one voter, or its own clock.
type action struct {
	// kind is Proposal or Certified; Timeout is the own clock, Want two others'
	// timeouts, Value a view change without a proposal.
	kind        Kind
	view, value int
	change      int // -1 none, else the highest view that it names
	justify     int // 0 none, else the view of the certificate
	trick       trick
}

func (a action) String() string {
	what := fmt.Sprintf("%s view %d", a.kind, a.view)
	switch a.kind {
	case Timeout:
		return "its clock ends the view"
	case Want:
		return fmt.Sprintf("two others ended view %d", a.view)
	case Value:
		return fmt.Sprintf("a proof that view %d was ended", a.view)
	case Proposal:
		what += fmt.Sprintf(" value %d, change names %d, by certificate %d", a.value, a.change, a.justify)
	case Certified:
		what += fmt.Sprintf(" value %d", a.value)
	}
	if a.trick != honestly {
		what += fmt.Sprintf(", trick %d", a.trick)
	}
	return what
}

// trick is how a message is forged.
type trick uint8

const (
	honestly trick = iota
	fewChange
	forgedChange
	forgedJustify
	forgedCertified
)

type step struct {
	action action
	to     int
}

type search struct {
	t       testing.TB
	views   int
	without Rule
	noDisk  bool // a step's state may be lost although its message left
	cfg     Config
	blocks  [values][]byte
	locals  []local
	ids     map[local]int
	steps   [][]step
	swapped []int
	states  int
	taken   int
	depth   int      // steps to the states that are visited now
	next    []uint64 // found, one step further
}

func newSearch(t testing.TB, views int, without Rule) *search {
	s := &search{t: t, views: views, without: without, ids: map[local]int{}, blocks: [values][]byte{[]byte("a"), []byte("b")}}
	s.cfg = config(4, 1, 0, without)
	s.cfg.lead = func(uint64) int { return 3 }
	return s
}

func (s *search) id(l local) int {
	if id, ok := s.ids[l]; ok {
		return id
	}
	id := len(s.locals)
	s.ids[l] = id
	s.locals = append(s.locals, l)
	s.steps = append(s.steps, nil)
	s.swapped = append(s.swapped, -1)
	if other := swap(l); other == l {
		s.swapped[id] = id
	} else {
		o := s.id(other)
		s.swapped[id], s.swapped[o] = o, id
	}
	return id
}

// swap exchanges the two values.
func swap(l local) local {
	flip := func(b uint8) uint8 { return b&0x55<<1 | b&0xaa>>1 }
	l.ones, l.twos = flip(l.ones), flip(l.twos)
	if l.one > 0 {
		l.value ^= 1
	}
	if l.lock > 0 {
		l.locked ^= 1
	}
	return l
}

func (s *search) certificate(view, value int) *Quorum {
	d := digestOf(s.blocks[value])
	return &Quorum{View: uint64(view), Digest: d, Signature: combinedOf(s.cfg.voteOneInput(1, uint64(view), d))}
}

func (s *search) state(l local) *State {
	st := &State{Epoch: 1, Slot: 1, View: uint64(l.view), Ended: uint64(l.ended), VotedOne: uint64(l.one), VotedTwo: uint64(l.two)}
	if l.one > 0 {
		st.Value = s.blocks[l.value]
	}
	if l.lock > 0 {
		st.Lock, st.Locked = s.certificate(int(l.lock), int(l.locked)), s.blocks[l.locked]
	}
	return st
}

// change makes the proof that a view was ended whose highest certificate is of
// view high, as far as the replica can see.
func (s *search) change(view, high int, tr trick) *Change {
	c := &Change{View: uint64(view)}
	for voter := 1; voter <= 3; voter++ {
		h := uint64(0)
		if voter == 3 {
			h = uint64(high)
		}
		share := shareOf(voter, s.cfg.timeoutInput(1, uint64(view), h))
		if tr == forgedChange {
			share = nil
		}
		if tr == fewChange && voter == 1 {
			continue
		}
		c.Ended = append(c.Ended, Ended{Voter: voter, High: h, Share: share})
	}
	if tr == fewChange {
		c.Ended = append(c.Ended, c.Ended[1])
	}
	return c
}

// actions lists everything that anybody may send to a voter.
func (s *search) actions() (out []action) {
	for v := 1; v <= s.views; v++ {
		for x := range values {
			out = append(out, action{kind: Proposal, view: v, value: x, change: -1},
				action{kind: Certified, view: v, value: x}, action{kind: Certified, view: v, value: x, trick: forgedCertified})
			for high := 0; v > 1 && high < v; high++ {
				for justify := range v {
					for _, tr := range []trick{honestly, fewChange, forgedChange, forgedJustify} {
						out = append(out, action{kind: Proposal, view: v, value: x, change: high, justify: justify, trick: tr})
					}
				}
			}
		}
		out = append(out, action{kind: Want, view: v}, action{kind: Value, view: v})
	}
	return append(out, action{kind: Timeout})
}

// run has a real replica take the action.
func (s *search) run(l local, a action) Effects {
	r, err := New(s.cfg, 1, 0, s.state(l), start)
	if err != nil {
		s.t.Fatal(err)
	}
	var out Effects
	add := func(e Effects, _ error) {
		if e.Persist != nil {
			out.Persist = e.Persist
		}
		out.Send = append(out.Send, e.Send...)
	}
	timeout := func(from, view int) *Message {
		return &Message{Kind: Timeout, Epoch: 1, Slot: 1, View: uint64(view), Share: shareOf(from, s.cfg.timeoutInput(1, uint64(view), 0))}
	}
	m := &Message{Kind: a.kind, Epoch: 1, Slot: 1, View: uint64(a.view)}
	switch a.kind {
	case Timeout:
		r.SetPending(true, start)
		add(r.Tick(start.Add(time.Hour)))
	case Want: // two others have ended the view
		add(r.Step(1, timeout(1, a.view), start))
		add(r.Step(3, timeout(3, a.view), start))
	case Value: // a proof that the view was ended, without a proposal
		m = timeout(3, a.view+1)
		m.Change = s.change(a.view, 0, honestly)
		add(r.Step(3, m, start))
	case Proposal:
		m.Value = s.blocks[a.value]
		if a.change >= 0 {
			m.Change = s.change(a.view-1, a.change, a.trick)
		}
		if a.justify > 0 {
			m.Quorum = s.certificate(a.justify, a.value)
			if a.trick == forgedJustify {
				m.Quorum.Signature = nil
			}
		}
		add(r.Step(3, m, start))
	case Certified:
		m.Quorum = s.certificate(a.view, a.value)
		if a.trick == forgedCertified {
			m.Quorum.Signature = nil
		}
		add(r.Step(3, m, start))
	}
	return out
}

// after is the voter after effects.
func (s *search) after(l local, e Effects) local {
	which := func(value []byte) uint8 {
		if string(value) == string(s.blocks[1]) {
			return 1
		}
		return 0
	}
	next := l
	if p := e.Persist; p != nil {
		next.view, next.ended, next.one, next.two, next.lock = uint8(p.View), uint8(p.Ended), uint8(p.VotedOne), uint8(p.VotedTwo), uint8(p.Lock.view())
		next.value, next.locked = which(p.Value), which(p.Locked)
	}
	for _, o := range e.Send {
		switch m := o.Message; m.Kind {
		case VoteOne:
			next.ones |= bit(int(m.View), int(next.value))
		case VoteTwo:
			next.twos |= bit(int(m.View), int(next.locked))
		case Timeout:
			next.timeouts[m.View] |= 1 << m.Quorum.view()
		}
	}
	return next
}

// stepsOf lists what can happen to a voter in a state.
func (s *search) stepsOf(id int) []step {
	if s.steps[id] != nil {
		return s.steps[id]
	}
	out := []step{}
	l := s.locals[id]
	for _, a := range s.actions() {
		e := s.run(l, a)
		if e.Persist != nil && e.Persist.View > uint64(s.views) {
			continue
		}
		next := s.after(l, e)
		if next != l {
			out = append(out, step{a, s.id(next)})
		}
		if s.noDisk {
			lost := local{view: 1, ones: next.ones, twos: next.twos, timeouts: next.timeouts}
			if lost != l && lost != next {
				out = append(out, step{a, s.id(lost)})
			}
		}
	}
	s.steps[id] = out
	return out
}

type world [honest]int

// canonical orders the voters, and takes the smaller of the two namings of the
// values.
func (s *search) canonical(w world) world {
	sorted := func(w world) world {
		for i := 1; i < honest; i++ {
			for j := i; j > 0 && w[j] < w[j-1]; j-- {
				w[j], w[j-1] = w[j-1], w[j]
			}
		}
		return w
	}
	a := sorted(w)
	var b world
	for i, id := range w {
		b[i] = s.swapped[id]
	}
	b = sorted(b)
	for i := range a {
		if a[i] != b[i] {
			if b[i] < a[i] {
				return b
			}
			break
		}
	}
	return a
}

// certifiable: enough voters have voted 1, with the liar.
func (s *search) certifiable(w world, view, value int) bool {
	n := 1
	for _, id := range w {
		if s.locals[id].ones&bit(view, value) != 0 {
			n++
		}
	}
	return n >= s.cfg.quorum()
}

// changeable: enough voters have ended the view and name no certificate above
// view high; the liar among them names that one.
func (s *search) changeable(w world, view, high, need int) bool {
	n := 1
	for _, id := range w {
		if s.locals[id].timeouts[view]&(1<<(high+1)-1) != 0 {
			n++
		}
	}
	return n >= need
}

func (s *search) possible(w world, who int, a action) bool {
	q := s.cfg.quorum()
	switch a.kind {
	case Timeout:
		return true
	case Want:
		others := 1
		for i, id := range w {
			if i != who && s.locals[id].timeouts[a.view] != 0 {
				others++
			}
		}
		return others >= 2
	case Value:
		for high := range a.view + 1 {
			if s.changeable(w, a.view, high, q) {
				return true
			}
		}
		return false
	case Certified:
		return a.trick == forgedCertified || s.certifiable(w, a.view, a.value)
	}
	if a.justify > 0 && a.trick != forgedJustify && !s.certifiable(w, a.justify, a.value) {
		return false
	}
	switch {
	case a.change < 0 || a.trick == forgedChange:
		return true
	case a.trick == fewChange:
		return s.changeable(w, a.view-1, a.change, q-1)
	}
	return s.changeable(w, a.view-1, a.change, q)
}

// decided lists the values that have a decision certificate.
func (s *search) decided(w world) (n int) {
	for x := range values {
		found, anyView := false, 1
		for _, id := range w {
			union := uint8(0)
			for v := 1; v <= s.views; v++ {
				union |= s.locals[id].twos & bit(v, x)
			}
			if union != 0 {
				anyView++
			}
		}
		for v := 1; v <= s.views; v++ {
			count := 1
			for _, id := range w {
				if s.locals[id].twos&bit(v, x) != 0 {
					count++
				}
			}
			found = found || count >= s.cfg.quorum()
		}
		if found || s.without&ViewInDecision != 0 && anyView >= s.cfg.quorum() {
			n++
		}
	}
	return n
}
