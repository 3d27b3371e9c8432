package journal

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestVoterIdempotence guards that a handover asked for again, by whatever
// gateway, is decided once, and that its id is nobody else's.
func TestVoterIdempotence(t *testing.T) {
	dir, _ := written(t)
	v := voterOf(t, openIn(t, dir))
	first, err := v.journal.decided(adoption("adopt").Handover)
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Propose(context.Background(), adoption("adopt"))
	if err != nil || again.Digest != first.Digest || v.journal.Index() != 4 {
		t.Fatalf("%+v, %v", again, err)
	}
	other := adoption("adopt")
	other.Handover.To = "west"
	if _, err := v.Propose(context.Background(), other); !errors.Is(err, signalbox.ErrConflict) || !strings.Contains(err.Error(), "another handover's") {
		t.Fatal(err)
	}
	elsewhere := adoption("adopt")
	elsewhere.Handover.Service = "users"
	if _, err := v.Propose(context.Background(), elsewhere); !errors.Is(err, signalbox.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := v.Propose(context.Background(), adoption("adopt-2")); !errors.Is(err, signalbox.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := v.Propose(context.Background(), enroll(t, "e1")); !errors.Is(err, signalbox.ErrConflict) {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Propose(ended, enroll(t, "e1")); !errors.Is(err, context.Canceled) || v.journal.Index() != 4 {
		t.Fatal(err)
	}
}

// TestVoterAnswers guards invariant 2: the answer names the newest block, is
// the voter's, and for the nonce that was asked.
func TestVoterAnswers(t *testing.T) {
	dir, _ := written(t)
	v := voterOf(t, openIn(t, dir))
	id := rpc.IdentityOf(keyOf("e1").Public().(ed25519.PublicKey))
	nonce := make([]byte, rpc.NonceSize)
	nonce[0] = 9
	raw, err := v.Answer(orders, id, nonce)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := rpc.OpenAnswer("demo", raw, func(signalbox.Identity) ed25519.PublicKey { return keyOf("east-1").Public().(ed25519.PublicKey) })
	if err != nil || a.Index != 3 || a.Term != 1 || a.Allowed != signalbox.AckOnly || a.Nonce[0] != 9 || a.Identity != id {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := v.Answer(orders, id, nonce[1:]); !errors.Is(err, signalbox.ErrInvalid) {
		t.Fatal(err)
	}
}

// TestRestore guards invariants 8 and 9: a restored journal has the backup's
// log, keeps the old file, and its voter neither votes nor answers, also after a
// restart, until it has caught up with all others.
func TestRestore(t *testing.T) {
	backup := backupOf(t)
	dir, _ := written(t)
	index, err := Restore(backup, dir, trustOf(t))
	if err != nil || index != 4 {
		t.Fatal(index, err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, FileName+".before-restore-*"))
	if err != nil || len(aside) != 1 {
		t.Fatal(aside, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	id := rpc.IdentityOf(keyOf("e1").Public().(ed25519.PublicKey))
	for range 2 {
		j := openIn(t, dir)
		v := voterOf(t, j)
		if _, err := v.Propose(context.Background(), adoption("other")); !errors.Is(err, signalbox.ErrUnavailable) {
			t.Fatalf("it voted: %v", err)
		}
		if _, err := v.Answer(orders, id, make([]byte, rpc.NonceSize)); !errors.Is(err, signalbox.ErrUnavailable) {
			t.Fatalf("it answered: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := openIn(t, dir)
	if err := j.CaughtUp(); err != nil {
		t.Fatal(err)
	}
	if _, err := voterOf(t, j).Answer(orders, id, make([]byte, rpc.NonceSize)); err != nil || j.Restored() {
		t.Fatal(err)
	}
	_ = j.Close()
	if j = openIn(t, dir); j.Restored() {
		t.Fatal("it forgot that it has caught up")
	}
	j.Doubt()
	if _, err := voterOf(t, j).Propose(context.Background(), adoption("other")); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("it voted although it is doubted: %v", err)
	}
}

// TestRestoreRefuses guards that nothing is touched when the backup is no good.
func TestRestoreRefuses(t *testing.T) {
	dir, _ := written(t)
	before, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	backup := backupOf(t)
	other := trustOf(t)
	other.Cluster = "prod"
	if _, err := Restore(backup, dir, other); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Fatal(err)
	}
	if err := os.Truncate(backup, 9000); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(backup, dir, trustOf(t)); !errors.Is(err, signalbox.ErrInvalid) || !strings.Contains(err.Error(), "it was cut off") {
		t.Fatal(err)
	}
	if _, err := Restore(filepath.Join(dir, "none"), dir, trustOf(t)); err == nil {
		t.Fatal("restored from nothing")
	}
	after, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil || string(after) != string(before) {
		t.Fatal("the journal was touched", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

// TestVerify guards that a backup can be checked without changing it.
func TestVerify(t *testing.T) {
	backup := backupOf(t)
	before, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Verify(backup, trustOf(t))
	if err != nil || s.Index != 4 || s.Restored || len(s.Services) != 1 || s.Services[0].Master != "east" || s.Services[0].Outstanding != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	after, err := os.ReadFile(backup)
	if err != nil || string(after) != string(before) {
		t.Fatal("verifying changed the file", err)
	}
	if _, err := Verify(filepath.Join(t.TempDir(), "none"), trustOf(t)); err == nil {
		t.Fatal("verified nothing")
	}
}
