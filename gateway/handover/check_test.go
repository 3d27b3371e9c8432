package handover_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// refusal is one thing that a voter must not vote for.
type refusal struct {
	name    string
	prepare func(t testing.TB) *book
	request func(b *book) signalbox.Request
	err     error
	says    string
}

// opened is a log in which the handover of term 2 to west is open.
func opened(t testing.TB) *book {
	b := adopted(t)
	b.handover(t, "h1", west, "w1", "w2")
	return b
}

// change is a valid handover to west (back to east, while one is open) with one
// thing about it changed.
func change(f func(h *signalbox.Handover)) func(b *book) signalbox.Request {
	return func(b *book) signalbox.Request {
		to, incoming := west, []string{"w1"}
		if len(b.Service(orders).Open) > 0 {
			to, incoming = east, []string{"e1"}
		}
		h := b.plan("h", to, incoming...)
		f(h)
		return signalbox.Request{Handover: h}
	}
}

func fixed(r signalbox.Request) func(*book) signalbox.Request {
	return func(*book) signalbox.Request { return r }
}

func handoverRefusals() []refusal {
	type H = signalbox.Handover
	return []refusal{
		{"nothing to adopt from", func(testing.TB) *book { return newBook() }, fixed(signalbox.Request{Handover: &H{Service: orders, From: east, To: west, Term: 1}}), signalbox.ErrRefused, "no master yet"},
		{"a term that was used (1)", adopted, change(func(h *H) { h.Term = 1 }), signalbox.ErrConflict, "next term"},
		{"a term too far (1)", adopted, change(func(h *H) { h.Term++ }), signalbox.ErrConflict, "next term"},
		{"the fallback's term again (1)", opened, change(func(h *H) { h.Term-- }), signalbox.ErrConflict, "next term"},
		{"to the master itself", adopted, change(func(h *H) { h.From = h.To }), signalbox.ErrInvalid, "is master already"},
		{"from who is not master (1)", adopted, change(func(h *H) { h.From = "north" }), signalbox.ErrConflict, "is master of"},
		{"others' evidence and a fallback (5)", adopted, change(func(h *H) { h.Allowed |= signalbox.EvidenceKinds(signalbox.Fence) }), signalbox.ErrInvalid, "has none"},
		{"acks alone", adopted, change(func(h *H) { h.Allowed = signalbox.EvidenceKinds(signalbox.Ack) }), signalbox.ErrInvalid, "acks and leaves"},
		{"evidence of an unknown kind", adopted, change(func(h *H) { h.Allowed |= 0x80 }), signalbox.ErrInvalid, "acks and leaves"},
		{"leases that nobody can keep", adopted, change(func(h *H) { h.Leases.TTL = 1 }), signalbox.ErrInvalid, "leases of"},
		{"a fallback with other leases than the term it restores", adopted, change(func(h *H) { h.FallbackLeases.TTL = 3e9 }), signalbox.ErrConflict, "restores leases"},
		{"a roster that lets lapse who could serve without a lease (3)", adopted, change(func(h *H) { h.Roster[0].Leased = true }), signalbox.ErrConflict, "differs from the log"},
		{"a previous master of no singleton", adopted, change(func(h *H) { h.Previous = actor("e1").Identity }), signalbox.ErrInvalid, "only a singleton's"},
		{"a singleton with two incoming", adopted, change(func(h *H) { h.Singleton, h.Incoming = true, ids("w1", "w2") }), signalbox.ErrInvalid, "singleton"},
		{"a singleton where two may serve", adopted, change(func(h *H) { h.Singleton = true }), signalbox.ErrRefused, "more than one instance"},
		{"no budget", adopted, change(func(h *H) { h.HoldBudget = 0 }), signalbox.ErrInvalid, "hold budget"},
		{"too large a budget", adopted, change(func(h *H) { h.HoldBudget = signalbox.MaxHoldBudget + 1 }), signalbox.ErrInvalid, "hold budget"},
		{"no fallback though none is open (1)", adopted, change(func(h *H) { h.Fallback = 0 }), signalbox.ErrInvalid, "fallback"},
		{"a fallback elsewhere", adopted, change(func(h *H) { h.Fallback = h.Term + 2 }), signalbox.ErrInvalid, "fallback"},
		{"a fallback while one is open (1)", opened, change(func(h *H) { h.Fallback = h.Term + 1 }), signalbox.ErrConflict, "h1 of orders (term 2) is open"},
		{"superseding onwards without others' evidence (1)", opened, change(func(h *H) { h.From, h.To = h.To, h.From }), signalbox.ErrRefused, "only the way back"},
		{"superseding from elsewhere (1)", opened, change(func(h *H) { h.From = "north" }), signalbox.ErrRefused, "only the way back"},
		{"nobody incoming", adopted, change(func(h *H) { h.Incoming = nil }), signalbox.ErrNotReady, "start its agents"},
		{"incoming of the old side", adopted, change(func(h *H) { h.Incoming = ids("e1") }), signalbox.ErrRefused, "no enrolled instance"},
		{"incoming not enrolled", adopted, change(func(h *H) { h.Incoming = ids("w9") }), signalbox.ErrRefused, "no enrolled instance"},
		{"incoming twice", adopted, change(func(h *H) { h.Incoming = ids("w1", "w1") }), signalbox.ErrInvalid, "stands twice"},
		{"a roster that misses one (3)", adopted, change(func(h *H) { h.Roster = h.Roster[1:] }), signalbox.ErrConflict, "roster of 2 identities, the block has 1"},
		{"an empty roster (3)", adopted, change(func(h *H) { h.Roster = nil }), signalbox.ErrConflict, "roster of 2"},
		{"a roster with another (3)", adopted, change(func(h *H) { h.Roster[1] = entry("w1", 1) }), signalbox.ErrConflict, "differs from the log"},
		{"a roster with another admission (3)", adopted, change(func(h *H) { h.Roster[0].Admission-- }), signalbox.ErrConflict, "differs from the log"},
		{"a roster with another name", adopted, change(func(h *H) { h.Roster[0].Name = "e7" }), signalbox.ErrConflict, "differs from the log"},
		{"a roster in another data center (3)", adopted, change(func(h *H) { h.Roster[0].DataCenter = west }), signalbox.ErrConflict, "differs from the log"},
		{"a roster with another key (8)", adopted, change(func(h *H) { h.Roster[0].PublicKey = make([]byte, 32) }), signalbox.ErrConflict, "differs from the log"},
		{"a superseding roster without the incoming (3)", opened, change(func(h *H) { h.Roster = h.Roster[:1] }), signalbox.ErrConflict, "roster of 2"},
	}
}

