package handover

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// When a snapshot is due: so many blocks, or bytes that voters signed, after the
// one before. All gateways have to agree on both: a voter knows what the log
// amounted to at these blocks only.
const (
	SnapshotBlocks = 1024
	SnapshotBytes  = 8 << 20
)

// A Candidate is what the log amounted to at a block where a snapshot is due.
type Candidate struct {
	signalbox.Snapshot
	// State is encoded; Blocks are those that it speaks of, by index.
	State  []byte
	Blocks []*signalbox.DecidedBlock
	// At is the time of the block.
	At time.Time
}

// snapshots are a ledger's.
type snapshots struct {
	every uint64
	// grown counts the bytes of the blocks since a candidate was taken.
	grown     int
	candidate *Candidate
	// failed is why the state could not be taken when it was due.
	failed error
	// decided is the index of the newest snapshot, proof the block that decided
	// it, nil when that was before this ledger began. agreed is what it is of, nil
	// when this ledger has something else there.
	decided uint64
	proof   *signalbox.DecidedBlock
	agreed  *Candidate
}

// SetSnapshotBlocks sets after how many blocks a snapshot is due, in place of
// SnapshotBlocks, at least 2: the block that decides one is no reason for the
// next. Before the first Apply, and alike in all voters.
func (l *Ledger) SetSnapshotBlocks(n uint64) { l.snapshots.every = max(n, 2) }

// takeSnapshot notes what the log amounts to now, where that is due.
func (l *Ledger) takeSnapshot(b *signalbox.DecidedBlock) {
	s := &l.snapshots
	s.grown += rpc.BlockSize(b)
	if b.Index%s.every != 0 && s.grown < SnapshotBytes {
		return
	}
	s.grown = 0
	s.candidate, s.failed = l.State()
}

// State returns what the log amounts to now.
func (l *Ledger) State() (*Candidate, error) {
	state, blocks, err := l.encode()
	if err != nil {
		return nil, fmt.Errorf("take snapshot of block %d: %w", l.index, err)
	}
	return &Candidate{
		Snapshot: signalbox.Snapshot{Index: l.index, Digest: rpc.StateDigest(state)}, State: state, Blocks: blocks, At: l.head.At,
	}, nil
}

// SnapshotDue returns the snapshot that should be proposed, or nil. An error says
// why none can be, although it is due.
func (l *Ledger) SnapshotDue() (*signalbox.Snapshot, error) {
	s := &l.snapshots
	if s.failed != nil || s.candidate == nil || s.candidate.Index <= s.decided || s.candidate.Index < l.begins() {
		return nil, s.failed
	}
	due := s.candidate.Snapshot
	return &due, nil
}

// Snapshotted returns the index of the newest snapshot that was decided, 0 for
// none, and, where this ledger has them, its content and the block that decided
// it.
func (l *Ledger) Snapshotted() (index uint64, content *Candidate, proof *signalbox.DecidedBlock) {
	return l.snapshots.decided, l.snapshots.agreed, l.snapshots.proof
}

// checkSnapshot: what is to stand in the place of the log is what this voter's
// own log amounts to.
func (l *Ledger) checkSnapshot(r *signalbox.Snapshot) error {
	s := &l.snapshots
	switch {
	case r.Index <= s.decided:
		return fmt.Errorf("%w: a snapshot of block %d is decided already", signalbox.ErrConflict, s.decided)
	case r.Index < l.begins():
		// The block that decides it has to be verified with what it stands for.
		return fmt.Errorf("%w: the voters were changed after block %d", signalbox.ErrConflict, r.Index)
	case s.candidate == nil || s.candidate.Index != r.Index:
		return fmt.Errorf("%w: this voter does not know what the log amounted to at block %d; ask again", signalbox.ErrConflict, r.Index)
	case s.candidate.Digest != r.Digest:
		return fmt.Errorf("%w: at block %d the log amounts to %s, the snapshot says %s; do all gateways run the same version?", signalbox.ErrRefused, r.Index, s.candidate.Digest, r.Digest)
	}
	return nil
}

func (l *Ledger) applySnapshot(b *signalbox.DecidedBlock, r *signalbox.Snapshot) {
	s := &l.snapshots
	if r.Index <= s.decided {
		return
	}
	s.decided, s.proof, s.agreed = r.Index, b, nil
	if s.candidate != nil && s.candidate.Snapshot == *r {
		s.agreed = s.candidate // the next may be due with this block
	}
}
