package rpc

import (
	"crypto/ed25519"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// SealStatement signs a statement; its Identity is the key's, whatever s says.
// The envelope has at most MaxStatement bytes.
func SealStatement(cluster string, s signalbox.Statement, key ed25519.PrivateKey) (signalbox.Evidence, error) {
	if len(s.Address) > signalbox.MaxAddress {
		return signalbox.Evidence{}, fmt.Errorf("%w: address has %d bytes, at most %d", signalbox.ErrInvalid, len(s.Address), signalbox.MaxAddress)
	}
	if err := checkPosition(s); err != nil {
		return signalbox.Evidence{}, err
	}
	if err := signalbox.CheckName("service", string(s.Service)); err != nil {
		return signalbox.Evidence{}, err
	}
	if s.Kind < signalbox.SaysDrained || s.Kind > signalbox.SaysServing {
		return signalbox.Evidence{}, fmt.Errorf("%w: statement of kind %d", signalbox.ErrInvalid, s.Kind)
	}
	m := &wire.Statement{
		Kind: uint32(s.Kind), Service: string(s.Service), Term: uint64(s.Term),
		Incarnation: s.Incarnation, Admission: s.Admission, Address: s.Address, Position: s.Position,
	}
	if !s.Block.IsZero() {
		m.Block = s.Block[:]
	}
	payload, err := proto.Marshal(m)
	if err != nil {
		return signalbox.Evidence{}, fmt.Errorf("encode statement: %w", err)
	}
	raw, err := Seal(DomainStatement, cluster, payload, key)
	if err != nil {
		return signalbox.Evidence{}, fmt.Errorf("seal statement: %w", err)
	}
	if len(raw) > MaxStatement {
		return signalbox.Evidence{}, fmt.Errorf("%w: statement has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxStatement)
	}
	s.Identity = IdentityOf(key.Public().(ed25519.PublicKey))
	return signalbox.Evidence{Statement: s, Envelope: raw}, nil
}

// OpenStatement verifies a statement; errors as Open.
func OpenStatement(cluster string, raw []byte, keys KeyLookup) (signalbox.Evidence, error) {
	return openStatement(cluster, raw, keys, ed25519.Verify)
}

func openStatement(cluster string, raw []byte, keys KeyLookup, verify SingleVerifier) (signalbox.Evidence, error) {
	payload, signer, err := open(DomainStatement, cluster, raw, MaxStatement, keys, verify)
	if err != nil {
		return signalbox.Evidence{}, fmt.Errorf("open statement: %w", err)
	}
	s, err := statementFrom(payload, signer)
	return signalbox.Evidence{Statement: s, Envelope: raw}, err
}

// InspectStatement reads a statement without verifying its signature: for
// passing it on, never for acting on it.
func InspectStatement(raw []byte) (signalbox.Statement, error) {
	env, signer, err := peek(DomainStatement, raw, MaxStatement)
	if err != nil {
		return signalbox.Statement{}, fmt.Errorf("inspect statement: %w", err)
	}
	return statementFrom(env.Payload, signer)
}

func statementFrom(payload []byte, signer signalbox.Identity) (signalbox.Statement, error) {
	var m wire.Statement
	if err := proto.Unmarshal(payload, &m); err != nil {
		return signalbox.Statement{}, fmt.Errorf("%w: statement: %w", signalbox.ErrInvalid, err)
	}
	s := signalbox.Statement{
		Kind: signalbox.StatementKind(m.Kind), Service: signalbox.Service(m.Service), Identity: signer,
		Incarnation: m.Incarnation, Term: signalbox.Term(m.Term), Admission: m.Admission, Address: m.Address, Position: m.Position,
	}
	if m.Kind < uint32(signalbox.SaysDrained) || m.Kind > uint32(signalbox.SaysServing) {
		return signalbox.Statement{}, fmt.Errorf("%w: statement of kind %d", signalbox.ErrInvalid, m.Kind)
	}
	if err := signalbox.CheckName("service", m.Service); err != nil {
		return signalbox.Statement{}, err
	}
	if len(m.Address) > signalbox.MaxAddress {
		return signalbox.Statement{}, fmt.Errorf("%w: statement's address has %d bytes", signalbox.ErrInvalid, len(m.Address))
	}
	if err := checkPosition(s); err != nil {
		return signalbox.Statement{}, err
	}
	var err error
	s.Block, err = digestFrom(m.Block)
	return s, err
}

// checkPosition returns nil when the statement may carry its position: room for
// it is made by acks and leaves having no address.
func checkPosition(s signalbox.Statement) error {
	switch {
	case len(s.Position) == 0:
		return nil
	case s.Kind != signalbox.SaysAck && s.Kind != signalbox.SaysLeave, s.Address != "":
		return fmt.Errorf("%w: a %s with a position", signalbox.ErrInvalid, s.Kind)
	case len(s.Position) > signalbox.MaxPosition:
		return fmt.Errorf("%w: position has %d bytes, at most %d", signalbox.ErrInvalid, len(s.Position), signalbox.MaxPosition)
	}
	return nil
}

// StatementKey names a statement for sets in which each stands once.
func StatementKey(s signalbox.Statement) string {
	return fmt.Sprintf("%s/%d/%s/%d/%d/%d/%x", s.Service, s.Term, s.Identity, s.Incarnation, s.Kind, s.Admission, s.Block[:8])
}

// digestFrom reads 32 bytes, or none for the zero digest.
func digestFrom(b []byte) (signalbox.Digest, error) {
	switch len(b) {
	case 0:
		return signalbox.Digest{}, nil
	case 32:
		return signalbox.Digest(b), nil
	}
	return signalbox.Digest{}, fmt.Errorf("%w: digest has %d bytes, want 32", signalbox.ErrInvalid, len(b))
}
