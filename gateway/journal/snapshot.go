package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// bucketSnapshot holds the newest snapshot: "size" of the encoded
// rpc.SnapshotFile, the "index" that it is of, and its parts by big-endian number,
// each small enough that a file with many small holes has room for it.
var (
	bucketSnapshot = []byte("snapshot")
	keySize        = []byte("size")
	keyIndex       = []byte("index")
)

const snapshotPart = 32 << 10

// kept is the snapshot that the journal's log begins with; the zero value for a
// log that begins with its first block.
type kept struct {
	index uint64
	// at is the time of the block at index.
	at time.Time
	// blocks are those that the snapshot carries, by index.
	blocks map[uint64]*signalbox.DecidedBlock
	proof  *signalbox.DecidedBlock
	bytes  int
}

func keptOf(f *rpc.SnapshotFile, size int) kept {
	k := kept{index: f.Snapshot.Index, blocks: map[uint64]*signalbox.DecidedBlock{}, proof: f.Proof, bytes: size}
	for _, b := range f.Blocks {
		k.blocks[b.Index] = b
		if b.Index == k.index {
			k.at = b.At
		}
	}
	return k
}

// SnapshotDue returns the snapshot that should be proposed, or nil; an error when
// it is due and cannot be taken.
func (j *Journal) SnapshotDue() (due *signalbox.Snapshot, err error) {
	j.View(func(l *handover.Ledger) { due, err = l.SnapshotDue() })
	return due, err
}

