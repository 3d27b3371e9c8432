// Package journal keeps the agreed log and what a gateway needs beside it on
// disk: one bbolt file per gateway.
//
// Guarantees: a block that Append or Propose returned for is on stable storage
// (fsync) and in the Ledger; blocks stand in the order of their indexes, each
// verified against the voters' keys before it was written; a file whose log
// does not verify is not opened. Reads see the newest state and never block on
// the disk.
//
// It does not guarantee that this copy is the newest: a follower may be behind,
// and a restored backup is old by nature (see Restored).
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// FileName is the journal's file in a gateway's state directory.
const FileName = "journal.db"

var (
	bucketBlocks    = []byte("blocks")    // big-endian index -> decided block
	bucketHandovers = []byte("handovers") // handover id -> big-endian index
	bucketNotes     = []byte("notes")     // certificates, endpoints, statements: "kind/key" -> bytes
	bucketRecords   = []byte("records")   // big-endian start, id -> cutover record
	bucketMeta      = []byte("meta")
	keyRestored     = []byte("restored")
	keyCluster      = []byte("cluster")
)

// A Journal is the agreed log on this gateway's disk. Safe for concurrent use.
type Journal struct {
	db    *bolt.DB
	trust rpc.Trust

	mu       sync.Mutex // guards the fields below; never held over a disk write
	ledger   *handover.Ledger
	changed  chan struct{}
	restored bool

	write sync.Mutex // serialises Append; taken before mu
}

// Open opens the journal in dir, verifies the whole log and replays it.
// enrollment is for voters' checks (see handover.NewLedger).
func Open(dir string, trust rpc.Trust, enrollment func([]byte) (signalbox.Instance, error)) (*Journal, error) {
	path := filepath.Join(dir, FileName)
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 2 * time.Second})
	if errors.Is(err, bolt.ErrTimeout) {
		return nil, fmt.Errorf("open journal %s: another process has it open; stop that gateway first", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	j := &Journal{db: db, trust: trust, ledger: handover.NewLedger(trust, enrollment), changed: make(chan struct{})}
	if err := j.load(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	return j, nil
}

func (j *Journal) load() error {
	err := j.db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketBlocks, bucketHandovers, bucketNotes, bucketRecords, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		if c := meta.Get(keyCluster); c != nil && string(c) != j.trust.Cluster {
			return fmt.Errorf("%w: it is of cluster %q, this is %q", signalbox.ErrUntrusted, c, j.trust.Cluster)
		}
		return meta.Put(keyCluster, []byte(j.trust.Cluster))
	})
	if err != nil {
		return err
	}
	return j.db.View(func(tx *bolt.Tx) error {
		j.restored = tx.Bucket(bucketMeta).Get(keyRestored) != nil
		return tx.Bucket(bucketBlocks).ForEach(func(k, v []byte) error {
			b, err := rpc.OpenBlock(j.trust, append([]byte(nil), v...))
			if err != nil {
				return fmt.Errorf("block %d: %w", binary.BigEndian.Uint64(k), err)
			}
			return j.ledger.Apply(b)
		})
	})
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

// View calls f with the ledger; f must not keep it.
func (j *Journal) View(f func(*handover.Ledger)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j.ledger)
}

// Index returns the newest block's index, 0 for an empty log.
func (j *Journal) Index() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ledger.Index()
}

