package handover_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

var leases = signalbox.Leases{TTL: 3 * time.Second, Drift: 10000}

// leased is a log in which east was adopted with leases.
func leased(t testing.TB) *book {
	b := newBook()
	for _, n := range []string{"e1", "e2", "w1", "w2"} {
		b.must(t, admit(n, 0))
	}
	b.must(t, signalbox.Request{Handover: &signalbox.Handover{
		ID: "adopt", Service: orders, Term: 1, To: east, Incoming: ids("e1", "e2"), Allowed: signalbox.AckOnly, Leases: leases,
	}})
	return b
}

func (b *book) refuses(t *testing.T, r signalbox.Request, kind error, says string) {
	t.Helper()
	if err := b.Check(&r); !errors.Is(err, kind) || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("got %v, want %v with %q", err, kind, says)
	}
}

// TestFailoverBlock guards rules 3 and 5: a block that allows others' evidence
// has no fallback; each piece counts for the roster identity that it names; a
// lapse for who could serve without a lease does not.
func TestFailoverBlock(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(testing.TB) *book
		kind   signalbox.StatementKind
		err    string
	}{
		{"fence", adopted, signalbox.SaysFence, ""},
		{"attest", adopted, signalbox.SaysAttest, ""},
		{"lapse without leases", adopted, signalbox.SaysLapse, "without leases"},
		{"lapse", leased, signalbox.SaysLapse, ""},
	} {
		b := c.before(t)
		block := b.must(t, signalbox.Request{Handover: b.failover("f1", west, signalbox.EvidenceKinds(c.kind.Evidence()), "w1")})
		b.refuses(t, outcome(block, 2, actor("e1").answer(signalbox.SaysAck, block)), signalbox.ErrUntrusted, "no evidence for e2")
		b.refuses(t, outcome(block, 3, actor("e1").answer(signalbox.SaysRefuse, block)), signalbox.ErrUntrusted, "term 2")
		r := outcome(block, 2, actor("e1").answer(signalbox.SaysAck, block), taken(c.kind, "e2", block))
		if c.err != "" {
			b.refuses(t, r, signalbox.ErrUntrusted, c.err)
			continue
		}
		b.must(t, r)
		if got := b.outstanding(); len(got) != 1 || b.Service(orders).Master() != west {
			t.Errorf("%s: master %s, outstanding %v", c.name, b.Service(orders).Master(), got)
		}
	}
}

// TestSupersedingOnwards guards what ADR 0008 left open: an open block that
// nobody answers may be followed the same way by one that allows others'
// evidence, and only so.
func TestSupersedingOnwards(t *testing.T) {
	b := opened(t)
	h := b.failover("f1", west, signalbox.ByOthers, "w1")
	h.From = east
	block := b.must(t, signalbox.Request{Handover: h})
	if names := rosterNames(block.Handover(orders)); !slices.Equal(names, []string{"e1", "e2"}) {
		t.Errorf("roster %v", names)
	}
	b.must(t, outcome(block, 4, taken(signalbox.SaysAttest, "e1", block), taken(signalbox.SaysFence, "e2", block)))
	st := b.Service(orders)
	if st.Master() != west || st.Term() != 4 || len(st.Open) != 0 {
		t.Errorf("%s@%d, %d open", st.Master(), st.Term(), len(st.Open))
	}
}

func rosterNames(h *signalbox.Handover) (names []string) {
	for _, e := range h.Roster {
		names = append(names, e.Name)
	}
	return names
}

// TestLeaseModes guards rule 3: an entry is leased only while every term that
// its identity could serve uses leases, and a fallback keeps the mode of the
// term that it restores.
func TestLeaseModes(t *testing.T) {
	b := adopted(t)
	h := b.plan("h1", west, "w1", "w2")
	h.Leases = leases
	first := b.must(t, signalbox.Request{Handover: h})
	b.must(t, outcome(first, 3, actor("e1").answer(signalbox.SaysRefuse, first)))
	if l := b.Service(orders).Certificate.Leases(); l.Used() {
		t.Errorf("the fallback of a term without leases has %v", l)
	}
	h = b.plan("h2", west, "w1", "w2")
	h.Leases = leases
	second := b.must(t, signalbox.Request{Handover: h})
	b.forward(t, second)
	for _, e := range b.Roster(orders, east) {
		if !e.Leased {
			t.Errorf("%s serves a term with leases only", e.Name)
		}
	}
	third := b.must(t, signalbox.Request{Handover: b.plan("h3", east, "e1")})
	b.must(t, outcome(third, third.Handover(orders).Fallback, actor("w1").answer(signalbox.SaysRefuse, third)))
	if l := b.Service(orders).Certificate.Leases(); l != leases {
		t.Errorf("the fallback of a term with leases has %v", l)
	}
	// Without leases from here on: whoever could serve both is not leased.
	fourth := b.handover(t, "h4", east, "e1")
	b.forward(t, fourth)
	b.must(t, admit("e2", b.Service(orders).Term()))
	fifth := b.plan("h5", west, "w1")
	for _, e := range fifth.Roster {
		if e.Leased {
			t.Errorf("%s serves a term without leases", e.Name)
		}
	}
}