func entry(name string, admission uint64) signalbox.RosterEntry {
	w := actor(name)
	return signalbox.RosterEntry{Identity: w.Identity, PublicKey: w.PublicKey, Name: name, DataCenter: w.DataCenter, Admission: admission}
}

func otherRefusals() []refusal {
	enrolledOnly := func(t testing.TB) *book {
		b := newBook()
		b.must(t, admit("e1", 0))
		return b
	}
	adopt := func(f func(h *signalbox.Handover)) func(*book) signalbox.Request {
		h := &signalbox.Handover{ID: "a", Service: orders, Term: 1, To: east, Incoming: ids("e1"), Allowed: signalbox.AckOnly}
		f(h)
		return fixed(signalbox.Request{Handover: h})
	}
	leave := func(name string, admission uint64) func(*book) signalbox.Request {
		w := actor(name)
		return fixed(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: w.Identity, Evidence: w.leaves(admission, 0).Envelope}})
	}
	said := func(name string, s signalbox.Statement, signer string) func(*book) signalbox.Request {
		e := actor(signer).says(s)
		return fixed(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: actor(name).Identity, Evidence: e.Envelope}})
	}
	return []refusal{
		{"nothing", adopted, fixed(signalbox.Request{}), signalbox.ErrInvalid, "service name"},
		{"adoption of what has a master (1)", adopted, adopt(func(*signalbox.Handover) {}), signalbox.ErrConflict, "use switch"},
		{"adoption to a later term", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Term = 2 }), signalbox.ErrInvalid, "term 1"},
		{"adoption with a fallback", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Fallback = 2 }), signalbox.ErrInvalid, "term 1"},
		{"adoption with a roster", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Roster = []signalbox.RosterEntry{entry("e1", 1)} }), signalbox.ErrInvalid, "term 1"},
		{"adoption with other evidence", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Allowed = 0xff }), signalbox.ErrInvalid, "takes no evidence"},
		{"adoption by nobody", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Incoming = nil }), signalbox.ErrNotReady, "start its agents"},
		{"adoption of a singleton by nobody", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Singleton, h.Incoming = true, nil }), signalbox.ErrNotReady, "start its agents"},
		{"adoption of a singleton by two", enrolledOnly, adopt(func(h *signalbox.Handover) { h.Singleton, h.Incoming = true, ids("e1", "e2") }), signalbox.ErrInvalid, "at most one"},

		{"an enrollment that does not verify", adopted, func(*book) signalbox.Request { r := admit("e3", 0); r.Admit.Enrollment = []byte("x"); return r }, signalbox.ErrUntrusted, "admit e3"},
		{"another's enrollment", adopted, func(*book) signalbox.Request {
			r := admit("e3", 0)
			r.Admit.Enrollment = actor("e1").enrollment
			return r
		}, signalbox.ErrUntrusted, "enrollment is of"},
		{"enrolled already", adopted, fixed(admit("e1", 0)), signalbox.ErrConflict, "enrolled already"},
		{"admission to a past term (3)", func(t testing.TB) *book { b := opened(t); b.forward(t, b.log[5]); return b }, fixed(admit("e1", 1)), signalbox.ErrConflict, "certified is 2"},
		{"admission to a coming term (3)", adopted, fixed(admit("e1", 2)), signalbox.ErrConflict, "certified is 1"},
		{"admission while a block is open (3)", opened, fixed(admit("e3", 1)), signalbox.ErrConflict, "admissions wait"},
		{"admission in the other data center (1)", adopted, fixed(admit("w1", 1)), signalbox.ErrRefused, "master is east"},
		{"admission of an unknown service", func(testing.TB) *book { return newBook() }, fixed(admit("e1", 1)), signalbox.ErrConflict, "certified is 0"},

		{"removal of an unknown service", func(testing.TB) *book { return newBook() }, leave("e1", 5), signalbox.ErrUnknown, "orders"},
		{"removal of who is not outstanding", adopted, leave("w1", 5), signalbox.ErrConflict, "not outstanding"},
		{"removal while a block is open (3)", opened, leave("e1", 5), signalbox.ErrConflict, "removals wait"},
		{"removal by another admission's leave (4)", adopted, leave("e1", 4), signalbox.ErrRefused, "admission 4"},
		{"removal without evidence (3)", adopted, fixed(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: actor("e1").Identity, Admission: 5, Below: 2}}), signalbox.ErrInvalid, "cannot be announced"},
		{"removal by another's leave (6)", adopted, said("e1", signalbox.Statement{Kind: signalbox.SaysLeave, Admission: 5}, "e2"), signalbox.ErrUnknown, "remove e1"},
		{"removal by a word that is no evidence (6)", adopted, said("e1", signalbox.Statement{Kind: signalbox.SaysDrained, Admission: 5}, "e1"), signalbox.ErrRefused, "a drained"},

		{"outcome of an unknown service", func(testing.TB) *book { return newBook() }, fixed(outcome(&signalbox.DecidedBlock{}, 2)), signalbox.ErrUnknown, "orders"},
		{"outcome of no open block", adopted, fixed(outcome(&signalbox.DecidedBlock{}, 2)), signalbox.ErrConflict, "is not open"},
		{"outcome without evidence (1)", opened, func(b *book) signalbox.Request { return outcome(b.log[5], 2) }, signalbox.ErrUntrusted, "no evidence for e1"},
		{"outcome with half the evidence (3)", opened, func(b *book) signalbox.Request {
			return outcome(b.log[5], 2, actor("e1").answer(signalbox.SaysAck, b.log[5]))
		}, signalbox.ErrUntrusted, "no evidence for e2"},
		{"outcome with another block's ack (4)", opened, func(b *book) signalbox.Request {
			return outcome(b.log[5], 2, actor("e1").answer(signalbox.SaysAck, b.log[5]),
				actor("e2").says(signalbox.Statement{Kind: signalbox.SaysAck, Term: 2, Admission: 5, Block: b.log[4].Digest}))
		}, signalbox.ErrUntrusted, "ack of e2 is for block"},
		{"fallback without a refuse (5)", opened, func(b *book) signalbox.Request {
			return outcome(b.log[5], 3, actor("e1").answer(signalbox.SaysAck, b.log[5]))
		}, signalbox.ErrUntrusted, "no refuse"},
		{"fallback by an incoming's refuse (5)", opened, func(b *book) signalbox.Request {
			return outcome(b.log[5], 3, actor("w1").says(signalbox.Statement{Kind: signalbox.SaysRefuse, Term: 2, Admission: 6, Block: b.log[5].Digest}))
		}, signalbox.ErrUnknown, "signer"},
		{"fallback of a superseding block (5)", func(t testing.TB) *book { b := opened(t); b.handover(t, "h1-back", east, "e1"); return b }, func(b *book) signalbox.Request {
			return outcome(b.log[6], 5, actor("w1").answer(signalbox.SaysRefuse, b.log[6]))
		}, signalbox.ErrUntrusted, "term 4 (fallback 0)"},
	}
}

