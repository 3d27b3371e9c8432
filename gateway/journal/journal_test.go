package journal

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestProposeIsDurable guards invariant 9: when Propose returns, a copy of the
// file as it is on the disk holds the block.
func TestProposeIsDurable(t *testing.T) {
	dir := t.TempDir()
	j := openIn(t, dir)
	v := voterOf(t, j)
	if j.db.NoSync || j.db.NoGrowSync || j.db.NoFreelistSync {
		t.Fatal("the file is not synced")
	}
	for i, n := range []string{"e1", "e2", "e3"} {
		if _, err := v.Propose(context.Background(), enroll(t, n)); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, FileName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := openIn(t, other).Index(); got != uint64(i+1) {
			t.Fatalf("the file has block %d when block %d was acknowledged", got, i+1)
		}
	}
}

// TestFailedWrite guards invariant 9: a block that could not be written is not
// in the ledger, not returned, and nothing is decided in its place until the
// file was opened again.
func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	var file *os.File
	j, err := open(dir, trustOf(t), anyEnrollment(t), handover.SnapshotBlocks, func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	v := voterOf(t, j)
	if _, err := v.Propose(context.Background(), enroll(t, "e1")); err != nil {
		t.Fatal(err)
	}
	next := nextBlock(t, dir)
	changed := j.Changed()
	if err := file.Close(); err != nil { // from now on every write fails
		t.Fatal(err)
	}
	b, err := v.Propose(context.Background(), enroll(t, "e2"))
	if err == nil || b != nil || !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("a block that was not written: %v, %v", b, err)
	}
	j.View(func(l *handover.Ledger) {
		if l.Index() != 1 || len(l.Instances(orders)) != 1 {
			t.Errorf("the ledger is ahead of the disk: index %d", l.Index())
		}
	})
	select {
	case <-changed:
		t.Error("the log did not grow, and followers were told so")
	default:
	}
	select {
	case <-j.Broken():
	default:
		t.Error("nobody is told that the journal failed")
	}
	if _, err := v.Propose(context.Background(), enroll(t, "e3")); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("another block in its place: %v", err)
	}
	if _, err := v.Answer(orders, rpc.IdentityOf(keyOf("e1").Public().(ed25519.PublicKey)), make([]byte, rpc.NonceSize)); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("an answer from a journal that failed: %v", err)
	}
	first := j.Failed()
	if err := j.Append(next); !errors.Is(err, first) {
		t.Fatalf("a follower tried to write again: %v", err)
	}
	_ = j.Close()
	again := openIn(t, dir)
	if again.Index() != 1 || again.Failed() != nil {
		t.Fatalf("after the restart: index %d, %v", again.Index(), again.Failed())
	}
}

// nextBlock is what the voter would have decided next, from a copy of the file.
func nextBlock(t *testing.T, dir string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, FileName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := voterOf(t, openIn(t, other)).Propose(context.Background(), enroll(t, "e3"))
	if err != nil {
		t.Fatal(err)
	}
	return b.Raw
}

// TestAppend guards the order of blocks: the next one is taken, one that is
// there again is no error, gaps, forks and strangers are.
func TestAppend(t *testing.T) {
	_, blocks := written(t)
	j := openIn(t, t.TempDir())
	if err := j.Append(blocks[1]); !errors.Is(err, signalbox.ErrConflict) {
		t.Fatalf("a gap: %v", err)
	}
	for range 2 {
		for _, b := range blocks[:2] {
			if err := j.Append(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if j.Index() != 2 {
		t.Fatalf("index %d", j.Index())
	}
	forked := openIn(t, t.TempDir())
	if _, err := voterOf(t, forked).Propose(context.Background(), enroll(t, "e3")); err != nil {
		t.Fatal(err)
	}
	fork, err := forked.Blocks(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(fork[0]); !errors.Is(err, signalbox.ErrUntrusted) || !strings.Contains(err.Error(), "lost part of its log") {
		t.Fatalf("another block 1: %v", err)
	}
	if err := forked.Append(blocks[1]); !errors.Is(err, signalbox.ErrConflict) || forked.Index() != 1 {
		t.Fatalf("a block of another history: %v", err)
	}
	if got, err := forked.Blocks(1, 10); err != nil || len(got) != 1 || forked.Failed() != nil {
		t.Fatalf("a block that does not apply was written: %d, %v, %v", len(got), err, forked.Failed())
	}
	bad := bytes.Clone(blocks[2])
	bad[len(bad)-1]++
	if err := j.Append(bad); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Fatalf("a changed block: %v", err)
	}
	if err := j.Append(nil); !errors.Is(err, signalbox.ErrInvalid) || j.Index() != 2 {
		t.Fatalf("nothing: %v", err)
	}
}

// TestAppendConcurrently guards that many followers' streams bring the same
// blocks at once and each is taken once.
func TestAppendConcurrently(t *testing.T) {
	_, blocks := written(t)
	j := openIn(t, t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := 0; i < len(blocks); {
				changed := j.Changed()
				switch err := j.Append(blocks[i]); {
				case err == nil:
					i++
				case errors.Is(err, signalbox.ErrConflict):
					<-changed
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := j.Blocks(1, 100)
	if err != nil || len(got) != len(blocks) || j.Index() != 4 {
		t.Fatalf("%d blocks, index %d, %v", len(got), j.Index(), err)
	}
	for i := range got {
		if !bytes.Equal(got[i], blocks[i]) {
			t.Fatalf("block %d is not verbatim", i+1)
		}
	}
}

// TestBlocks guards paging and lookups.
func TestBlocks(t *testing.T) {
	dir, blocks := written(t)
	j := openIn(t, dir)
	page, err := j.Blocks(2, 2)
	if err != nil || len(page) != 2 || !bytes.Equal(page[0], blocks[1]) {
		t.Fatalf("%d blocks, %v", len(page), err)
	}
	if b, err := j.decided(adoption("adopt").Handover); err != nil || b == nil || b.Index != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	for _, err := range []error{func() error { _, err := j.Block(9); return err }(), func() error { _, err := j.Block(0); return err }()} {
		if !errors.Is(err, signalbox.ErrUnknown) {
			t.Fatal(err)
		}
	}
}
