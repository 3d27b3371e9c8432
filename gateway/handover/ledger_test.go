package handover_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
)

// right is what the log once gave an identity: it may serve term when that is
// certified. The reference below keeps all of them and asks of each whether it
// can still be used, unlike the ledger, which keeps a set up to date.
type right struct {
	name      string
	term      signalbox.Term
	block     signalbox.Digest
	admission uint64
	fallback  bool
	leased    bool
}

type reference struct {
	rights   []right
	ended    map[signalbox.Digest]signalbox.Term // logged outcomes
	evidence map[string]signalbox.Term           // highest term that logged evidence is for
	removed  map[string]uint64
	last     signalbox.Term
	open     []*signalbox.DecidedBlock
	master   signalbox.DataCenter
	term     signalbox.Term
	leased   bool
	// what others may give evidence for, and what an answer has to name
	announced map[string]*signalbox.DecidedBlock
	beyond    uint64
	doubts    map[string]uint64
}

func newReference() *reference {
	return &reference{announced: map[string]*signalbox.DecidedBlock{}, doubts: map[string]uint64{}, ended: map[signalbox.Digest]signalbox.Term{}, evidence: map[string]signalbox.Term{}, removed: map[string]uint64{}}
}

// usable is whether a right was or can still be certified, and nothing logged
// says that its holder has given it up.
func (f *reference) usable(r right) bool {
	h, ended := f.ended[r.block]
	return f.evidence[r.name] <= r.term && f.removed[r.name] < r.admission && (!ended || h == r.term)
}

// outstanding is rule 3's set with the newest admission of each.
func (f *reference) outstanding() map[string]uint64 {
	out := map[string]uint64{}
	for _, r := range f.rights {
		if f.usable(r) {
			out[r.name] = 0
		}
	}
	for _, r := range f.rights {
		if _, ok := out[r.name]; ok && !r.fallback && (f.usable(r) || f.kept(r)) {
			out[r.name] = max(out[r.name], r.admission)
		}
	}
	return out
}

// kept: an admission lives on in the fallback that lists it.
func (f *reference) kept(r right) bool {
	for _, other := range f.rights {
		if other.fallback && other.name == r.name && other.admission == r.admission && f.usable(other) {
			return true
		}
	}
	return false
}

func (f *reference) take(b *signalbox.DecidedBlock) {
	r := &b.Requests[0]
	switch {
	case r.Handover != nil:
		h := r.Handover
		for _, id := range h.Incoming {
			f.rights = append(f.rights, right{name: nameOf(id), term: h.Term, block: b.Digest, admission: b.Index, leased: h.Leases.Used()})
		}
		for _, e := range h.Roster {
			if h.Fallback != 0 && e.DataCenter == h.From {
				f.rights = append(f.rights, right{name: e.Name, term: h.Fallback, block: b.Digest, admission: e.Admission, fallback: true, leased: f.leased})
			}
		}
		f.last = max(h.Term, h.Fallback)
		f.announced = map[string]*signalbox.DecidedBlock{}
		if h.Allowed&signalbox.ByOthers != 0 {
			f.beyond = b.Index
		}
		if h.From == "" {
			f.ended[b.Digest], f.master, f.term, f.leased = 1, h.To, 1, h.Leases.Used()
		} else {
			f.open = append(f.open, b)
		}
	case r.Admit != nil && r.Admit.Term != 0:
		f.rights = append(f.rights, right{name: r.Admit.Name, term: r.Admit.Term, admission: b.Index, leased: f.leased})
		delete(f.announced, r.Admit.Name)
	case r.Remove != nil && r.Remove.Announces():
		f.announced[nameOf(r.Remove.Identity)], f.doubts[nameOf(r.Remove.Identity)] = b, b.Index
	case r.Remove != nil:
		f.removed[nameOf(r.Remove.Identity)] = b.Index
	case r.Outcome != nil:
		f.outcome(r.Outcome)
	}
}

func (f *reference) outcome(o *signalbox.Outcome) {
	f.ended[o.Block] = o.Certified
	var still []*signalbox.DecidedBlock
	var ended *signalbox.DecidedBlock
	for _, b := range f.open {
		if b.Digest == o.Block {
			ended = b
		}
	}
	h := ended.Handover(orders)
	for _, b := range f.open {
		if b.Index > ended.Index {
			still = append(still, b)
		}
	}
	f.open = still
	if o.Certified == h.Term {
		for _, e := range h.Roster {
			f.evidence[e.Name] = max(f.evidence[e.Name], h.Term)
		}
	}
	if o.Certified > f.term {
		f.term, f.master, f.leased = o.Certified, h.To, h.Leases.Used()
		if o.Certified == h.Fallback {
			f.master, f.leased = h.From, h.FallbackLeases.Used()
		}
	}
}