// TestVotersRefuse guards invariants 1, 3, 4, 5 and 6 clause by clause: what
// the voters' check says no to. The number behind a name is the rule's.
func TestVotersRefuse(t *testing.T) {
	for _, c := range append(handoverRefusals(), otherRefusals()...) {
		t.Run(c.name, func(t *testing.T) {
			b := c.prepare(t)
			r := c.request(b)
			err := b.Check(&r)
			if !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Fatalf("got %v, want %v with %q", err, c.err, c.says)
			}
		})
	}
}

// TestVotersAccept is the other side: each base case of the table above is
// accepted when nothing about it is changed.
func TestVotersAccept(t *testing.T) {
	nothing := change(func(*signalbox.Handover) {})
	for name, prepare := range map[string]func(testing.TB) *book{"planned": adopted, "superseding": opened} {
		b := prepare(t)
		r := nothing(b)
		if err := b.Check(&r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := adopted(t)
	b.must(t, admit("e3", 1))
	if got := b.outstanding(); got["e3"] != 6 || b.Service(orders).Admissions[actor("e3").Identity] == nil {
		t.Errorf("an admitted identity is not outstanding: %v", got)
	}
	w := actor("e3")
	b.must(t, signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: w.Identity, Evidence: w.leaves(6, 0).Envelope}})
	if got := b.outstanding(); len(got) != 2 || len(b.Service(orders).Admissions) != 0 {
		t.Errorf("outstanding after the removal: %v", got)
	}
}