// TestOlderTermWithoutLeases guards rule 3: who is listed again, by a term with
// leases, while it is still outstanding by one without, may serve that one.
func TestOlderTermWithoutLeases(t *testing.T) {
	b := adopted(t)
	b.handover(t, "h1", west, "w1")
	h := b.plan("h1-back", east, "e1")
	h.Leases = leases
	b.forward(t, b.must(t, signalbox.Request{Handover: h}))
	for _, e := range b.Roster(orders, west) {
		if e.Leased {
			t.Errorf("%s may still serve term 1 without a lease", e.Name)
		}
	}
}

// TestFallbackOfAnotherMode guards rule 3: who stayed outstanding by a term with
// leases, and was not listed by a later one without, may serve the fallback of the
// next block without a lease: a lapse counts for it no more.
func TestFallbackOfAnotherMode(t *testing.T) {
	b := leased(t)
	b.handover(t, "h1", west, "w1")
	back := b.handover(t, "h1-back", east, "e1") // without leases, and without e2
	b.forward(t, back)
	entry := func() (leased bool) {
		for _, e := range b.Roster(orders, west) {
			if e.Name == "e2" {
				leased = e.Leased
			}
		}
		return leased
	}
	if !entry() {
		t.Error("e2 could serve terms with leases only")
	}
	third := b.handover(t, "h2", west, "w1")
	if entry() {
		t.Error("e2 may serve the fallback of h2 without a lease")
	}
	b.must(t, outcome(third, third.Handover(orders).Fallback, actor("e1").answer(signalbox.SaysRefuse, third)))
	if entry() {
		t.Error("e2 serves the fallback of h2 without a lease")
	}
}

// TestAnnouncedRemoval guards rule 3 and ADR 0009: others' evidence removes an
// identity only for the block that announced it, while neither a handover nor
// another admission came since; and the answer to an instance that starts names
// the announcement.
func TestAnnouncedRemoval(t *testing.T) {
	b := adopted(t)
	id := actor("e2").Identity
	attest := signalbox.EvidenceKinds(signalbox.Attest)
	unannounced := b.must(t, b.announce("e1", attest))
	early := testify(signalbox.SaysAttest, id, 5, unannounced.Digest, 2)
	b.refuses(t, signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: id, Evidence: early.Envelope}}, signalbox.ErrConflict, "not announced")
	r := b.announce("e2", attest)
	r.Remove.Admission = 4
	b.refuses(t, r, signalbox.ErrConflict, "admission of e2 is 5")
	r = b.announce("e2", attest)
	r.Remove.Below = 1
	b.refuses(t, r, signalbox.ErrConflict, "next term")
	first := b.must(t, b.announce("e2", attest))
	b.refuses(t, b.announce("e2", attest), signalbox.ErrConflict, "announced already")
	if a := b.Answer(orders, id); a.Beyond != first.Index {
		t.Errorf("the answer names entry %d, announced in %d", a.Beyond, first.Index)
	}
	if a := b.Answer(orders, actor("w1").Identity); a.Beyond != 0 {
		t.Errorf("the answer to another instance names entry %d", a.Beyond)
	}
	b.refuses(t, b.remove("e2", signalbox.SaysFence, first), signalbox.ErrRefused, "no evidence that the announced removal allows")
	b.refuses(t, signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: id, Evidence: early.Envelope}}, signalbox.ErrRefused, "for block")
	b.must(t, admit("e2", 1))
	b.refuses(t, b.remove("e2", signalbox.SaysAttest, first), signalbox.ErrConflict, "not announced")
	second := b.must(t, b.announce("e2", attest))
	block := b.handover(t, "h1", west, "w1")
	b.must(t, outcome(block, 3, actor("e1").answer(signalbox.SaysRefuse, block)))
	b.refuses(t, b.remove("e2", signalbox.SaysAttest, second), signalbox.ErrConflict, "a handover or an admission came since")
	third := b.must(t, b.announce("e2", attest))
	b.must(t, b.remove("e2", signalbox.SaysAttest, third))
	if got := b.outstanding(); len(got) != 1 {
		t.Errorf("outstanding after the removal: %v", got)
	}
	if a := b.Answer(orders, id); a.Beyond != third.Index {
		t.Errorf("after the removal the answer names entry %d, announced in %d", a.Beyond, third.Index)
	}
}

