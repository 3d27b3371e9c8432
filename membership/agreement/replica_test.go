package agreement

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
)

// TestMessagesPerDecision guards that agreement is linear: 5(n-1) messages for a
// slot, exactly, and none for a single voter.
func TestMessagesPerDecision(t *testing.T) {
	for _, size := range []struct{ n, u int }{{1, 0}, {3, 1}, {4, 1}, {6, 2}, {7, 2}, {31, 10}} {
		w := newNetwork(t, size.n, size.u)
		const slots = 4
		w.want = slots
		w.settle(w.nodes[0])
		w.heal(time.Minute)
		total := 0
		for _, k := range []Kind{Proposal, VoteOne, Certified, VoteTwo, Decided} {
			if w.sent[k] != slots*(size.n-1) {
				t.Errorf("n=%d: %d messages of kind %s, want %d", size.n, w.sent[k], k, slots*(size.n-1))
			}
			total += w.sent[k]
		}
		all := 0
		for _, k := range w.sent {
			all += k
		}
		if all != total || total != slots*5*(size.n-1) {
			t.Errorf("n=%d: %d messages of %d", size.n, total, all)
		}
	}
}

// TestTranscripts guards the protocol's steps in the order in which they happen:
// the good case, a leader that dies at each phase, and what a locked voter has
// proposed again.
func TestTranscripts(t *testing.T) {
	for name, c := range map[string]struct {
		lost func(m *Message, from, to int) bool
		want string
	}{
		"good": {func(*Message, int, int) bool { return false }, `
0 -> 1: proposal slot 1 view 1 "p0 slot 1 number 1"
0 -> 2: proposal slot 1 view 1 "p0 slot 1 number 1"
1 -> 0: vote 1 slot 1 view 1
2 -> 0: vote 1 slot 1 view 1
0 -> 1: certified slot 1 view 1
0 -> 2: certified slot 1 view 1
1 -> 0: vote 2 slot 1 view 1
2 -> 0: vote 2 slot 1 view 1: refused
0 -> 1: decided slot 1 view 1
0 -> 2: decided slot 1 view 1
`},
		"the leader is dead": {func(_ *Message, from, _ int) bool { return from == 0 }, `
1: its clock, view 1
2: its clock, view 1
1 -> 2: timeout slot 1 view 1
2 -> 1: timeout slot 1 view 1
1 -> 2: proposal slot 1 view 2 "p1 slot 1 number 2" after the end of view 1
2 -> 1: vote 1 slot 1 view 2
1 -> 2: certified slot 1 view 2
2 -> 1: vote 2 slot 1 view 2
1 -> 2: decided slot 1 view 2
`},
		"the leader dies after one voter has locked": {func(m *Message, from, to int) bool {
			return from == 0 && (m.Kind == Certified && to == 1 || m.Kind == Proposal && to == 1 || m.Kind == Decided)
		}, `
0 -> 2: proposal slot 1 view 1 "p0 slot 1 number 1"
2 -> 0: vote 1 slot 1 view 1
0 -> 2: certified slot 1 view 1
1: its clock, view 1
2: its clock, view 1
1 -> 2: timeout slot 1 view 1
2 -> 1: timeout slot 1 view 1 certificate of view 1
1 -> 2: want slot 1 view 2
2 -> 1: value slot 1 view 2 "p0 slot 1 number 1"
1 -> 2: proposal slot 1 view 2 "p0 slot 1 number 1" certificate of view 1 after the end of view 1
2 -> 1: vote 1 slot 1 view 2
1 -> 2: certified slot 1 view 2
2 -> 1: vote 2 slot 1 view 2
1 -> 2: decided slot 1 view 2
`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 3, 1)
			var got []string
			w.tell = func(s string) { got = append(got, s) }
			w.want = 1
			dead := name != "good"
			for _, n := range w.nodes {
				w.settle(n)
			}
			for range 200 {
				for len(w.bag) > 0 {
					p := w.take(0)
					m, err := Decode(p.raw)
					if err != nil {
						t.Fatal(err)
					}
					if c.lost(m, p.from, p.to) || dead && p.to == 0 && (m.Kind != VoteOne || name == "the leader is dead") {
						continue
					}
					w.deliver(p)
				}
				if len(w.nodes[1].log) == 1 && len(w.nodes[2].log) == 1 {
					break
				}
				w.now = w.now.Add(start.Add(time.Second).Sub(w.now))
				w.tick(w.nodes[1])
				w.tick(w.nodes[2])
			}
			if s := "\n" + strings.Join(got, "\n") + "\n"; s != c.want {
				t.Errorf("got %s\nwant %s", s, c.want)
			}
		})
	}
}