// Changed returns a channel that is closed when the log grows.
func (j *Journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// Append verifies a decided block and writes it, when it is the next one. A
// block that is there already is no error; one further ahead is ErrConflict.
func (j *Journal) Append(raw []byte) error {
	b, err := rpc.OpenBlock(j.trust, raw)
	if err != nil {
		return fmt.Errorf("append block: %w", err)
	}
	j.write.Lock()
	defer j.write.Unlock()
	return j.appendLocked(b)
}

func (j *Journal) appendLocked(b *signalbox.DecidedBlock) error {
	j.mu.Lock()
	index := j.ledger.Index()
	j.mu.Unlock()
	if b.Index <= index {
		return nil
	}
	if b.Index != index+1 {
		return fmt.Errorf("append block %d: %w: the newest here is %d", b.Index, signalbox.ErrConflict, index)
	}
	err := j.db.Update(func(tx *bolt.Tx) error {
		key := binary.BigEndian.AppendUint64(nil, b.Index)
		if err := tx.Bucket(bucketBlocks).Put(key, b.Raw); err != nil {
			return err
		}
		for i := range b.Requests {
			if h := b.Requests[i].Handover; h != nil {
				if err := tx.Bucket(bucketHandovers).Put([]byte(h.ID), key); err != nil {
					return err
				}
			}
		}
		// Inside the transaction: what does not apply is not written.
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.ledger.Accepts(b)
	})
	if err != nil {
		return fmt.Errorf("append block %d: %w", b.Index, err)
	}
	// Only what is on the disk is shown.
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ledger.Apply(b); err != nil {
		return fmt.Errorf("append block %d: %w", b.Index, err)
	}
	close(j.changed)
	j.changed = make(chan struct{})
	return nil
}

// Blocks returns up to most decided blocks from an index on, verbatim.
func (j *Journal) Blocks(from uint64, most int) ([][]byte, error) {
	var out [][]byte
	err := j.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketBlocks).Cursor()
		for k, v := c.Seek(binary.BigEndian.AppendUint64(nil, from)); k != nil && len(out) < most; k, v = c.Next() {
			out = append(out, append([]byte(nil), v...))
		}
		return nil
	})
	return out, err
}

// Block returns the decided block of an index; ErrUnknown when it is not here.
func (j *Journal) Block(index uint64) (*signalbox.DecidedBlock, error) {
	raw, err := j.Blocks(index, 1)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("%w: block %d", signalbox.ErrUnknown, index)
	}
	b, err := rpc.OpenBlock(j.trust, raw[0])
	if err == nil && b.Index != index {
		return nil, fmt.Errorf("%w: block %d", signalbox.ErrUnknown, index)
	}
	return b, err
}

// Handover returns the block that decided the handover of an id; ErrUnknown
// when there is none.
func (j *Journal) Handover(id string) (*signalbox.DecidedBlock, error) {
	var index uint64
	err := j.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketHandovers).Get([]byte(id)); v != nil {
			index = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if index == 0 {
		return nil, fmt.Errorf("%w: handover %q", signalbox.ErrUnknown, id)
	}
	return j.Block(index)
}

// Backup writes a consistent copy of the file while the gateway goes on. It
// holds no private key.
func (j *Journal) Backup(w io.Writer) error {
	return j.db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// Restored reports whether the journal came from a backup and has not caught
// up since. A voter must not vote from it: it might have voted for more.
func (j *Journal) Restored() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.restored
}

// CaughtUp says that every other gateway was asked and this log is as new as
// the newest of theirs: a restored journal counts as current from now on.
func (j *Journal) CaughtUp() error {
	err := j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyRestored) })
	if err != nil {
		return fmt.Errorf("mark journal as caught up: %w", err)
	}
	j.mu.Lock()
	j.restored = false
	j.mu.Unlock()
	return nil
}

// Restore puts a backup into dir as the journal, after verifying all of it,
// and marks it as restored. An existing journal is moved aside, never
// overwritten.
func Restore(backup, dir string, trust rpc.Trust) (index uint64, err error) {
	work, err := os.MkdirTemp(dir, "restore-")
	if err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := copyFile(backup, filepath.Join(work, FileName)); err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	j, err := Open(work, trust, nil)
	if err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	index = j.Index()
	err = j.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyRestored, []byte{1}) })
	if cerr := j.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	target := filepath.Join(dir, FileName)
	if _, err := os.Stat(target); err == nil {
		aside := fmt.Sprintf("%s.before-restore-%d", target, time.Now().Unix())
		if err := os.Rename(target, aside); err != nil {
			return 0, fmt.Errorf("restore journal: move the old one aside: %w", err)
		}
	}
	if err := os.Rename(filepath.Join(work, FileName), target); err != nil {
		return 0, fmt.Errorf("restore journal: %w", err)
	}
	return index, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	if err := out.Sync(); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