// Compact puts the newest decided snapshot on the disk, and drops the blocks that
// the one before it stands for: who has that one still follows by blocks. It
// does nothing when there is no new one. An error loses nothing: the log is as it
// was, and Compact can be called again.
func (j *Journal) Compact() error {
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.Failed(); err != nil {
		return err
	}
	j.mu.Lock()
	before := j.kept
	decided, content, proof := j.ledger.Snapshotted()
	j.mu.Unlock()
	if decided <= before.index {
		return nil
	}
	if content == nil {
		return fmt.Errorf("%w: the snapshot of block %d is not what this log amounts to there; its log is kept whole: save a copy (signalbox journal backup) and ask for help", signalbox.ErrConflict, decided)
	}
	raw, err := rpc.EncodeSnapshot(content.State, proof, content.Blocks)
	if err != nil {
		return err
	}
	file := rpc.SnapshotFile{State: content.State, Proof: proof, Snapshot: content.Snapshot, Blocks: content.Blocks}
	err = j.update("snapshot", func(tx *bolt.Tx) error {
		if err := putSnapshot(tx, raw, decided); err != nil {
			return err
		}
		return dropBlocks(tx, before.index)
	})
	if err != nil {
		return fmt.Errorf("keep snapshot of block %d: %w", decided, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept, j.first = keptOf(&file, len(raw)), max(j.first, before.index+1)
	close(j.changed) // who waits for a block that is gone looks again
	j.changed = make(chan struct{})
	return nil
}

// Install verifies another gateway's snapshot and puts it in the place of this
// log, where this log is older. The errors are those of rpc.OpenSnapshot;
// ErrUntrusted also when this log has another history.
func (j *Journal) Install(raw []byte) error {
	file, err := rpc.OpenSnapshot(j.trust, raw)
	if err != nil {
		return fmt.Errorf("install snapshot: %w", err)
	}
	l, err := handover.Restore(j.trust, j.enrollment, file)
	if err != nil {
		return fmt.Errorf("install snapshot: %w", err)
	}
	j.write.Lock()
	defer j.write.Unlock()
	if err := j.Failed(); err != nil {
		return err
	}
	if file.Snapshot.Index <= j.Index() {
		return nil
	}
	if err := j.sameHistory(file); err != nil {
		return fmt.Errorf("install snapshot: %w", err)
	}
	err = j.update("install", func(tx *bolt.Tx) error {
		if err := putSnapshot(tx, raw, file.Snapshot.Index); err != nil {
			return err
		}
		return dropBlocks(tx, file.Snapshot.Index)
	})
	if err != nil {
		return fmt.Errorf("keep snapshot of block %d: %w", file.Snapshot.Index, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l.Configure(j.ledger)
	j.ledger, j.newest, j.kept, j.first = l, nil, keptOf(file, len(raw)), file.Snapshot.Index+1
	close(j.changed)
	j.changed = make(chan struct{})
	return nil
}

// sameHistory: where the snapshot speaks of blocks that are here, they are the
// same; else a voter lost its state.
func (j *Journal) sameHistory(file *rpc.SnapshotFile) error {
	for _, b := range file.Blocks {
		if b.Index > j.Index() || !j.Has(b.Index) {
			continue
		}
		if err := j.sameBlock(b); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether the block of an index is here.
func (j *Journal) Has(index uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return index >= j.first && index <= j.ledger.Index() || j.kept.blocks[index] != nil
}

// First returns the index from which on every block is here up to the newest.
func (j *Journal) First() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.first
}

// Snapshot returns the newest snapshot for Install elsewhere, and its index; 0
// when there is none.
func (j *Journal) Snapshot() (raw []byte, index uint64, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		if raw, err = readSnapshot(tx); raw != nil {
			index = binary.BigEndian.Uint64(tx.Bucket(bucketSnapshot).Get(keyIndex))
		}
		return err
	})
	return raw, index, err
}

func putSnapshot(tx *bolt.Tx, raw []byte, index uint64) error {
	if tx.Bucket(bucketSnapshot) != nil {
		if err := tx.DeleteBucket(bucketSnapshot); err != nil {
			return err
		}
	}
	b, err := tx.CreateBucket(bucketSnapshot)
	if err != nil {
		return err
	}
	for n := 0; n*snapshotPart < len(raw); n++ {
		part := raw[n*snapshotPart : min((n+1)*snapshotPart, len(raw))]
		if err := b.Put(binary.BigEndian.AppendUint64(nil, uint64(n)), part); err != nil {
			return err
		}
	}
	if err := b.Put(keyIndex, binary.BigEndian.AppendUint64(nil, index)); err != nil {
		return err
	}
	return b.Put(keySize, binary.BigEndian.AppendUint64(nil, uint64(len(raw))))
}

// readSnapshot returns the encoded snapshot, nil when there is none.
func readSnapshot(tx *bolt.Tx) ([]byte, error) {
	b := tx.Bucket(bucketSnapshot)
	if b == nil {
		return nil, nil
	}
	raw := b.Get(keySize)
	if len(raw) != 8 || len(b.Get(keyIndex)) != 8 {
		return nil, fmt.Errorf("%w: the snapshot has no size or index", signalbox.ErrInvalid)
	}
	size := binary.BigEndian.Uint64(raw)
	if size == 0 || size > rpc.MaxSnapshot {
		return nil, fmt.Errorf("%w: the snapshot has %d bytes, at most %d", signalbox.ErrInvalid, size, rpc.MaxSnapshot)
	}
	out := make([]byte, 0, size)
	for n := uint64(0); uint64(len(out)) < size; n++ {
		part := b.Get(binary.BigEndian.AppendUint64(nil, n))
		if len(part) == 0 || uint64(len(out)+len(part)) > size {
			return nil, fmt.Errorf("%w: part %d of the snapshot is missing or too long", signalbox.ErrInvalid, n)
		}
		out = append(out, part...)
	}
	return out, nil
}

// dropBlocks removes the blocks up to an index.
func dropBlocks(tx *bolt.Tx, upTo uint64) error {
	c := tx.Bucket(bucketBlocks).Cursor()
	for k, _ := c.First(); len(k) == 8 && binary.BigEndian.Uint64(k) <= upTo; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Size says how big the journal is.
type Size struct {
	// Blocks is how many stand in the log, Bytes how many all of the file has.
	Blocks uint64
	Bytes  int64
	// Snapshot is the index of the snapshot that the log begins with, 0 for none;
	// SnapshotBytes its size, and SnapshotAt the time of its block.
	Snapshot      uint64
	SnapshotBytes int
	SnapshotAt    time.Time
}

// Size returns how big the journal is now.
func (j *Journal) Size() (s Size) {
	j.mu.Lock()
	s = Size{Blocks: j.ledger.Index() + 1 - j.first, Snapshot: j.kept.index, SnapshotBytes: j.kept.bytes, SnapshotAt: j.kept.at}
	j.mu.Unlock()
	_ = j.db.View(func(tx *bolt.Tx) error {
		s.Bytes = tx.Size()
		return nil
	})
	return s
}
