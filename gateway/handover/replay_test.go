package handover_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// story is everything that gateways, agents, proxies and the log say of one
// handover that goes forward, or back.
func story(t testing.TB, refused bool) (events []handover.Event, term signalbox.Term) {
	b := opened(t)
	block := b.log[5]
	events = []handover.Event{handover.Decided{Block: block}}
	for g, p := range map[string]string{"east-1": "p1", "east-2": "p2", "west-1": "p3", "west-2": "p4"} {
		h := handover.Held{Gateway: g, Block: block.Digest, Complete: true, Proxies: []handover.ProxyHold{{ID: p, Acknowledged: true}}}
		events = append(events, h, handover.PeerChanged{Gateway: g, Up: true})
	}
	kind, serving := signalbox.SaysAck, []string{"w1", "w2"}
	term = 2
	if refused {
		kind, serving, term = signalbox.SaysRefuse, []string{"e1", "e2"}, 3
	}
	var evidence []signalbox.Evidence
	for _, n := range []string{"e1", "e2"} {
		evidence = append(evidence, actor(n).answer(kind, block))
		events = append(events, handover.AgentChanged{Identity: actor(n).Identity, Up: true},
			handover.Said{Evidence: actor(n).answer(signalbox.SaysDrained, block)}, handover.Said{Evidence: evidence[len(evidence)-1]})
	}
	events = append(events, handover.Certified{Certificate: certificate(t, block, term, evidence...)}, handover.Logged{Block: block.Digest, Certified: term})
	for _, n := range serving {
		events = append(events, handover.Serves{Identity: actor(n).Identity, Term: term})
	}
	return events, term
}

// twice are the numbers below n, each standing two times.
func twice(n int) (out []int) {
	for i := range n {
		out = append(out, i, i)
	}
	return out
}

// audience collects what a machine does.
type audience struct {
	released []signalbox.Term
	ordered  []string
}

func (a *audience) feed(t *rapid.T, m *handover.Machine, e handover.Event, now time.Time) {
	for _, effect := range m.Step(e, now) {
		switch e := effect.(type) {
		case handover.Release:
			a.released = append(a.released, e.Certificate.Term)
		case handover.Order:
			if m.Certificate() != nil {
				a.ordered = append(a.ordered, e.Kind.String())
			}
		case handover.Certify:
			c, err := rpc.BuildCertificate(trust, e.Block, orders, e.Term, e.Evidence)
			if err != nil {
				t.Fatalf("certify: %v", err)
			}
			a.feed(t, m, handover.Certified{Certificate: c}, now)
		}
	}
}

// TestAnyOrder guards that every step is idempotent and none needs another
// before it: in whatever order the words of a handover come, how often, to a
// gateway of whatever side, and whether it forgot the first of them in a
// restart, it releases once and is done; and nobody is ordered about after the
// certificate.
func TestAnyOrder(t *testing.T) {
	for _, refused := range []bool{false, true} {
		events, term := story(t, refused)
		t.Run(fmt.Sprintf("term %d", term), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				gateway := rapid.SampledFrom([]string{"east-1", "west-2"}).Draw(t, "gateway")
				options := handover.Options{Service: orders, Gateway: gateway, DataCenter: dcOf(gateway), Peers: peersOf(gateway)}
				m, now, seen := handover.NewMachine(options), epoch, &audience{}
				var order []handover.Event
				for _, i := range rapid.Permutation(twice(len(events))).Draw(t, "order") {
					order = append(order, events[i])
				}
				for _, e := range order[:rapid.IntRange(0, len(order)).Draw(t, "before the restart")] {
					now = now.Add(time.Millisecond)
					seen.feed(t, m, e, now)
				}
				m, seen = handover.NewMachine(options), &audience{}
				for _, e := range order {
					now = now.Add(time.Millisecond)
					seen.feed(t, m, e, now)
				}
				for range 40 {
					now = now.Add(10 * time.Millisecond)
					seen.feed(t, m, handover.Tick{}, now)
				}
				if newest, open := m.Open(); open {
					t.Fatalf("block %d is not done: %+v", newest.Index, m.Status(now))
				}
				if fmt.Sprint(seen.released) != fmt.Sprintf("[%d]", term) || len(seen.ordered) > 0 {
					t.Fatalf("released %v, want %d once; ordered after the certificate %v", seen.released, term, seen.ordered)
				}
				if n := len(m.Statements()); n > 0 {
					t.Fatalf("%d statements are kept", n)
				}
			})
		})
	}
}