// TestDeadLeader guards that a dead leader costs one timeout and the messages
// after it, and that the next slot does without it.
func TestDeadLeader(t *testing.T) {
	for _, size := range []struct{ n, u int }{{3, 1}, {4, 1}, {7, 2}} {
		w := newNetwork(t, size.n, size.u)
		w.nodes[0].r = nil
		w.want = 1
		w.heal(time.Minute)
		if took := w.now.Sub(start); took > time.Second+7*time.Millisecond {
			t.Errorf("n=%d: decided after %v", size.n, took)
		}
		was := w.now
		w.want = 3
		w.heal(time.Minute)
		if took := w.now.Sub(was); took > 20*time.Millisecond {
			t.Errorf("n=%d: two more slots took %v: the dead leader is asked again", size.n, took)
		}
	}
}

// TestTimeouts guards that a view's time doubles to a limit, and is the first
// one's again in the next slot.
func TestTimeouts(t *testing.T) {
	c := config(4, 1, 0, 0)
	c.MaxTimeout = 5 * time.Second
	r := newReplica(t, c, nil)
	r.SetPending(true, start)
	for view, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		if got := r.cfg.timeout(uint64(view + 1)); got != want {
			t.Errorf("view %d: %v, want %v", view+1, got, want)
		}
	}
	r.st.View = 4
	r.Advance(2, 0, start)
	if r.View() != 1 || !r.Deadline().Equal(start.Add(time.Second)) {
		t.Errorf("the next slot begins in view %d and has until %v", r.View(), r.Deadline())
	}
}

// TestOtherTimes guards that votes count in their slot and epoch only: what was
// certified in another slot or epoch justifies nothing.
func TestOtherTimes(t *testing.T) {
	for _, without := range []Rule{0, SlotSigned, EpochSigned} {
		old := config(4, 1, 1, without)
		value := []byte("p0 from another time")
		slot := uint64(1)
		if without == EpochSigned || without == 0 {
			old.Epoch = 7
		}
		if without == SlotSigned {
			slot = 9
		}
		q := &Quorum{View: 1, Digest: digestOf(value), Signature: combinedOf(old.voteOneInput(slot, 1, digestOf(value)))}
		now := config(4, 1, 0, without)
		change := &Change{View: 1}
		for voter := 1; voter < 4; voter++ {
			change.Ended = append(change.Ended, Ended{Voter: voter, High: 1, Share: shareOf(voter, old.timeoutInput(slot, 1, 1))})
		}
		r := newReplica(t, now, nil)
		_, err := r.Step(1, &Message{Kind: Proposal, Epoch: 1, Slot: 1, View: 2, Value: value, Quorum: q, Change: change}, start)
		if (err == nil) != (without != 0) {
			t.Errorf("without %b: %v", without, err)
		}
	}
	r := newReplica(t, config(4, 1, 1, 0), nil)
	for _, m := range []*Message{{Kind: Proposal, Epoch: 2, Slot: 1, View: 1}, {Kind: Proposal, Epoch: 1, Slot: 2, View: 1}} {
		if e, err := r.Step(0, m, start); !errors.Is(err, signalbox.ErrConflict) || !e.Empty() {
			t.Errorf("slot %d of epoch %d: %v", m.Slot, m.Epoch, err)
		}
	}
}

