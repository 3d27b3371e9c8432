package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// openFile is how the file is opened; tests put files in its place that fail.
type openFile func(name string, flag int, mode os.FileMode) (*os.File, error)

// Open opens the journal in dir, verifies the whole log and replays it.
// enrollment is for voters' checks (see handover.NewLedger). The error wraps
// ErrInvalid for a damaged file and ErrUntrusted for one of another cluster.
func Open(dir string, trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error)) (*Journal, error) {
	return open(dir, trust, enrollment, handover.SnapshotBlocks, os.OpenFile)
}

// OpenEvery is Open where a snapshot is due after another number of blocks than
// handover.SnapshotBlocks; it has to be the same in all gateways.
func OpenEvery(dir string, trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error), blocks uint64) (*Journal, error) {
	return open(dir, trust, enrollment, blocks, os.OpenFile)
}

func open(dir string, trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error), every uint64, file openFile) (*Journal, error) {
	path := filepath.Join(dir, FileName)
	j := &Journal{trust: trust, enrollment: enrollment, every: every, changed: make(chan struct{}), broken: make(chan struct{})}
	err := guarded(func() error {
		if err := whole(path); err != nil {
			return err
		}
		var err error
		if j.db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, OpenFile: file}); err != nil {
			return err
		}
		return j.load()
	})
	if err == nil {
		return j, nil
	}
	if j.db != nil {
		_ = j.db.Close()
	}
	return nil, fmt.Errorf("open journal %s: %w", path, explained(err))
}

// lockWait is how long another process's lock on the file is waited for.
const lockWait = 2 * time.Second

// errFile marks what is wrong with the file itself.
var errFile = errors.New("the file cannot be read")

func explained(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: another process has it open; stop that gateway first", signalbox.ErrUnavailable)
	case errors.Is(err, errFile):
		return fmt.Errorf("%w: not a journal, or a damaged one (%w); restore a backup: signalbox journal restore", signalbox.ErrInvalid, err)
	}
	return err
}

// guarded turns what a damaged file does to bbolt (panics, faults in its map)
// into an error.
func guarded(f func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(before)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the file is damaged (%v); restore a backup: signalbox journal restore", signalbox.ErrInvalid, p)
		}
	}()
	return f()
}

// whole refuses a file that is shorter than its own pages, before its map is
// read past the end.
func whole(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, ReadOnly: true})
	var system *os.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout), errors.As(err, &system):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errFile, err)
	}
	defer func() { _ = db.Close() }()
	return db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: the file has %d bytes and should have %d: it was cut off; restore a backup: signalbox journal restore", signalbox.ErrInvalid, info.Size(), tx.Size())
		}
		return nil
	})
}

func (j *Journal) load() error {
	err := j.update("open", func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketBlocks, bucketNotes, bucketRecords, bucketRecordIDs, bucketMeta, bucketAgreement} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		if err := sameCluster(tx, j.trust); err != nil {
			return err
		}
		if err := j.indexRecords(tx); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(keyCluster, []byte(j.trust.Cluster))
	})
	if err != nil {
		return err
	}
	return j.db.View(func(tx *bolt.Tx) error {
		j.restored = tx.Bucket(bucketMeta).Get(keyRestored) != nil
		var err error
		j.ledger, j.kept, j.first, err = replay(tx, j.trust, j.enrollment, j.every)
		return err
	})
}

func sameCluster(tx *bolt.Tx, trust rpc.Trust) error {
	if meta := tx.Bucket(bucketMeta); meta != nil {
		if c := meta.Get(keyCluster); c != nil && string(c) != trust.Cluster {
			return fmt.Errorf("%w: it is of cluster %q, this is %q", signalbox.ErrUntrusted, c, trust.Cluster)
		}
	}
	return nil
}

// replay verifies the snapshot and every block, and takes them into a ledger.
// first is the oldest block that is there, or would be. The blocks that the
// snapshot stands for have to lead up to it.
func replay(tx *bolt.Tx, trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error), every uint64) (l *handover.Ledger, k kept, first uint64, err error) {
	l = handover.NewLedger(trust, enrollment)
	raw, err := readSnapshot(tx)
	if err == nil && raw != nil {
		var file *rpc.SnapshotFile
		if file, err = rpc.OpenSnapshot(trust, raw); err == nil {
			k = keptOf(file, len(raw))
			l, err = handover.Restore(trust, enrollment, file)
		}
	}
	if err != nil {
		return nil, k, 0, err
	}
	l.SetSnapshotBlocks(every)
	first = l.Index() + 1
	var before *signalbox.DecidedBlock // the newest of those that the snapshot stands for
	err = tx.Bucket(bucketBlocks).ForEach(func(key, v []byte) error {
		b, err := rpc.OpenBlock(trust, append([]byte(nil), v...))
		switch {
		case err != nil:
		case len(key) != 8 || binary.BigEndian.Uint64(key) != b.Index:
			err = fmt.Errorf("%w: it stands at key %x", signalbox.ErrInvalid, key)
		case b.Index > k.index:
			err = l.Apply(b)
		default:
			first, err = min(first, b.Index), leadsUp(before, b, k.blocks[k.index])
			before = b
		}
		if err != nil {
			return fmt.Errorf("block at key %x: %w", key, err)
		}
		return nil
	})
	if err == nil && before != nil && before.Index < k.index {
		err = fmt.Errorf("%w: blocks %d to %d are missing before the snapshot", signalbox.ErrInvalid, before.Index+1, k.index)
	}
	return l, k, first, err
}

// leadsUp: b follows before, nil for none, and does not lead past the snapshot's
// last block.
func leadsUp(before, b, last *signalbox.DecidedBlock) error {
	switch {
	case before != nil && (b.Index != before.Index+1 || b.Prev != before.Digest):
		return fmt.Errorf("%w: block %d (after %s) does not follow block %d (%s)", signalbox.ErrConflict, b.Index, b.Prev, before.Index, before.Digest)
	case b.Index == last.Index && b.Digest != last.Digest:
		return fmt.Errorf("%w: block %d is %s, the snapshot says %s", signalbox.ErrUntrusted, b.Index, b.Digest, last.Digest)
	}
	return nil
}
