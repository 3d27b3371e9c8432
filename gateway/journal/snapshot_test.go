package journal

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestCompact guards that the log stays bounded and loses nothing that counts:
// after a start from the snapshot it amounts to what it did, the blocks of the
// last snapshots' time are there, older ones are not, and handovers go on.
func TestCompact(t *testing.T) {
	dir := t.TempDir()
	b := newBusy(t, dir)
	b.run(20)
	size, state, index := b.j.Size(), digestOf(t, b.j), b.j.Index()
	if size.Snapshot == 0 || size.Blocks > 2*every+4 || b.j.First() != index+1-size.Blocks {
		t.Fatalf("after block %d: %+v", index, size)
	}
	if _, err := b.j.Block(2); !errors.Is(err, signalbox.ErrUnknown) {
		t.Errorf("block 2: %v", err)
	}
	if got, err := b.j.Blocks(1, 10); err != nil || len(got) != 0 {
		t.Errorf("%d blocks from 1 on, %v", len(got), err)
	}
	if err := b.j.Close(); err != nil {
		t.Fatal(err)
	}
	again := newBusy(t, dir)
	if again.j.Index() != index || digestOf(t, again.j) != state || again.j.Size() != size {
		t.Fatalf("after a start: block %d, %+v; want %d, %+v", again.j.Index(), again.j.Size(), index, size)
	}
	again.run(20)
	s, err := verifyOpen(t, again.j, dir)
	if err != nil || s.First == 1 || s.Snapshot == 0 || s.DecidedBy <= s.Snapshot || s.Index <= index {
		t.Fatalf("%+v, %v", s, err)
	}
}

func verifyOpen(t testing.TB, j *Journal, dir string) (Summary, error) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return Verify(filepath.Join(dir, FileName), trustOf(t))
}

// TestDecidedIDs guards that a handover is decided once for an id although its
// block is gone.
func TestDecidedIDs(t *testing.T) {
	dir := t.TempDir()
	b := newBusy(t, dir)
	b.handover()
	var first *signalbox.DecidedBlock
	for i := uint64(1); i <= b.j.Index(); i++ {
		d, err := b.j.Block(i)
		if err != nil {
			t.Fatal(err)
		}
		if h := d.Handover(orders); h != nil && h.From != "" {
			first = d
		}
	}
	h := *first.Handover(orders)
	if d, err := b.v.Propose(context.Background(), signalbox.Request{Handover: &h}); err != nil || d.Digest != first.Digest {
		t.Fatalf("the same handover again: %v, %v", d, err)
	}
	b.run(20)
	if err := b.j.Close(); err != nil {
		t.Fatal(err)
	}
	b = newBusy(t, dir) // from the snapshot
	if _, err := b.v.Propose(context.Background(), signalbox.Request{Handover: &h}); !errors.Is(err, signalbox.ErrConflict) || !strings.Contains(err.Error(), "decided long ago") {
		t.Errorf("the same handover again, its block gone: %v", err)
	}
	b.j.View(func(l *handover.Ledger) { h = *next(l, h.ID) })
	if _, err := b.v.Propose(context.Background(), signalbox.Request{Handover: &h}); !errors.Is(err, signalbox.ErrConflict) {
		t.Errorf("another handover with the id, its block gone: %v", err)
	}
}