// TestValidated guards that a voter votes for nothing that it finds wrong itself,
// unless a quorum has looked at it.
func TestValidated(t *testing.T) {
	bad := &Message{Kind: Proposal, Epoch: 1, Slot: 1, View: 1, Value: []byte("bad")}
	if e, err := newReplica(t, config(4, 1, 1, 0), nil).Step(0, bad, start); !errors.Is(err, signalbox.ErrRefused) || !e.Empty() {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := newReplica(t, config(4, 1, 1, Validated), nil).Step(0, bad, start); err != nil || e.Empty() {
		t.Errorf("without the rule: %v", err)
	}
}

// TestLostState guards invariant 8: a voter that may have voted in a slot without
// remembering takes no part in it, nor one whose log is older than its votes.
func TestLostState(t *testing.T) {
	proposal := func(slot uint64) *Message {
		return &Message{Kind: Proposal, Epoch: 1, Slot: slot, View: 1, Value: []byte("p0")}
	}
	c := config(4, 1, 1, 0)
	c.NotBefore = 3
	lost := newReplica(t, c, nil)
	behind, err := New(config(4, 1, 1, 0), 1, 0, &State{Epoch: 1, Slot: 3, View: 2, VotedOne: 2, Value: []byte("mine")}, start)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Replica{"lost": lost, "behind": behind} {
		r.SetPending(true, start)
		for slot := uint64(1); slot < 3; slot++ {
			e, err := r.Step(0, proposal(slot), start)
			tick, _ := r.Tick(start.Add(time.Hour))
			if err == nil || !e.Empty() || !tick.Empty() || r.NeedsValue() {
				t.Errorf("%s: takes part in slot %d: %+v, %v", name, slot, e, err)
			}
			r.Advance(slot+1, 0, start)
		}
	}
	if e, err := lost.Step(0, proposal(3), start); err != nil || len(e.Send) != 1 {
		t.Errorf("lost: %+v, %v", e, err)
	}
	if e, err := behind.Step(0, proposal(3), start); err == nil || !e.Empty() || behind.View() != 2 {
		t.Errorf("behind: it votes again: %+v", e)
	}
}

// TestConfig guards that n = 2u + r + 1 with r at most u.
func TestConfig(t *testing.T) {
	for n := range 12 {
		for u := range 6 {
			c := config(max(n, 1), 0, 0, 0)
			c.Voters, c.Unavailable = n, u
			_, err := New(c, 1, 0, nil, start)
			r := n - 1 - 2*u
			if want := n > 0 && r >= 0 && r <= u; (err == nil) != want {
				t.Errorf("n=%d u=%d: %v", n, u, err)
			}
		}
	}
}

// TestRestart guards that a voter goes on where its disk says: the same vote
// again, none for anything else, and a leader leads on.
func TestRestart(t *testing.T) {
	w := newNetwork(t, 4, 1)
	w.want = 1
	for _, n := range w.nodes {
		w.settle(n)
	}
	voter := w.nodes[1]
	for i, p := range w.bag {
		if p.to == 1 {
			w.deliver(w.take(i))
			break
		}
	}
	for _, n := range []*node{voter, w.nodes[0]} {
		n.r = nil
		w.restart(n)
	}
	value := w.nodes[0].r.st.Value
	e, err := voter.r.Step(0, &Message{Kind: Proposal, Epoch: 1, Slot: 1, View: 1, Value: value}, w.now)
	if err != nil || e.Persist != nil || len(e.Send) != 1 || e.Send[0].Message.Kind != VoteOne {
		t.Errorf("the same proposal: %+v, %v", e, err)
	}
	e, err = voter.r.Step(0, &Message{Kind: Proposal, Epoch: 1, Slot: 1, View: 1, Value: []byte("p0 another")}, w.now)
	if !errors.Is(err, signalbox.ErrUntrusted) || !e.Empty() {
		t.Errorf("another proposal: %+v, %v", e, err)
	}
	w.bag = nil // all that was under way is lost; the leader repeats it
	w.heal(time.Minute)
	if got := w.nodes[3].log[0]; string(got.Value) != string(value) || got.View != 1 {
		t.Errorf("decided %q in view %d", got.Value, got.View)
	}
}

// TestSingleVoter guards that n = 1 decides at once, on the disk first.
func TestSingleVoter(t *testing.T) {
	r := newReplica(t, config(1, 0, 0, 0), nil)
	if !r.NeedsValue() {
		t.Fatal("it does not lead")
	}
	e, err := r.Propose([]byte("p0"), start)
	if err != nil || e.Persist == nil || len(e.Send) != 0 || e.Decide == nil || e.Persist.VotedTwo != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	if fmt.Sprint(r.VotedFor()) != fmt.Sprint([]byte("p0")) {
		t.Error("it has not voted for what it decided")
	}
}

// TestJoinsTheEnd guards that a voter that waits for nothing itself helps those
// who do: it ends a view with r + 1 others, and not with r, who may be lying.
func TestJoinsTheEnd(t *testing.T) {
	r := newReplica(t, config(4, 1, 0, 0), nil)
	for i, from := range []int{2, 3} {
		m := &Message{Kind: Timeout, Epoch: 1, Slot: 1, View: 3, Share: shareOf(from, r.cfg.timeoutInput(1, 3, 0))}
		e, err := r.Step(from, m, start)
		if err != nil {
			t.Fatal(err)
		}
		if joined := e.Persist != nil && e.Persist.Ended == 3; joined != (i == 1) {
			t.Errorf("after %d timeouts: %+v", i+1, e.Persist)
		}
	}
	if r.View() != 4 {
		t.Errorf("three of four ended view 3, and this one is in view %d", r.View())
	}
}
