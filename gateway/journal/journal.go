// Package journal keeps the agreed log and what a gateway needs beside it on
// disk: one bbolt file per gateway.
//
// Guarantees: a block that Append or Propose returned for is on stable storage
// (fsync) and in the Ledger; blocks stand in the order of their indexes, each
// verified against the voters' keys before it was written; a file whose log
// does not verify is not opened. The oldest of them may be gone: a snapshot that
// a quorum of voters agreed on stands in their place (Compact). Reads see the newest state and never block on
// the disk.
//
// It does not guarantee that this copy is the newest: a follower may be behind,
// and a restored backup is old by nature (see Restored).
package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc"
)

// FileName is the journal's file in a gateway's state directory.
const FileName = "journal.db"

var (
	bucketBlocks    = []byte("blocks")    // big-endian index -> decided block
	bucketNotes     = []byte("notes")     // certificates, endpoints, statements: "kind/key" -> bytes
	bucketRecords   = []byte("records")   // big-endian start, id -> cutover record
	bucketRecordIDs = []byte("recordids") // handover id -> key in records
	bucketMeta      = []byte("meta")
	keyRestored     = []byte("restored")
	keyCluster      = []byte("cluster")
)

// A Journal is the agreed log on this gateway's disk. Safe for concurrent use.
type Journal struct {
	db         *bolt.DB
	trust      rpc.Trust
	enrollment func([]byte) (signalbox.Instance, error)
	every      uint64 // after how many blocks a snapshot is due

	mu       sync.Mutex // guards the fields below; never held over a disk write
	ledger   *handover.Ledger
	newest   *signalbox.DecidedBlock // appended last since the start
	kept     kept
	first    uint64 // from here on every block is in the file
	changed  chan struct{}
	restored bool
	failed   error // a write whose end is not known: nothing more is decided
	broken   chan struct{}

	write   sync.Mutex // serialises Append and PutRecord; taken before mu
	records int        // in the bucket; guarded by write
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

// View calls f with the ledger; f must not keep it.
func (j *Journal) View(f func(*handover.Ledger)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j.ledger)
}

// SetRules sets the safety rules of this gateway's configuration, which its voter
// checks.
func (j *Journal) SetRules(rules map[signalbox.Service]policy.Rules) {
	j.View(func(l *handover.Ledger) { l.SetRules(rules) })
}

// SetMandates sets what verifies operators' signatures, which its voter checks.
func (j *Journal) SetMandates(verify func(proof []byte, at time.Time) (*signalbox.Mandate, error)) {
	j.View(func(l *handover.Ledger) { l.SetMandates(verify) })
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
// block that is there already is no error; one further ahead is ErrConflict, and
// another one at an index that is taken is ErrUntrusted: a voter lost its state.
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
	index, err := j.ledger.Index(), j.failed
	if err == nil && b.Index == index+1 {
		err = j.ledger.Accepts(b) // what does not apply is not written
	}
	j.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("append block %d: %w", b.Index, err)
	case b.Index <= index:
		return j.sameBlock(b)
	case b.Index != index+1:
		return fmt.Errorf("append block %d: %w: the newest here is %d", b.Index, signalbox.ErrConflict, index)
	}
	if err := j.update("append", func(tx *bolt.Tx) error { return putBlock(tx, b) }); err != nil {
		return j.fail(b.Index, err)
	}
	// On the disk: only now may anybody see it.
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.ledger.Apply(b); err != nil {
		return j.failLocked(b.Index, fmt.Errorf("it was accepted and does not apply: %w", err))
	}
	j.newest = b
	close(j.changed)
	j.changed = make(chan struct{})
	return nil
}

func putBlock(tx *bolt.Tx, b *signalbox.DecidedBlock) error {
	return tx.Bucket(bucketBlocks).Put(binary.BigEndian.AppendUint64(nil, b.Index), b.Raw)
}

// fail ends this journal's writing: after a failed write nobody knows whether
// the block is on the disk, so no other may be decided in its place. Opening the
// file again finds out.
func (j *Journal) fail(index uint64, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failLocked(index, err)
}

func (j *Journal) failLocked(index uint64, err error) error {
	if j.failed == nil {
		close(j.broken)
	}
	j.failed = fmt.Errorf("%w: writing block %d to the journal failed (%w); look at the disk, then start this gateway again", signalbox.ErrUnavailable, index, err)
	return j.failed
}

// Failed returns why nothing more can be written, or nil.
func (j *Journal) Failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// Broken returns a channel that is closed when the journal has failed: the
// process should end, and find out at its next start what is on the disk.
func (j *Journal) Broken() <-chan struct{} { return j.broken }

// sameBlock returns nil when b is what stands at its index, or when what stood
// there is not kept any more.
func (j *Journal) sameBlock(b *signalbox.DecidedBlock) error {
	if !j.Has(b.Index) {
		return nil
	}
	have, err := j.Block(b.Index)
	if err != nil {
		return fmt.Errorf("append block %d: %w", b.Index, err)
	}
	if have.Digest != b.Digest {
		return fmt.Errorf("append block %d: %w: this log has %s there, the other %s; a voter lost part of its log and decided again: keep the older history, give that voter a new key", b.Index, signalbox.ErrUntrusted, have.Digest, b.Digest)
	}
	return nil
}

// Blocks returns up to most decided blocks from an index on, verbatim; none when
// that one is not here.
func (j *Journal) Blocks(from uint64, most int) ([][]byte, error) {
	var out [][]byte
	err := j.db.View(func(tx *bolt.Tx) error {
		c, first := tx.Bucket(bucketBlocks).Cursor(), binary.BigEndian.AppendUint64(nil, from)
		for k, v := c.Seek(first); k != nil && len(out) < most; k, v = c.Next() {
			if len(out) == 0 && !bytes.Equal(k, first) {
				return nil
			}
			out = append(out, append([]byte(nil), v...))
		}
		return nil
	})
	return out, err
}

// Block returns the decided block of an index; ErrUnknown when it is not here,
// or not any more. Callers must not change it.
func (j *Journal) Block(index uint64) (*signalbox.DecidedBlock, error) {
	j.mu.Lock()
	newest, carried := j.newest, j.kept.blocks[index]
	j.mu.Unlock()
	if newest != nil && newest.Index == index {
		return newest, nil // verified when it came
	}
	if carried != nil {
		return carried, nil
	}
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

// Restored reports whether the journal came from a backup, or is doubted, and
// has not caught up since. A voter must not vote from it: it might have voted
// for more.
func (j *Journal) Restored() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.restored
}

// Doubt makes the journal count as restored until CaughtUp: the caller knows of
// a reason why it might be older than what this voter voted for, such as being
// empty (interlock rule 8).
func (j *Journal) Doubt() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.restored = true
}

// CaughtUp says that every other gateway was asked and this log is as new as
// the newest of theirs: a restored journal counts as current from now on.
func (j *Journal) CaughtUp() error {
	err := j.update("caught-up", func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyRestored) })
	if err != nil {
		return fmt.Errorf("mark journal as caught up: %w", err)
	}
	j.mu.Lock()
	j.restored = false
	j.mu.Unlock()
	return nil
}