var names = []string{"e1", "e2", "e3", "w1", "w2", "w3"}

// request draws something to propose; most of it is valid.
func (f *reference) request(t *rapid.T, b *book) signalbox.Request {
	name := rapid.SampledFrom(names).Draw(t, "who")
	w := actor(name)
	admission := b.Service(orders).Outstanding[w.Identity].Admission
	others := rapid.SampledFrom([]signalbox.StatementKind{signalbox.SaysLapse, signalbox.SaysFence, signalbox.SaysAttest})
	switch rapid.IntRange(0, 11).Draw(t, "what") {
	case 10:
		return b.announce(name, signalbox.EvidenceKinds(others.Draw(t, "kind").Evidence()))
	case 11:
		if len(f.announced) > 0 {
			name = rapid.SampledFrom(slices.Sorted(maps.Keys(f.announced))).Draw(t, "announced")
			return b.remove(name, others.Draw(t, "kind"), f.announced[name])
		}
	case 0, 1:
		return admit(name, rapid.SampledFrom([]signalbox.Term{0, f.term, f.term, f.last}).Draw(t, "term"))
	case 2:
		wrong := uint64(rapid.IntRange(0, 3).Draw(t, "wrong") / 3)
		return signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: w.Identity, Evidence: w.leaves(admission-wrong, 0).Envelope}}
	case 3, 4, 5:
		return signalbox.Request{Handover: f.handover(t, b)}
	}
	if len(f.open) == 0 {
		return admit(name, f.term)
	}
	block := rapid.SampledFrom(f.open).Draw(t, "block")
	h := block.Handover(orders)
	if rapid.Bool().Draw(t, "refused") && len(h.Roster) > 0 {
		return outcome(block, h.Fallback, actor(rapid.SampledFrom(h.Roster).Draw(t, "refuser").Name).answer(signalbox.SaysRefuse, block))
	}
	var evidence []signalbox.Evidence
	for _, e := range h.Roster {
		switch rapid.IntRange(0, 9).Draw(t, "answer") {
		case 0: // missing
		case 1, 2:
			evidence = append(evidence, actor(e.Name).leaves(e.Admission, 0))
		case 3, 4, 5:
			if h.Allowed&signalbox.ByOthers == 0 {
				evidence = append(evidence, actor(e.Name).answer(signalbox.SaysAck, block))
				break
			}
			evidence = append(evidence, taken(others.Draw(t, "kind"), e.Name, block))
		default:
			evidence = append(evidence, actor(e.Name).answer(signalbox.SaysAck, block))
		}
	}
	return outcome(block, h.Term, evidence...)
}

func (f *reference) handover(t *rapid.T, b *book) *signalbox.Handover {
	to, sides := west, map[signalbox.DataCenter][]string{east: {"e1", "e2", "e3"}, west: {"w1", "w2", "w3"}}
	if f.master == west {
		to = east
	}
	more := rapid.IntRange(0, 2).Draw(t, "others' evidence") == 0
	onwards := more && rapid.Bool().Draw(t, "onwards")
	if n := len(f.open); n > 0 {
		if to = f.open[n-1].Handover(orders).From; onwards {
			to = f.open[n-1].Handover(orders).To
		}
	}
	incoming := rapid.SliceOfNDistinct(rapid.SampledFrom(sides[to]), 1, 3, rapid.ID).Draw(t, "incoming")
	h := b.plan(rapid.StringMatching("h[a-z]{6}").Draw(t, "id"), to, incoming...)
	if more {
		h = b.failover(h.ID, to, signalbox.ByOthers, incoming...)
	}
	if onwards && len(f.open) > 0 {
		h.From = f.open[len(f.open)-1].Handover(orders).From
	}
	if rapid.Bool().Draw(t, "leases") {
		h.Leases = signalbox.Leases{TTL: 3 * time.Second, Drift: 10000}
	}
	switch rapid.IntRange(0, 9).Draw(t, "change") {
	case 0:
		h.Term--
	case 1:
		h.Fallback = h.Term + 1
	case 2:
		if len(h.Roster) > 0 {
			h.Roster = h.Roster[1:]
		}
	case 3:
		h.From, h.To = h.To, h.From
	}
	return h
}