// TestBounds guards the named maxima of what a machine keeps of what others say.
func TestBounds(t *testing.T) {
	m := handover.NewMachine(handover.Options{Service: orders, Gateway: "east-1", DataCenter: east, Peers: peersOf("east-1")})
	b := opened(t)
	block := b.log[5]
	m.Step(handover.Decided{Block: block}, epoch)
	flood := func(id signalbox.Identity, n int) {
		for i := range n {
			s := signalbox.Statement{Kind: signalbox.SaysLeave, Service: orders, Identity: id, Admission: uint64(i + 1)}
			m.Step(handover.Said{Evidence: signalbox.Evidence{Statement: s}}, epoch)
		}
	}
	flood(actor("e3").Identity, 3*handover.MaxStatements)
	if n := len(m.Statements()); n != handover.MaxStatements {
		t.Errorf("%d statements of one identity", n)
	}
	for i := range handover.MaxIdentities + 100 {
		flood(signalbox.Identity(fmt.Sprint(i)), 1)
	}
	if n := len(m.Statements()); n > handover.MaxIdentities+handover.MaxStatements {
		t.Errorf("%d statements", n)
	}
	m.Step(handover.Said{Evidence: actor("e1").answer(signalbox.SaysAck, block)}, epoch)
	if got := m.Status(epoch)[0].Acks[0].Evidence; got != "ack" {
		t.Errorf("the ack of a roster identity was not kept among so many: %q", got)
	}
	for i := range 3 * handover.MaxEarly { // words of blocks that never come
		m.Step(handover.GiveUp{Block: signalbox.Digest{1, byte(i)}, Problem: "x"}, epoch)
	}
	m.Step(handover.GiveUp{Block: block.Digest, Problem: "late"}, epoch)
	other := handover.Said{Evidence: signalbox.Evidence{Statement: signalbox.Statement{Kind: signalbox.SaysAck, Service: "users", Identity: actor("e2").Identity}}}
	before := len(m.Statements())
	m.Step(other, epoch)
	if len(m.Statements()) != before {
		t.Error("another service's statement was kept")
	}
}

// TestKeepsWhatSupersedingNeeds guards that the outcome of a block that was
// superseded does not take the answers to the open ones with it: whoever has
// answered is not asked again by those who heard it. Found by tests/sim.
func TestKeepsWhatSupersedingNeeds(t *testing.T) {
	b := opened(t)
	first := b.log[5]
	back := b.handover(t, "h1-back", east, "e1")
	again := b.handover(t, "h1-again", west, "w1")
	m := handover.NewMachine(handover.Options{Service: orders, Gateway: "east-1", DataCenter: east, Peers: peersOf("east-1")})
	for _, block := range []*signalbox.DecidedBlock{first, back, again} {
		m.Step(handover.Decided{Block: block}, epoch)
	}
	leave := actor("e2").leaves(again.Handover(orders).Roster[1].Admission, 2)
	var acks []signalbox.Evidence
	for _, n := range []string{"e1", "e2"} {
		acks = append(acks, actor(n).answer(signalbox.SaysAck, first))
		m.Step(handover.Said{Evidence: acks[len(acks)-1]}, epoch)
	}
	needed := []signalbox.Evidence{actor("e1").answer(signalbox.SaysAck, again), actor("e2").answer(signalbox.SaysAck, again), leave}
	for _, e := range needed {
		m.Step(handover.Said{Evidence: e}, epoch)
	}
	m.Step(handover.Certified{Certificate: certificate(t, first, 2, acks...)}, epoch)
	m.Step(handover.Logged{Block: first.Digest, Certified: 2}, epoch)
	now := epoch
	for i := 0; i < 100 && len(m.Status(now)) > 2; i++ {
		now = now.Add(time.Second)
		m.Step(handover.Tick{}, now)
	}
	if n := len(m.Status(now)); n != 2 {
		t.Fatalf("%d runs; the first one should be over", n)
	}
	have := m.Statements()
	for _, e := range needed {
		if !slices.ContainsFunc(have, func(s signalbox.Evidence) bool { return bytes.Equal(s.Envelope, e.Envelope) }) {
			t.Errorf("the %s of %s, which the newest block waits for, is forgotten", e.Kind, nameOf(e.Identity))
		}
	}
	if len(have) != len(needed) {
		t.Errorf("%d statements are kept, %d are needed", len(have), len(needed))
	}
}
