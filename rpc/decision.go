package rpc

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// DecisionInput returns what a voter signs when it votes for a block to be
// decided. With several voters the view in which it votes is part of it: shares
// of different views must not add up to a quorum (membership/agreement,
// DESIGN.md). View 0 is the vote of a cluster's only voter.
//
// The leading zero byte keeps it apart from the agreement's other signed
// messages, which are protobuf messages: no field has the number 0.
func DecisionInput(cluster string, view uint64, block []byte) []byte {
	if view == 0 {
		return SigningInput(DomainBlock, cluster, block)
	}
	payload := make([]byte, 1, 1+8+len(block))
	payload = binary.BigEndian.AppendUint64(payload, view)
	return SigningInput(DomainAgreement, cluster, append(payload, block...))
}

// SealDecision joins a block's bytes and the combined signature of a quorum
// over them and a view.
func SealDecision(block []byte, view uint64, scheme string, signature []byte) (*signalbox.DecidedBlock, error) {
	raw, err := proto.Marshal(&wire.QuorumEnvelope{Version: Version, Scheme: scheme, Block: block, Signature: signature, View: view})
	if err != nil {
		return nil, fmt.Errorf("seal block: %w", err)
	}
	b, err := decodeBlock(block)
	if err != nil {
		return nil, err
	}
	return &signalbox.DecidedBlock{Block: *b, Digest: BlockDigest(block), Raw: raw}, nil
}

// DecodeBlock reads the bytes of a proposed block. It refuses bytes that
// EncodeBlock would not have made: what one voter does not know and another one
// does must not be signed by both.
func DecodeBlock(raw []byte) (*signalbox.Block, error) {
	if len(raw) > MaxBlock/2 {
		return nil, fmt.Errorf("%w: block has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxBlock/2)
	}
	b, err := decodeBlock(raw)
	if err != nil {
		return nil, err
	}
	again, err := EncodeBlock(b)
	if err != nil {
		return nil, err
	}
	if string(again) != string(raw) {
		return nil, fmt.Errorf("%w: the block has fields that this program does not know", signalbox.ErrInvalid)
	}
	return b, nil
}