// TestMaxOutstanding guards that every outcome fits a block: no data center can
// have more identities outstanding than that.
func TestMaxOutstanding(t *testing.T) {
	b := adopted(t)
	for i := range handover.MaxOutstanding - 2 {
		b.must(t, admit(fmt.Sprintf("e-many-%d", i), 1))
	}
	r := admit("e3", 1)
	if err := b.Check(&r); !errors.Is(err, signalbox.ErrRefused) || !strings.Contains(err.Error(), "at most 384") {
		t.Fatalf("one too many: %v", err)
	}
	b.handover(t, "h1", west, "w1")
	b.forward(t, b.log[len(b.log)-1])
}

// TestVoterWithoutEnrollments guards that a process that cannot check an
// enrollment does not vote for one.
func TestVoterWithoutEnrollments(t *testing.T) {
	l := handover.NewLedger(trust, nil)
	r := admit("e1", 0)
	if err := l.Check(&r); !errors.Is(err, signalbox.ErrNotConfigured) {
		t.Fatal(err)
	}
}

// TestRekeyedNeighbour guards invariant 8: an instance with a new key is another
// identity, the old one stays outstanding; an identity cannot move.
func TestRekeyedNeighbour(t *testing.T) {
	b := adopted(t)
	moved := actor("e1").Instance
	moved.DataCenter = west
	l := handover.NewLedger(trust, func([]byte) (signalbox.Instance, error) { return moved, nil })
	for _, block := range b.log {
		if err := l.Apply(block); err != nil {
			t.Fatal(err)
		}
	}
	r := signalbox.Request{Admit: &signalbox.Admission{Instance: moved, Enrollment: actor("e1").enrollment}}
	if err := l.Check(&r); !errors.Is(err, signalbox.ErrRefused) {
		t.Fatalf("an identity moved: %v", err)
	}
	b.must(t, admit("e1-again", 1))
	if got := b.outstanding(); got["e1"] != 5 || got["e1-again"] != 6 {
		t.Fatalf("outstanding: %v", got)
	}
}
