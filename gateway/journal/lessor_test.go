package journal

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// leasing is a voter that leases, with a clock by hand.
type leasing struct {
	t   *testing.T
	j   *Journal
	v   *Voter
	l   *Lessor
	now time.Duration
}

var leases = lease.Default()

// startLeasing opens the journal in dir; a new one has e1 as master of a service
// with leases, and e2.
func startLeasing(t *testing.T, dir string, now time.Duration) *leasing {
	t.Helper()
	r := &leasing{t: t, j: openIn(t, dir), now: now}
	r.v = voterOf(t, r.j)
	r.l = NewLessor(r.j, r.v.scheme, 1, keyOf("east-1"), func() lease.Instant { return lease.Instant{Boot: r.now, Wall: r.now} })
	if r.j.Index() == 0 {
		adopt := adoption("adopt")
		adopt.Handover.Leases = leases
		for _, request := range []signalbox.Request{enroll(t, "e1"), enroll(t, "e2"), adopt} {
			r.propose(request)
		}
	}
	return r
}

func (r *leasing) propose(request signalbox.Request) *signalbox.DecidedBlock {
	r.t.Helper()
	b, err := r.v.Propose(context.Background(), request)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func idOf(name string) signalbox.Identity {
	return rpc.IdentityOf(keyOf(name).Public().(ed25519.PublicKey))
}

// ask has e1, or another, ask for a lease of a term.
func (r *leasing) ask(name string, term signalbox.Term, nonce byte) error {
	r.t.Helper()
	want := rpc.Lease{Service: orders, Term: term, Admission: 3, Incarnation: 1, Nonce: [16]byte{nonce}, TTL: leases.TTL}
	raw, err := rpc.SealLeaseRequest("demo", want, keyOf(name))
	if err != nil {
		r.t.Fatal(err)
	}
	grant, err := r.l.Grant(raw)
	if err != nil {
		return err
	}
	want.Identity, want.Epoch = idOf(name), 1
	got, voter, err := rpc.OpenLeaseGrant("demo", grant, func(signalbox.Identity) ed25519.PublicKey {
		return keyOf("east-1").Public().(ed25519.PublicKey)
	})
	if err != nil || got != want || voter != idOf("east-1") {
		r.t.Errorf("granted %+v by %s: %v", got, voter, err)
	}
	return nil
}

// announce has the removal of e1 by a lapse announced, and returns the lapse.
func (r *leasing) announce() []byte {
	r.t.Helper()
	b := r.propose(signalbox.Request{Remove: &signalbox.Removal{
		Service: orders, Identity: idOf("e1"), Admission: 3, Below: 2, Allowed: signalbox.EvidenceKinds(signalbox.Lapse), By: "o", Reason: "r",
	}})
	return r.lapse(b, 1)
}

func (r *leasing) lapse(b *signalbox.DecidedBlock, epoch uint64) []byte {
	r.t.Helper()
	t := rpc.Testimony{Statement: signalbox.Statement{
		Kind: signalbox.SaysLapse, Service: orders, Identity: idOf("e1"), Term: 2, Block: b.Digest, Admission: 3,
	}, Witness: signalbox.Witness{Epoch: epoch}}
	payload, err := t.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	return payload
}

// A voter grants what its log says may be served, to who may.
func TestLessorGrants(t *testing.T) {
	r := startLeasing(t, t.TempDir(), time.Hour)
	if err := r.ask("e1", 1, 1); err != nil {
		t.Errorf("the master: %v", err)
	}
	if err := r.ask("e1", 1, 1); err != nil {
		t.Errorf("the same request again: %v", err)
	}
	for name, err := range map[string]error{
		"not outstanding": r.ask("e2", 1, 1), "another term": r.ask("e1", 2, 2), "not enrolled": r.ask("e3", 1, 1),
	} {
		if err == nil {
			t.Errorf("%s: granted", name)
		}
	}
	r.j.Doubt()
	if err := r.ask("e1", 1, 3); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("from a journal in doubt: %v", err)
	}
}