// TestAnswerNamesEveryBlock guards rule 2: a newer block that allows acks only
// does not hide an older one that allows more.
func TestAnswerNamesEveryBlock(t *testing.T) {
	b := adopted(t)
	first := b.must(t, signalbox.Request{Handover: b.failover("f1", west, signalbox.ByOthers, "w1")})
	b.must(t, outcome(first, 2, taken(signalbox.SaysAttest, "e1", first), taken(signalbox.SaysAttest, "e2", first)))
	second := b.handover(t, "h2", east, "e1")
	a := b.Answer(orders, actor("e1").Identity)
	if a.Index != second.Index || a.Allowed != signalbox.AckOnly || a.Beyond != first.Index {
		t.Errorf("answer %+v, want newest %d and beyond %d", a, second.Index, first.Index)
	}
	if handover.Doubts(&second.Block, orders, actor("e1").Identity) || !handover.Doubts(&first.Block, orders, actor("e1").Identity) {
		t.Error("what a voter voted for and is not decided yet is told wrongly")
	}
}

// singleton is a log in which e1 alone is master of a singleton.
func singleton(t testing.TB) *book {
	b := newBook()
	for _, n := range []string{"e1", "e2", "w1", "w2"} {
		b.must(t, admit(n, 0))
	}
	b.must(t, signalbox.Request{Handover: &signalbox.Handover{
		ID: "adopt", Service: orders, Term: 1, To: east, Incoming: ids("e1"), Allowed: signalbox.AckOnly, Singleton: true,
	}})
	return b
}

// TestSingleton guards the words of the design: a singleton's roster is all but
// the one incoming, its fallback the previous master's only, and its term admits
// nobody else.
func TestSingleton(t *testing.T) {
	b := singleton(t)
	b.refuses(t, admit("e2", 1), signalbox.ErrRefused, "singleton")
	b.must(t, admit("e1", 1)) // again, after a leave
	one := func(h *signalbox.Handover) signalbox.Request {
		h.Singleton = true
		if h.Fallback != 0 {
			h.Previous, _ = b.Service(orders).Previous()
		}
		h.Roster = b.RosterOf(h)
		return signalbox.Request{Handover: h}
	}
	wrong := one(b.plan("h0", west, "w1"))
	wrong.Handover.Previous = actor("e2").Identity
	b.refuses(t, wrong, signalbox.ErrConflict, "master instance")
	block := b.must(t, one(b.plan("h1", west, "w1")))
	back := b.must(t, one(b.plan("h1-back", east, "e2")))
	if names := rosterNames(back.Handover(orders)); !slices.Equal(names, []string{"e1", "w1"}) {
		t.Errorf("the roster of the way back to another instance is %v: the previous master stands in its data center and has to give evidence", names)
	}
	b.must(t, outcome(back, 4, actor("e1").answer(signalbox.SaysAck, back), actor("w1").answer(signalbox.SaysAck, back)))
	if got := b.outstanding(); len(got) != 1 || got["e2"] == 0 {
		t.Errorf("outstanding: %v", got)
	}
	if block.Handover(orders).Lists(actor("e2").Identity, 3) || !block.Handover(orders).Lists(actor("e1").Identity, 3) {
		t.Error("the fallback is the previous master's")
	}
	failover := b.must(t, one(b.failover("f1", west, signalbox.ByOthers, "w2")))
	b.must(t, outcome(failover, 5, taken(signalbox.SaysAttest, "e2", failover)))
	if got := b.outstanding(); len(got) != 1 || got["w2"] == 0 {
		t.Errorf("outstanding after the failover: %v", got)
	}
}
