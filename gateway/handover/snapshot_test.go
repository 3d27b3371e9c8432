package handover_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

var updateState = flag.Bool("update-state", false, "write the golden state anew: gateways of this and the last version decide no snapshot together")

type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func stateOf(t failer, l *handover.Ledger) *handover.Candidate {
	t.Helper()
	c, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// snapshotOf is a candidate with the block that would decide it.
func snapshotOf(t failer, c *handover.Candidate) *rpc.SnapshotFile {
	t.Helper()
	proof, err := rpc.EncodeBlock(&signalbox.Block{Cluster: cluster, Index: c.Index + 1, At: epoch, Requests: []signalbox.Request{{Snapshot: &c.Snapshot}}})
	if err != nil {
		t.Fatal(err)
	}
	decided, err := rpc.SealBlock(proof, "another quorum", []byte{1})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rpc.EncodeSnapshot(c.State, decided, c.Blocks)
	if err != nil {
		t.Fatal(err)
	}
	file, err := rpc.OpenSnapshot(trust, raw)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// again is the ledger that comes of a ledger's state.
func again(t failer, l *handover.Ledger) *handover.Ledger {
	t.Helper()
	out, err := handover.Restore(trust, enrolled, snapshotOf(t, stateOf(t, l)))
	if err != nil {
		t.Fatal(err)
	}
	out.Configure(l)
	return out
}

// people draws what people say, on top of what the reference draws.
func (f *reference) people(t *rapid.T, b *book) signalbox.Request {
	ada := rapid.SampledFrom([]string{"operator/ada", "operator/bob"}).Draw(t, "person")
	at := epoch.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "hours")) * time.Hour)
	signed := func(r signalbox.Request) signalbox.Request {
		return b.said(r, epoch.Add(time.Duration(b.Index())*time.Millisecond))
	}
	id := rapid.SampledFrom([]string{"a1", "a2"}).Draw(t, "order")
	switch rapid.IntRange(0, 4).Draw(t, "says") {
	case 0:
		return signed(signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: at, By: ada, Reason: "because"}})
	case 1:
		return signed(signalbox.Request{Pause: &signalbox.Pause{Service: orders, By: ada}})
	case 2:
		to := map[signalbox.DataCenter]signalbox.DataCenter{east: west, west: east}[f.master]
		return signed(signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: id, By: ada, Order: &signalbox.Order{
			From: f.master, To: to, Term: f.term, HoldBudget: budget, Allowed: signalbox.AckOnly, Until: at,
		}}})
	case 3:
		r := signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: id, By: ada}}
		if b.Service(orders).Policy.Order(id) != nil {
			r = signed(r)
		}
		return r
	}
	h := f.handover(t, b)
	if len(f.open) == 0 {
		h.By, h.BreakGlass = ada, &signalbox.BreakGlass{Reason: "it burns", Overrides: []signalbox.SafetyRule{signalbox.RulePause}}
	}
	return signalbox.Request{Handover: h}
}

// TestRestoredLedger guards that a snapshot takes nothing from any rule: a ledger
// that comes of a state refuses and accepts every later request as the one that
// saw the whole log, with the same words, and amounts to the same state after it.
func TestRestoredLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, f := newBook(), newReference()
		b.SetMandates(signatures)
		for _, n := range names {
			if _, err := b.decide(admit(n, 0)); err != nil {
				t.Fatal(err)
			}
		}
		adopt, err := b.decide(signalbox.Request{Handover: &signalbox.Handover{
			ID: "adopt", Service: orders, Term: 1, To: east, Incoming: ids("e1", "e2"), Allowed: signalbox.AckOnly,
		}})
		if err != nil {
			t.Fatal(err)
		}
		f.take(adopt)
		twin := again(t, b.Ledger)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "restore") == 0 {
				twin = again(t, twin)
			}
			var r signalbox.Request
			if rapid.IntRange(0, 3).Draw(t, "people") == 0 {
				r = f.people(t, b)
			} else {
				r = f.request(t, b)
			}
			whole, part := b.CheckAt(&r, epoch), twin.CheckAt(&r, epoch)
			if (whole == nil) != (part == nil) || whole != nil && whole.Error() != part.Error() {
				t.Fatalf("with the whole log: %v\nfrom a snapshot: %v", whole, part)
			}
			if whole != nil && !errors.Is(whole, signalbox.ErrUnsigned) { // logs from before have unsigned ones
				continue
			}
			block := b.seal(r)
			if err := errors.Join(b.Apply(block), twin.Apply(block)); err != nil {
				t.Fatal(err)
			}
			f.take(block)
			for _, name := range names {
				if got, want := twin.Answer(orders, actor(name).Identity), b.Answer(orders, actor(name).Identity); got.Beyond != want.Beyond || got.Index != want.Index || got.Block != want.Block {
					t.Fatalf("the answer to %s is %+v, with the whole log %+v", name, got, want)
				}
			}
			want, got := stateOf(t, b.Ledger), stateOf(t, twin)
			if !bytes.Equal(want.State, got.State) {
				t.Fatalf("after block %d the state differs:\n%x\n%x", block.Index, want.State, got.State)
			}
			if len(b.LeaseChanges()) != len(twin.LeaseChanges()) {
				t.Fatalf("promises %v, with the whole log %v", twin.LeaseChanges(), b.LeaseChanges())
			}
		}
	})
}

