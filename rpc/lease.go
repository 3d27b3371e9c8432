package rpc

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// LeaseNonceSize is the length of a lease request's nonce in bytes.
const LeaseNonceSize = 16

// A Lease is what an instance asks the voters for, and what each of them grants
// it: the same in both, each signed by who says it.
type Lease struct {
	Service     signalbox.Service
	Term        signalbox.Term
	Identity    signalbox.Identity
	Admission   uint64
	Incarnation uint64
	Nonce       [LeaseNonceSize]byte
	TTL         time.Duration
	// Epoch numbers the voter set as part of which a grant is given; requests have
	// none.
	Epoch uint64
}

// SealLeaseRequest signs a request with the instance's key; its Identity is the
// key's, whatever l says.
func SealLeaseRequest(cluster string, l Lease, key ed25519.PrivateKey) ([]byte, error) {
	payload, err := proto.Marshal(&wire.LeaseRequest{
		Service: string(l.Service), Term: uint64(l.Term), Admission: l.Admission, Incarnation: l.Incarnation,
		Nonce: l.Nonce[:], TtlNano: int64(l.TTL),
	})
	if err != nil {
		return nil, fmt.Errorf("encode lease request: %w", err)
	}
	return Seal(DomainLeaseRequest, cluster, payload, key)
}

// OpenLeaseRequest verifies a request; keys looks the instance's key up. Errors
// as Open.
func OpenLeaseRequest(cluster string, raw []byte, keys KeyLookup) (Lease, error) {
	payload, signer, err := Open(DomainLeaseRequest, cluster, raw, MaxStatement, keys)
	if err != nil {
		return Lease{}, fmt.Errorf("open lease request: %w", err)
	}
	return leaseRequestFrom(payload, signer)
}

// InspectLeaseRequest reads a request without verifying its signature: for
// passing it on, never for granting it.
func InspectLeaseRequest(raw []byte) (Lease, error) {
	env, signer, err := peek(DomainLeaseRequest, raw, MaxStatement)
	if err != nil {
		return Lease{}, fmt.Errorf("inspect lease request: %w", err)
	}
	return leaseRequestFrom(env.Payload, signer)
}

func leaseRequestFrom(payload []byte, signer signalbox.Identity) (Lease, error) {
	var m wire.LeaseRequest
	if err := proto.Unmarshal(payload, &m); err != nil {
		return Lease{}, fmt.Errorf("%w: lease request: %w", signalbox.ErrInvalid, err)
	}
	l := Lease{
		Service: signalbox.Service(m.Service), Term: signalbox.Term(m.Term), Identity: signer, Admission: m.Admission,
		Incarnation: m.Incarnation, TTL: time.Duration(m.TtlNano),
	}
	return l, l.take(m.Nonce)
}

// SealLeaseGrant signs a grant with the voter's key.
func SealLeaseGrant(cluster string, l Lease, key ed25519.PrivateKey) ([]byte, error) {
	id, err := identityBytes(l.Identity)
	if err != nil {
		return nil, fmt.Errorf("encode lease grant: %w", err)
	}
	payload, err := proto.Marshal(&wire.LeaseGrant{
		Identity: id, Service: string(l.Service), Term: uint64(l.Term), Admission: l.Admission, Incarnation: l.Incarnation,
		Nonce: l.Nonce[:], TtlNano: int64(l.TTL), Epoch: l.Epoch,
	})
	if err != nil {
		return nil, fmt.Errorf("encode lease grant: %w", err)
	}
	return Seal(DomainLeaseGrant, cluster, payload, key)
}

// OpenLeaseGrant verifies a grant; keys looks a voter up by the fingerprint of
// its key. The signer is returned so that the caller counts each voter once.
func OpenLeaseGrant(cluster string, raw []byte, keys KeyLookup) (Lease, signalbox.Identity, error) {
	payload, signer, err := Open(DomainLeaseGrant, cluster, raw, MaxStatement, keys)
	if err != nil {
		return Lease{}, "", fmt.Errorf("open lease grant: %w", err)
	}
	var m wire.LeaseGrant
	if err := proto.Unmarshal(payload, &m); err != nil {
		return Lease{}, "", fmt.Errorf("%w: lease grant: %w", signalbox.ErrInvalid, err)
	}
	id, err := IdentityFromBytes(m.Identity)
	if err != nil {
		return Lease{}, "", err
	}
	l := Lease{
		Service: signalbox.Service(m.Service), Term: signalbox.Term(m.Term), Identity: id, Admission: m.Admission,
		Incarnation: m.Incarnation, TTL: time.Duration(m.TtlNano), Epoch: m.Epoch,
	}
	return l, signer, l.take(m.Nonce)
}

// take checks the form, and takes the nonce.
func (l *Lease) take(nonce []byte) error {
	if err := signalbox.CheckName("service", string(l.Service)); err != nil {
		return err
	}
	if len(nonce) != LeaseNonceSize {
		return fmt.Errorf("%w: lease nonce has %d bytes, want %d", signalbox.ErrInvalid, len(nonce), LeaseNonceSize)
	}
	if l.Term == 0 || l.TTL < signalbox.MinLeaseTTL || l.TTL > signalbox.MaxLeaseTTL {
		return fmt.Errorf("%w: lease of %s for term %d: want a term, and %s to %s", signalbox.ErrInvalid, l.TTL, l.Term, signalbox.MinLeaseTTL, signalbox.MaxLeaseTTL)
	}
	l.Nonce = [LeaseNonceSize]byte(nonce)
	return nil
}

// DecodeTestimony reads a testimony that somebody asks to be signed. It checks
// form, not rules.
func DecodeTestimony(kind signalbox.StatementKind, payload []byte) (Testimony, error) {
	if len(payload) > MaxEvidence {
		return Testimony{}, fmt.Errorf("%w: testimony has %d bytes, at most %d", signalbox.ErrInvalid, len(payload), MaxEvidence)
	}
	return testimonyFrom(kind, payload)
}