// TestLedgerAgainstReference guards invariants 1 and 3: whatever is proposed,
// what the voters accept keeps terms growing and the roster whole: everybody who
// might still serve, as an independent account of all rights has it; and when no
// block is open, only the master's data center might.
func TestLedgerAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, f := newBook(), newReference()
		for _, n := range names {
			if _, err := b.decide(admit(n, 0)); err != nil {
				t.Fatal(err)
			}
		}
		var leases signalbox.Leases
		if rapid.Bool().Draw(t, "adopted with leases") {
			leases = signalbox.Leases{TTL: time.Second}
		}
		adopt, err := b.decide(signalbox.Request{Handover: &signalbox.Handover{
			ID: "adopt", Service: orders, Term: 1, To: east, Incoming: ids("e1", "e2"), Allowed: signalbox.AckOnly, Leases: leases,
		}})
		if err != nil {
			t.Fatal(err)
		}
		f.take(adopt)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			last, before := f.last, f.outstanding()
			block, err := b.decide(f.request(t, b))
			if err != nil {
				continue
			}
			if h := block.Handover(orders); h != nil {
				checkDecided(t, h, last, before, len(f.open) > 0)
			}
			f.take(block)
			f.compare(t, b)
		}
	})
}

func checkDecided(t *rapid.T, h *signalbox.Handover, last signalbox.Term, before map[string]uint64, open bool) {
	if h.Term <= last || h.Fallback != 0 && h.Fallback <= h.Term {
		t.Fatalf("term %d (fallback %d) after %d", h.Term, h.Fallback, last)
	}
	if open && !h.Superseding() || h.Superseding() && h.Voidable() || h.Allowed&signalbox.ByOthers != 0 && h.Fallback != 0 {
		t.Fatalf("a block with fallback %d while one is open: %v", h.Fallback, open)
	}
	roster := map[string]uint64{}
	for _, e := range h.Roster {
		roster[e.Name] = e.Admission
	}
	for name, admission := range before {
		if actor(name).DataCenter != h.To && roster[name] != admission {
			t.Fatalf("%s (admission %d) might serve and is not in the roster %v of the block to %s", name, admission, roster, h.To)
		}
	}
}

func (f *reference) compare(t *rapid.T, b *book) {
	st := b.Service(orders)
	if got, want := b.outstanding(), f.outstanding(); !maps.Equal(got, want) {
		t.Fatalf("outstanding by the ledger %v, by all rights %v", got, want)
	}
	if st.Term() != f.term || st.Master() != f.master || st.Last != f.last || len(st.Open) != len(f.open) {
		t.Fatalf("ledger: %s@%d, last %d, %d open; reference: %s@%d, last %d, %d open",
			st.Master(), st.Term(), st.Last, len(st.Open), f.master, f.term, f.last, len(f.open))
	}
	for name := range b.outstanding() {
		h := st.Outstanding[actor(name).Identity]
		for _, r := range f.rights {
			if r.name == name && h.Leased && f.usable(r) && !r.leased {
				t.Fatalf("%s could serve term %d without a lease, and a lapse would count for it", name, r.term)
			}
		}
	}
	for _, name := range names {
		if got, want := b.Answer(orders, actor(name).Identity).Beyond, max(f.beyond, f.doubts[name]); got != want {
			t.Fatalf("the answer to %s names entry %d as the newest that takes mastership away, it is %d", name, got, want)
		}
	}
	if len(st.Open) > 0 {
		return
	}
	for name := range b.outstanding() {
		if actor(name).DataCenter != f.master {
			t.Fatalf("no block is open, %s is master, and %s is outstanding", f.master, name)
		}
	}
}

// TestForeignBlocks guards that a block that does not follow changes nothing.
func TestForeignBlocks(t *testing.T) {
	b := opened(t)
	block := b.seal(admit("e3", 0))
	for name, change := range map[string]func(*signalbox.DecidedBlock){
		"a gap":                           func(d *signalbox.DecidedBlock) { d.Index++ },
		"an old index":                    func(d *signalbox.DecidedBlock) { d.Index-- },
		"another history":                 func(d *signalbox.DecidedBlock) { d.Prev[0]++ },
		"an outcome that is not of block": func(d *signalbox.DecidedBlock) { d.Requests = []signalbox.Request{outcome(b.log[5], 2)} },
	} {
		changed := *block
		change(&changed)
		if err := b.Apply(&changed); err == nil {
			t.Errorf("%s: applied", name)
		}
		if _, ok := b.Enrolled(actor("e3").Identity); ok || b.Index() != 6 {
			t.Fatalf("%s: a refused block changed the state", name)
		}
	}
	if err := b.Accepts(block); err != nil || b.Index() != 6 {
		t.Fatalf("accepts: %v, index %d", err, b.Index())
	}
	var conflict = b.Accepts(b.log[0])
	if !errors.Is(conflict, signalbox.ErrConflict) {
		t.Fatal(conflict)
	}
}