// TestInstall guards the way back of who was away for longer than blocks are
// kept: it takes another's snapshot, follows on, and has the same log.
func TestInstall(t *testing.T) {
	b := newBusy(t, t.TempDir())
	dir := t.TempDir()
	away := openEvery(t, dir)
	follow := func(from uint64) {
		t.Helper()
		for raw := range blocksFrom(t, b.j, from) {
			if err := away.Append(raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	follow(1)
	old, gone := away.Index(), away.Changed()
	b.run(20)
	snapshot, index, err := b.j.Snapshot()
	if err != nil || index <= old || b.j.First() <= old+1 {
		t.Fatalf("snapshot of block %d, the log begins with %d; %v", index, b.j.First(), err)
	}
	for range 2 { // again is no error
		if err := away.Install(snapshot); err != nil {
			t.Fatal(err)
		}
	}
	<-gone
	if away.Index() != index || away.First() != index+1 {
		t.Fatalf("at block %d, the log begins with %d", away.Index(), away.First())
	}
	if d, err := away.Block(index); err != nil || d.Index != index {
		t.Errorf("the snapshot's last block: %v", err)
	}
	follow(index + 1)
	if digestOf(t, away) != digestOf(t, b.j) {
		t.Error("the logs differ")
	}
	if blocks, err := away.Blocks(old, 1); err != nil || len(blocks) != 0 {
		t.Errorf("an old block is kept beside the snapshot: %v", err)
	}
	for raw := range blocksFrom(t, b.j, b.j.First()) { // what another stream still brings
		if err := away.Append(raw); err != nil {
			t.Error(err)
		}
	}
	want := away.Index()
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	if again := openEvery(t, dir); again.Index() != want || digestOf(t, again) != digestOf(t, b.j) {
		t.Error("after a start the logs differ")
	}
}

func blocksFrom(t testing.TB, j *Journal, from uint64) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		blocks, err := j.Blocks(from, 1000)
		if err != nil || len(blocks) == 0 {
			t.Fatalf("%d blocks from %d on, %v", len(blocks), from, err)
		}
		slices.Values(blocks)(yield)
	}
}

// TestInstallFails guards that a disk that takes no snapshot leaves the log as it
// was, and that the snapshot is taken when it does again.
func TestInstallFails(t *testing.T) {
	b := newBusy(t, t.TempDir())
	dir := t.TempDir()
	var file *os.File
	away, err := open(dir, trustOf(t), nil, every, func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = away.Close() })
	for raw := range blocksFrom(t, b.j, 1) {
		if err := away.Append(raw); err != nil {
			t.Fatal(err)
		}
	}
	had, state := away.Index(), digestOf(t, away)
	b.run(20)
	snapshot, index, err := b.j.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	heal := readOnly(t, file)
	if away.Install(snapshot) == nil {
		t.Error("installed on a disk that takes nothing")
	}
	if away.Index() != had || digestOf(t, away) != state || away.Failed() != nil {
		t.Fatalf("at block %d, %v", away.Index(), away.Failed())
	}
	heal()
	copied := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if err == nil {
		err = os.WriteFile(filepath.Join(copied, FileName), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	started := openEvery(t, copied)
	if started.Index() != had {
		t.Errorf("a start then finds block %d", started.Index())
	}
	for _, j := range []*Journal{away, started} {
		if err := j.Install(snapshot); err != nil || j.Index() != index {
			t.Errorf("with room again: at block %d, %v", j.Index(), err)
		}
	}
}

// TestForeignInstall guards that a snapshot is believed for its signatures, not
// for who sends it, and that another history is told.
func TestForeignInstall(t *testing.T) {
	b := newBusy(t, t.TempDir())
	b.run(20)
	good, _, err := b.j.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	j := openEvery(t, t.TempDir())
	for at := range len(good) / 97 {
		bad := bytes.Clone(good)
		bad[at*97] ^= 0x55
		if err := j.Install(bad); err == nil {
			t.Fatalf("taken with byte %d changed", at*97)
		}
	}
	if err := errors.Join(j.Install(nil), j.Install(good[:len(good)/2])); err == nil || j.Index() != 0 {
		t.Fatalf("taken in part: %v", err)
	}
	file, err := rpc.OpenSnapshot(trustOf(t), good)
	if err != nil {
		t.Fatal(err)
	}
	forked := newBusy(t, t.TempDir())
	for forked.j.Index() < file.Blocks[0].Index {
		forked.handover()
	}
	if forked.j.Index() < file.Snapshot.Index {
		if err := forked.j.Install(good); !errors.Is(err, signalbox.ErrUntrusted) {
			t.Errorf("over another history: %v", err)
		}
	}
}

// TestDamagedSnapshot guards that a file whose snapshot does not verify, or does
// not fit its blocks, is not opened.
func TestDamagedSnapshot(t *testing.T) {
	dir := t.TempDir()
	b := newBusy(t, dir)
	b.run(20)
	b.handover()
	first := b.j.First()
	if err := b.j.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	key := func(n uint64) []byte { return []byte{0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)} }
	for name, damage := range map[string]func(tx *bolt.Tx) error{
		"no snapshot": func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketSnapshot) },
		"a changed one": func(tx *bolt.Tx) error {
			raw := bytes.Clone(tx.Bucket(bucketSnapshot).Get(key(0)))
			raw[len(raw)/2]++
			return tx.Bucket(bucketSnapshot).Put(key(0), raw)
		},
		"a part missing":          func(tx *bolt.Tx) error { return tx.Bucket(bucketSnapshot).Delete(key(0)) },
		"no size":                 func(tx *bolt.Tx) error { return tx.Bucket(bucketSnapshot).Delete(keySize) },
		"a size beyond measure":   func(tx *bolt.Tx) error { return tx.Bucket(bucketSnapshot).Put(keySize, bytes.Repeat([]byte{255}, 8)) },
		"a block before it gone":  func(tx *bolt.Tx) error { return tx.Bucket(bucketBlocks).Delete(key(first + 1)) },
		"the block after it gone": func(tx *bolt.Tx) error { return tx.Bucket(bucketBlocks).Delete(key(b.j.kept.index + 1)) },
		"the block at it gone":    func(tx *bolt.Tx) error { return tx.Bucket(bucketBlocks).Delete(key(b.j.kept.index)) },
		"a block at another place": func(tx *bolt.Tx) error {
			return tx.Bucket(bucketBlocks).Put(key(first), tx.Bucket(bucketBlocks).Get(key(first+1)))
		},
	} {
		bad := t.TempDir()
		path := filepath.Join(bad, FileName)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(damage), db.Close()); err != nil {
			t.Fatal(err)
		}
		if j, err := OpenEvery(bad, trustOf(t), nil, every); err == nil {
			t.Errorf("%s: opened at block %d", name, j.Index())
		}
		if _, err := Verify(path, trustOf(t)); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