// rich is a log with something of everything that a state holds.
func rich(t testing.TB) *book {
	b := adopted(t)
	b.must(t, admit("e3", 1))
	h := b.failover("moved", west, signalbox.ByOthers, "w1", "w2")
	h.By, h.BreakGlass = "operator/ada", &signalbox.BreakGlass{Reason: "it burns", Overrides: []signalbox.SafetyRule{signalbox.RuleFreeze}}
	h.Leases = signalbox.Leases{TTL: 3 * time.Second, Drift: 10_000}
	block := b.must(t, signalbox.Request{Handover: h})
	b.must(t, outcome(block, h.Term, taken(signalbox.SaysAttest, "e1", block), taken(signalbox.SaysFence, "e2", block), taken(signalbox.SaysAttest, "e3", block)))
	b.must(t, b.announce("w2", signalbox.EvidenceKinds(signalbox.Lapse)))
	for _, r := range []signalbox.Request{
		{Pause: &signalbox.Pause{Service: orders, Until: epoch.Add(time.Hour), By: "operator/bob", Reason: "night"}},
		{Approval: &signalbox.Approval{Service: orders, ID: "next", By: "operator/bob", Order: &signalbox.Order{
			From: west, To: east, Term: h.Term, HoldBudget: budget, Allowed: signalbox.AckOnly, Until: epoch.Add(time.Hour),
		}}},
		{Approval: &signalbox.Approval{Service: orders, ID: "next", By: "operator/ada", Reason: "yes"}},
	} {
		if err := b.CheckAt(&r, epoch); !errors.Is(err, signalbox.ErrUnsigned) { // signatures are drawn
			t.Fatal(err)
		}
		if err := b.Apply(b.seal(r)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestGoldenState guards the encoding: voters of one version have to make the same
// bytes of the same log, on every machine. A change needs another version.
func TestGoldenState(t *testing.T) {
	b := rich(t)
	// Enrollments are signed with a key that is drawn, so blocks have other digests
	// each time; the state without them is compared.
	got := stateOf(t, b.Ledger)
	state := got.State
	for _, e := range b.Service(orders).Certificate.Evidence {
		state = bytes.ReplaceAll(state, e.Envelope, make([]byte, len(e.Envelope)))
	}
	for _, block := range got.Blocks {
		state = bytes.ReplaceAll(state, block.Digest[:], make([]byte, 32))
	}
	for _, a := range b.Service(orders).Announced {
		state = bytes.ReplaceAll(state, a.Digest[:], make([]byte, 32))
	}
	path := filepath.Join("testdata", "state.hex")
	text := hex.Dump(state)
	if *updateState {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != text {
		t.Errorf("%s is not what the log amounts to now (%v):\n%s", path, err, text)
	}
	for range 3 {
		if !bytes.Equal(stateOf(t, again(t, b.Ledger)).State, got.State) {
			t.Fatal("the state of the restored ledger is another one")
		}
	}
}

// TestStateIsWhole guards that nobody adds to what the log amounts to without
// adding it to snapshots, where it would be forgotten by some gateways and not by
// others: whoever adds a field decides here where it goes.
func TestStateIsWhole(t *testing.T) {
	for _, known := range []struct {
		of     any
		fields string
	}{
		{handover.Ledger{}, "trust enrollment index digest services enrolled head register snapshots voters changes rules mandates accepted outcomes proven"},
		{handover.ServiceState{}, "Service Certificate Last Open Newest Outstanding Admissions Announced beyond doubted Policy Taken"},
		{handover.Holder{}, "Instance Admission Leased"},
		{handover.Announcement{}, "Removal Index Digest"},
		{handover.DecidedHandover{}, "ID Index Service From To Term At Certified SupersededBy Ended"},
		{handover.Taken{}, "Index What By Reason At"},
		{policy.State{}, "Pause Waiting Moved Broken BrokenTotal Started StartedTotal Said"},
		{policy.Paused{}, "Pause Since"},
		{policy.Waiting{}, "Approval At Approved Signed"},
		{policy.Approved{}, "By Reason At Key"},
		{policy.Moved{}, "ID From To Term At By Back"},
		{policy.Started{}, "Identity Term By Reason At Logged Of"},
		{policy.Broken{}, "BreakGlass ID Term By At"},
		{lease.Saved{}, "Longest Promises Stopped"},
		{lease.Promise{}, "Below UpTo"},
		{signalbox.Instance{}, "Service DataCenter Name Identity PublicKey"},
		{signalbox.BreakGlass{}, "Reason Overrides"},
	} {
		var have []string
		for f := range reflect.TypeOf(known.of).Fields() {
			have = append(have, f.Name)
		}
		if got := strings.Join(have, " "); got != known.fields {
			t.Errorf("%T has the fields\n%s\nand snapshots know of\n%s\nput the new ones into state.go and restore.go, with a new stateVersion where the bytes change", known.of, got, known.fields)
		}
	}
}

// TestTakenForEver guards that what a person took responsibility for is shown
// when its blocks are gone.
func TestTakenForEver(t *testing.T) {
	var said []string
	for _, taken := range again(t, rich(t).Ledger).Service(orders).Taken {
		said = append(said, taken.By+" "+taken.What+": "+taken.Reason)
	}
	want := []string{
		"operator/ada broke glass (freeze) for moved, term 2: it burns",
		"ada attested e1 for moved, term 2: it is off", "ada attested e3 for moved, term 2: it is off",
	}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(said, "\n"))
	}
}

// TestSnapshotIsChecked guards that voters put in the place of the log what it
// amounts to, and nothing else.
func TestSnapshotIsChecked(t *testing.T) {
	b := newBook()
	b.SetSnapshotBlocks(3)
	for _, n := range []string{"e1", "e2", "w1", "w2"} {
		b.must(t, admit(n, 0))
	}
	due, err := b.SnapshotDue()
	if err != nil || due == nil || due.Index != 3 {
		t.Fatalf("due after block 4: %+v, %v", due, err)
	}
	for name, wrong := range map[string]signalbox.Snapshot{
		"another state": {Index: 3, Digest: signalbox.Digest{1}}, "another block": {Index: 4, Digest: due.Digest}, "a block to come": {Index: 6},
	} {
		if b.Check(&signalbox.Request{Snapshot: &wrong}) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b.must(t, signalbox.Request{Snapshot: due})
	index, content, proof := b.Snapshotted()
	if index != 3 || content == nil || content.Digest != due.Digest || proof.Index != 5 {
		t.Fatalf("snapshot of block %d, decided in %v", index, proof)
	}
	if again, _ := b.SnapshotDue(); again != nil || b.Check(&signalbox.Request{Snapshot: due}) == nil {
		t.Error("it is due twice")
	}
	b.must(t, admit("e3", 0)) // block 6: the next is due, and the one decided is kept
	if _, content, _ := b.Snapshotted(); content == nil || content.Index != 3 {
		t.Error("the decided snapshot is lost when the next is due")
	}
	late := *due
	late.Digest[0]++
	if b.Check(&signalbox.Request{Snapshot: &late}) == nil {
		t.Error("an older snapshot was accepted")
	}
}

// TestForeignSnapshot guards that only what a quorum decided is restored.
func TestForeignSnapshot(t *testing.T) {
	c := stateOf(t, rich(t).Ledger)
	for name, change := range map[string]func(*rpc.SnapshotFile){
		"a block is missing":    func(f *rpc.SnapshotFile) { f.Blocks = f.Blocks[1:] },
		"a block twice":         func(f *rpc.SnapshotFile) { f.Blocks[0] = f.Blocks[1] },
		"another block":         func(f *rpc.SnapshotFile) { b := *f.Blocks[0]; b.Digest[0]++; f.Blocks[0] = &b },
		"another index":         func(f *rpc.SnapshotFile) { f.Snapshot.Index++ },
		"unknown things in it":  func(f *rpc.SnapshotFile) { f.State = append(bytes.Clone(f.State), 0xf8, 0x7f, 1) },
		"a part of it":          func(f *rpc.SnapshotFile) { f.State = f.State[:len(f.State)/2] },
		"nothing that decodes":  func(f *rpc.SnapshotFile) { f.State = []byte{0xff} },
		"a state of version 99": func(f *rpc.SnapshotFile) { f.State = append([]byte{8, 99}, f.State[2:]...) },
	} {
		file := snapshotOf(t, c)
		change(file)
		if _, err := handover.Restore(trust, enrolled, file); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
	proof := snapshotOf(t, c).Proof
	state := bytes.Clone(c.State)
	state[len(state)-1]++
	for name, raw := range map[string]func() ([]byte, error){
		"another state":           func() ([]byte, error) { return rpc.EncodeSnapshot(state, proof, c.Blocks) },
		"a proof of other things": func() ([]byte, error) { return rpc.EncodeSnapshot(c.State, c.Blocks[0], c.Blocks) },
	} {
		file, err := raw()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rpc.OpenSnapshot(trust, file); !errors.Is(err, signalbox.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHandoverIDs guards that ids are known for MaxHandovers handovers, also from
// a snapshot, and not for ever.
func TestHandoverIDs(t *testing.T) {
	b := rich(t)
	if h, ok := again(t, b.Ledger).Decided("moved"); !ok || h.From != east || h.To != west {
		t.Errorf("%+v, %v", h, ok)
	}
	if _, ok := b.Decided("next"); ok {
		t.Error("an order counts as a handover")
	}
}

// FuzzRestore guards that no state, whoever decided it, ends the process, and that
// what is restored writes down as what it came from.
func FuzzRestore(f *testing.F) {
	c := stateOf(f, rich(f).Ledger)
	f.Add(c.State)
	f.Add([]byte{8, 1})
	f.Fuzz(func(t *testing.T, state []byte) {
		file := &rpc.SnapshotFile{State: state, Snapshot: signalbox.Snapshot{Index: c.Index, Digest: rpc.StateDigest(state)}, Blocks: c.Blocks}
		l, err := handover.Restore(trust, enrolled, file)
		if err != nil {
			return
		}
		if again, err := l.State(); err == nil && len(again.State) > len(state) {
			t.Errorf("%d bytes became %d", len(state), len(again.State))
		}
		l.Answer(orders, actor("e1").Identity)
		_ = l.Check(&signalbox.Request{Admit: &signalbox.Admission{Instance: actor("e2").Instance, Enrollment: actor("e2").enrollment}})
	})
}

// TestWhatBecameOfHandovers guards that the log tells how each handover ended when
// its blocks are gone.
func TestWhatBecameOfHandovers(t *testing.T) {
	b := adopted(t)
	given := b.handover(t, "given-up", west, "w1", "w2")
	b.must(t, outcome(given, 3, actor("e1").answer(signalbox.SaysRefuse, given)))
	b.forward(t, b.handover(t, "moved", west, "w1", "w2"))
	b.handover(t, "stuck", east, "e1")
	h := b.failover("onwards", east, signalbox.ByOthers, "e1")
	h.From = west
	onwards := b.must(t, signalbox.Request{Handover: h})
	b.must(t, outcome(onwards, h.Term, taken(signalbox.SaysAttest, "w1", onwards), taken(signalbox.SaysFence, "w2", onwards)))
	b.handover(t, "open", west, "w1")
	for _, l := range []*handover.Ledger{b.Ledger, again(t, b.Ledger)} {
		var got []string
		for _, h := range l.Over() {
			got = append(got, fmt.Sprintf("%s %d: %d%s", h.ID, h.Term, h.Certified, h.SupersededBy))
			if !h.At.Equal(epoch) || !h.Ended.Equal(epoch) {
				t.Errorf("%s began at %v and ended at %v", h.ID, h.At, h.Ended)
			}
		}
		if want := "adopt 1: 1, given-up 2: 3, moved 4: 4, stuck 6: 0onwards, onwards 8: 8"; strings.Join(got, ", ") != want {
			t.Errorf("%s\nwant %s", strings.Join(got, ", "), want)
		}
	}
}
