package rpc

import (
	"crypto/ed25519"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// NonceSize is the length of a question's nonce in bytes.
const NonceSize = 32

// An Answer is a voter's signed reply to an instance that started: the newest
// handover block of the service that the voter voted for (interlock rule 2).
type Answer struct {
	Voter    string
	Service  signalbox.Service
	Identity signalbox.Identity
	Nonce    []byte
	// Index is the log index of that block, 0 when there is none.
	Index   uint64
	Block   signalbox.Digest
	Allowed signalbox.EvidenceKinds
	Term    signalbox.Term
	// Beyond is the log index of the newest entry that allows more than acks and
	// leaves (a handover block of the service, or the announced removal of this
	// identity), 0 when there is none.
	Beyond uint64
	// Epoch numbers the newest voter set that the voter knows, or voted for: it
	// answers as part of that one.
	Epoch uint64
}

// SealAnswer signs an answer with the voter's key.
func SealAnswer(cluster string, a Answer, key ed25519.PrivateKey) ([]byte, error) {
	m := &wire.Answer{
		Voter: a.Voter, Service: string(a.Service), Identity: IdentityToBytes(a.Identity), Nonce: a.Nonce,
		Index: a.Index, Allowed: uint32(a.Allowed), Term: uint64(a.Term), Beyond: a.Beyond, Epoch: a.Epoch,
	}
	if !a.Block.IsZero() {
		m.Block = a.Block[:]
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return Seal(DomainAnswer, cluster, payload, key)
}

// OpenAnswer verifies an answer; keys looks a voter up by the fingerprint of
// its key. The signer is returned so that the caller counts each voter once.
func OpenAnswer(cluster string, raw []byte, keys KeyLookup) (Answer, signalbox.Identity, error) {
	payload, signer, err := Open(DomainAnswer, cluster, raw, MaxEnrollment, keys)
	if err != nil {
		return Answer{}, "", fmt.Errorf("open answer: %w", err)
	}
	var m wire.Answer
	if err := proto.Unmarshal(payload, &m); err != nil {
		return Answer{}, "", fmt.Errorf("%w: answer: %w", signalbox.ErrInvalid, err)
	}
	block, err := digestFrom(m.Block)
	if err != nil {
		return Answer{}, "", err
	}
	id, err := IdentityFromBytes(m.Identity)
	if err != nil {
		return Answer{}, "", err
	}
	if len(m.Nonce) != NonceSize || m.Allowed > 0xff {
		return Answer{}, "", fmt.Errorf("%w: answer's nonce has %d bytes, or it allows evidence %#x", signalbox.ErrInvalid, len(m.Nonce), m.Allowed)
	}
	if err := signalbox.CheckName("service", m.Service); err != nil {
		return Answer{}, "", err
	}
	return Answer{
		Voter: m.Voter, Service: signalbox.Service(m.Service), Identity: id, Nonce: m.Nonce,
		Index: m.Index, Block: block, Allowed: signalbox.EvidenceKinds(m.Allowed), Term: signalbox.Term(m.Term), Beyond: m.Beyond,
		Epoch: m.Epoch,
	}, signer, nil
}