// TestCompactFails guards that a disk that takes no snapshot loses nothing, and
// that it is taken when the disk does again: by the process that goes on, and by
// one that was started in between.
func TestCompactFails(t *testing.T) {
	dir := t.TempDir()
	var file *os.File
	b := newBusyIn(t, dir, func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	})
	b.run(10)
	before := b.j.Size()
	due := (*signalbox.Snapshot)(nil)
	for due == nil {
		b.handover()
		due, _ = b.j.SnapshotDue()
	}
	b.propose(signalbox.Request{Snapshot: due})
	whole, state := b.j.Index(), digestOf(t, b.j)

	heal := readOnly(t, file)
	if err := b.j.Compact(); err == nil {
		t.Fatal("a snapshot is on a disk that takes nothing")
	}
	if b.j.Failed() != nil || b.j.Size().Snapshot != before.Snapshot || b.j.First() > before.Snapshot+1 || digestOf(t, b.j) != state {
		t.Fatalf("%+v, %v", b.j.Size(), b.j.Failed())
	}
	heal()
	copied := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, FileName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, goesOn := range []*busy{b, newBusy(t, copied)} {
		if goesOn.j.Index() != whole || digestOf(t, goesOn.j) != state {
			t.Fatalf("at block %d, want %d", goesOn.j.Index(), whole)
		}
		if err := goesOn.j.Compact(); err != nil || goesOn.j.Size().Snapshot != due.Index {
			t.Fatalf("with room again: %+v, %v", goesOn.j.Size(), err)
		}
		goesOn.run(10)
	}
}

// readOnly makes every write to an open file fail until heal is called.
func readOnly(t *testing.T, file *os.File) (heal func()) {
	t.Helper()
	fd := int(file.Fd())
	saved, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(int(other.Fd()), fd, 0); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(syscall.Dup3(saved, fd, 0), syscall.Close(saved), other.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackupOfASnapshot guards that a backup has the snapshot with it, is marked
// when it is restored (rule 8), and that it knows how long leases were once.
func TestBackupOfASnapshot(t *testing.T) {
	b := newBusy(t, t.TempDir())
	b.leases = lease.Default()
	b.run(4)
	b.leases = signalbox.Leases{}
	b.run(20)
	if got := b.j.impliedByLog(); len(got) != 1 || got[0].Longest != lease.Default().LapseWait() {
		t.Errorf("by the log the longest wait is %+v", got)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.j.Backup(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	index, err := Restore(backup, dir, trustOf(t))
	if err != nil || index != b.j.Index() {
		t.Fatalf("restored to block %d, %v", index, err)
	}
	j := openEvery(t, dir)
	if got := j.impliedByLog(); len(got) != 1 || got[0].Longest != lease.Default().LapseWait() {
		t.Errorf("in the backup the longest wait is %+v", got)
	}
	if !j.Restored() || digestOf(t, j) != digestOf(t, b.j) || j.First() != b.j.First() {
		t.Errorf("restored: %v, the log begins with %d", j.Restored(), j.First())
	}
}

var handovers = flag.Int("handovers", 600, "of TestBounded; with as many as 10000 a snapshot is due as in production")

// TestBounded guards that the file stops growing: what is freed in it is used
// again, also by snapshots, with records and notes beside the log.
func TestBounded(t *testing.T) {
	blocks := uint64(handover.SnapshotBlocks)
	if *handovers < 10000 {
		blocks = 64
	}
	dir := t.TempDir()
	b := newBusyEvery(t, dir, blocks, os.OpenFile)
	b.j.db.NoSync = true // how long a disk takes is not what is looked at
	var half, most Size
	for n := range *handovers {
		b.handover()
		if err := b.j.PutNote(KindCertificate, "orders", make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
		b.bound()
		size := b.j.Size()
		if n < *handovers/2 {
			half.Bytes = max(half.Bytes, size.Bytes)
		}
		most.Bytes, most.Blocks, most.SnapshotBytes = max(most.Bytes, size.Bytes), max(most.Blocks, size.Blocks), max(most.SnapshotBytes, size.SnapshotBytes)
	}
	t.Logf("%d handovers, %d blocks, a snapshot every %d: the log had at most %d blocks, the file %d KiB, the snapshot %d KiB; after half of them the file had %d KiB",
		*handovers, b.j.Index(), blocks, most.Blocks, most.Bytes>>10, most.SnapshotBytes>>10, half.Bytes>>10)
	if most.Blocks > 2*blocks+8 {
		t.Errorf("%d blocks stand in the log", most.Blocks)
	}
	if *handovers >= 10000 && most.Bytes > half.Bytes+half.Bytes/4 {
		t.Errorf("the file had %d bytes after half of the handovers, and %d in the end", half.Bytes, most.Bytes)
	}
	if err := b.j.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Verify(filepath.Join(dir, FileName), trustOf(t)); err != nil || s.Index != b.j.Index() {
		t.Errorf("%+v, %v", s, err)
	}
}