// Promise, disk, wait, share; after the promise no lease, also after a start.
func TestLessorLapse(t *testing.T) {
	dir := t.TempDir()
	r := startLeasing(t, dir, time.Hour)
	if err := r.ask("e1", 1, 1); err != nil {
		t.Fatal(err)
	}
	r.now += time.Minute
	if err := r.ask("e1", 1, 2); err != nil {
		t.Fatal(err)
	}
	payload := r.announce()
	share, wait, err := r.l.Lapse(payload)
	if err != nil || share.Signature != nil || wait != leases.LapseWait() {
		t.Fatalf("at once: %v, in %s, %v", share, wait, err)
	}
	if err := r.ask("e1", 1, 3); err == nil || !strings.Contains(err.Error(), "no lease below term 2") {
		t.Errorf("after the promise: %v", err)
	}
	r.now += wait - 1
	if share, wait, err := r.l.Lapse(payload); err != nil || share.Signature != nil || wait <= 0 {
		t.Errorf("too early: %v, in %s, %v", share, wait, err)
	}
	if err := r.j.Close(); err != nil {
		t.Fatal(err)
	}
	r = startLeasing(t, dir, r.now)
	if err := r.ask("e1", 1, 4); err == nil {
		t.Error("the promise is lost in a start")
	}
	if share, wait, err := r.l.Lapse(payload); err != nil || share.Signature != nil || wait != leases.LapseWait() {
		t.Errorf("a voter that has just started: %v, in %s, %v", share, wait, err)
	}
	r.now += leases.LapseWait()
	share, _, err = r.l.Lapse(payload)
	if err != nil || share.Signature == nil {
		t.Fatalf("when all has run out: %v", err)
	}
	r.remove(payload, share.Signature)
}

// remove has the lapse logged: voters accept it as evidence.
func (r *leasing) remove(payload, signed []byte) {
	r.t.Helper()
	share := r.v.scheme
	own, err := share.Sign(rpc.SigningInput(rpc.DomainLapse, "demo", payload))
	if err != nil || string(own.Signature) != string(signed) {
		r.t.Fatal("the share is not the voter's signature", err)
	}
	combined, err := share.Combine([]signature.Share{own})
	if err != nil {
		r.t.Fatal(err)
	}
	evidence, err := rpc.SealLapse(payload, share.Name(), combined)
	if err != nil {
		r.t.Fatal(err)
	}
	r.propose(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: idOf("e1"), Evidence: evidence}})
	r.j.View(func(l *handover.Ledger) {
		if n := len(l.Service(orders).Outstanding); n != 0 {
			r.t.Errorf("%d outstanding", n)
		}
	})
}

// A lapse is signed only for what the log has.
func TestLessorRefusesLapse(t *testing.T) {
	r := startLeasing(t, t.TempDir(), time.Hour)
	b, err := r.j.Block(3)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.l.Lapse(r.lapse(b, 1)); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("a block that allows none: %v", err)
	}
	if err := r.ask("e1", 1, 1); err != nil {
		t.Errorf("what was refused binds: %v", err)
	}
	if _, _, err := r.l.Lapse([]byte("x")); err == nil {
		t.Error("not a lapse")
	}
	r.announce()
	newest, err := r.j.Block(4)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.l.Lapse(r.lapse(newest, 2)); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("another voter set: %v", err)
	}
}

// A restored journal has forgotten what its voter promised since; it takes what
// any voter may have promised from the log.
func TestRestoredLessor(t *testing.T) {
	r := startLeasing(t, t.TempDir(), time.Hour)
	if err := r.ask("e1", 1, 1); err != nil {
		t.Fatal(err)
	}
	r.announce()
	backup := filepath.Join(t.TempDir(), "backup.db") // before the promise
	var copied bytes.Buffer
	if err := r.j.Backup(&copied); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(backup, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Restore(backup, dir, trustOf(t)); err != nil {
		t.Fatal(err)
	}
	again := startLeasing(t, dir, r.now)
	if err := again.ask("e1", 1, 2); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("before it caught up: %v", err)
	}
	if err := again.j.CaughtUp(); err != nil {
		t.Fatal(err)
	}
	if err := again.ask("e1", 1, 2); err == nil || !strings.Contains(err.Error(), "no lease below term 2") {
		t.Errorf("after it caught up: %v", err)
	}
}

// Who is about to vote for other voters grants nothing until that slot is decided,
// also after a start; once it was decided without them, it grants again.
// (membership/agreement, DESIGN.md: changing the voters.)
func TestLessorStops(t *testing.T) {
	dir := t.TempDir()
	r := startLeasing(t, dir, time.Hour)
	slot := r.j.Index() + 1
	if err := r.l.Stop(slot); err != nil {
		t.Fatal(err)
	}
	if err := r.j.Close(); err != nil {
		t.Fatal(err)
	}
	r = startLeasing(t, dir, time.Hour)
	if err := r.ask("e1", 1, 1); err == nil || !strings.Contains(err.Error(), "voters are being changed") {
		t.Fatalf("before slot %d is decided: %v", slot, err)
	}
	r.propose(enroll(t, "e3"))
	if err := r.ask("e1", 1, 2); err != nil {
		t.Errorf("decided without other voters: %v", err)
	}
}
