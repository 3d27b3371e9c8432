package rpc

import (
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// stateDomain keeps the digest of a state apart from that of anything else.
const stateDomain = "signalbox ledger state\x00"

// StateDigest is the digest that a snapshot request names: of a state's bytes.
func StateDigest(state []byte) signalbox.Digest {
	h := sha256.New()
	h.Write([]byte(stateDomain))
	h.Write(state)
	return signalbox.Digest(h.Sum(nil))
}

// A SnapshotFile is a snapshot with what verifies it.
type SnapshotFile struct {
	// State is the encoded state, verbatim; Proof the block that decided its
	// digest.
	State []byte
	Proof *signalbox.DecidedBlock
	// Snapshot is what the proof agrees on.
	Snapshot signalbox.Snapshot
	// Blocks are those that the state speaks of, verified to be of a quorum, not
	// to be those that are meant: see handover.Restore.
	Blocks []*signalbox.DecidedBlock
}

// EncodeSnapshot returns the bytes that OpenSnapshot reads.
func EncodeSnapshot(state []byte, proof *signalbox.DecidedBlock, blocks []*signalbox.DecidedBlock) ([]byte, error) {
	m := &wire.SnapshotFile{State: state, Proof: proof.Raw}
	for _, b := range blocks {
		m.Blocks = append(m.Blocks, b.Raw)
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	if len(raw) > MaxSnapshot {
		return nil, fmt.Errorf("%w: snapshot has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxSnapshot)
	}
	return raw, nil
}

// OpenSnapshot verifies a snapshot against the voters' keys: a quorum decided the
// digest of exactly this state. Errors wrap ErrInvalid or ErrUntrusted.
func OpenSnapshot(trust Trust, raw []byte) (*SnapshotFile, error) {
	if len(raw) == 0 || len(raw) > MaxSnapshot {
		return nil, fmt.Errorf("%w: snapshot has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxSnapshot)
	}
	var m wire.SnapshotFile
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: snapshot: %w", signalbox.ErrInvalid, err)
	}
	if len(m.State) > MaxState {
		return nil, fmt.Errorf("%w: snapshot's state has %d bytes, at most %d", signalbox.ErrInvalid, len(m.State), MaxState)
	}
	// The blocks come by index, and those that changed the voters are among them:
	// each is verified by the epoch before it, and the proof by the last one.
	var blocks []*signalbox.DecidedBlock
	for _, raw := range m.Blocks {
		b, err := OpenBlock(trust, raw)
		if err == nil && b.Voters() != nil && trust.Epochs != nil {
			err = trust.Epochs.Take(b)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot's block: %w", err)
		}
		blocks = append(blocks, b)
	}
	proof, err := OpenBlock(trust, m.Proof)
	if err != nil {
		return nil, fmt.Errorf("snapshot's proof: %w", err)
	}
	decided := proof.Snapshot()
	switch {
	case decided == nil:
		return nil, fmt.Errorf("%w: block %d decides no snapshot", signalbox.ErrUntrusted, proof.Index)
	case decided.Digest != StateDigest(m.State):
		return nil, fmt.Errorf("%w: the state is not what block %d decided of block %d", signalbox.ErrUntrusted, proof.Index, decided.Index)
	case decided.Index >= proof.Index:
		return nil, fmt.Errorf("%w: block %d decides a snapshot of block %d", signalbox.ErrUntrusted, proof.Index, decided.Index)
	}
	return &SnapshotFile{State: m.State, Proof: proof, Snapshot: *decided, Blocks: blocks}, nil
}

// BlockSize is how many bytes were signed of a decided block: the same for all
// who have it, whoever signed theirs.
func BlockSize(b *signalbox.DecidedBlock) int {
	var m wire.QuorumEnvelope
	if err := proto.Unmarshal(b.Raw, &m); err != nil {
		return 0
	}
	return len(m.Block)
}
