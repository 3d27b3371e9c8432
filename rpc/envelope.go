package rpc

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// Version is the version of the signed formats. A message of another version is
// refused, not guessed at.
const Version = 1

// Domain separates the kinds of signed messages: a signature over one kind
// never counts for another.
type Domain uint32

// The domains.
const (
	DomainBlock Domain = iota + 1
	DomainStatement
	DomainEnrollment
	DomainAnswer
	DomainAgreement
	DomainLeaseGrant
	DomainLeaseRequest
	DomainLapse
	DomainFence
	DomainAttest
	DomainMandate
	DomainVoter
	DomainVoters
)

// SigningInput returns the bytes that are signed: a fixed tag, version, domain,
// cluster and payload, each with its length (the pre-authentication encoding of
// DSSE, with the domain in place of a media type).
func SigningInput(d Domain, cluster string, payload []byte) []byte {
	out := make([]byte, 0, len("signalbox")+4+4+8+len(cluster)+8+len(payload))
	out = append(out, "signalbox"...)
	out = binary.BigEndian.AppendUint32(out, Version)
	out = binary.BigEndian.AppendUint32(out, uint32(d))
	out = binary.BigEndian.AppendUint64(out, uint64(len(cluster)))
	out = append(out, cluster...)
	out = binary.BigEndian.AppendUint64(out, uint64(len(payload)))
	return append(out, payload...)
}

// Fingerprint is the first 16 bytes of the SHA-256 of a public key.
func Fingerprint(public ed25519.PublicKey) [16]byte {
	sum := sha256.Sum256(public)
	return [16]byte(sum[:16])
}

// IdentityOf returns the identity that a public key stands for.
func IdentityOf(public ed25519.PublicKey) signalbox.Identity {
	fp := Fingerprint(public)
	return signalbox.Identity(hex.EncodeToString(fp[:]))
}

func identityBytes(id signalbox.Identity) ([]byte, error) {
	b, err := hex.DecodeString(string(id))
	if err != nil || len(b) != 16 || hex.EncodeToString(b) != string(id) {
		return nil, fmt.Errorf("%w: identity %q: want 32 hexadecimal digits", signalbox.ErrInvalid, id)
	}
	return b, nil
}

// IdentityFromBytes reads the 16 bytes of an identity.
func IdentityFromBytes(b []byte) (signalbox.Identity, error) {
	if len(b) != 16 {
		return "", fmt.Errorf("%w: identity has %d bytes, want 16", signalbox.ErrInvalid, len(b))
	}
	return signalbox.Identity(hex.EncodeToString(b)), nil
}

// IdentityToBytes is the inverse of IdentityFromBytes; nil for what is no identity.
func IdentityToBytes(id signalbox.Identity) []byte {
	b, err := identityBytes(id)
	if err != nil {
		return nil
	}
	return b
}

// Seal signs a payload and returns the envelope's bytes.
func Seal(d Domain, cluster string, payload []byte, key ed25519.PrivateKey) ([]byte, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: signing key has %d bytes", signalbox.ErrInvalid, len(key))
	}
	fp := Fingerprint(public)
	return proto.Marshal(&wire.Envelope{
		Version:   Version,
		Domain:    uint32(d),
		Payload:   payload,
		Signer:    fp[:],
		Signature: ed25519.Sign(key, SigningInput(d, cluster, payload)),
	})
}

// KeyLookup returns the public key of an identity, or nil when it is not known.
type KeyLookup func(signalbox.Identity) ed25519.PublicKey

// Open checks an envelope and returns its payload and signer. The error wraps
// ErrInvalid (malformed), ErrUnknown (no such signer) or ErrUntrusted (the
// signature is not the signer's over these bytes for this cluster).
func Open(d Domain, cluster string, raw []byte, limit int, keys KeyLookup) ([]byte, signalbox.Identity, error) {
	return open(d, cluster, raw, limit, keys, ed25519.Verify)
}

func open(d Domain, cluster string, raw []byte, limit int, keys KeyLookup, verify SingleVerifier) ([]byte, signalbox.Identity, error) {
	env, signer, err := peek(d, raw, limit)
	if err != nil {
		return nil, "", err
	}
	key := keys(signer)
	if key == nil {
		return nil, signer, fmt.Errorf("%w: signer %s", signalbox.ErrUnknown, signer)
	}
	if len(key) != ed25519.PublicKeySize || IdentityOf(key) != signer {
		return nil, signer, fmt.Errorf("%w: key does not belong to signer %s", signalbox.ErrUntrusted, signer)
	}
	if !verify(key, SigningInput(d, cluster, env.Payload), env.Signature) {
		return nil, signer, fmt.Errorf("%w: signature of %s does not fit (another key, another cluster or changed bytes)", signalbox.ErrUntrusted, signer)
	}
	return env.Payload, signer, nil
}

func peek(d Domain, raw []byte, limit int) (*wire.Envelope, signalbox.Identity, error) {
	if len(raw) == 0 || len(raw) > limit {
		return nil, "", fmt.Errorf("%w: signed message has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), limit)
	}
	var env wire.Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return nil, "", fmt.Errorf("%w: signed message: %w", signalbox.ErrInvalid, err)
	}
	if env.Version != Version {
		return nil, "", fmt.Errorf("%w: signed message of version %d, this program speaks %d", signalbox.ErrInvalid, env.Version, Version)
	}
	if env.Domain != uint32(d) {
		return nil, "", fmt.Errorf("%w: signed message of domain %d where %d is due", signalbox.ErrInvalid, env.Domain, d)
	}
	if len(env.Signature) != ed25519.SignatureSize {
		return nil, "", fmt.Errorf("%w: signature has %d bytes", signalbox.ErrInvalid, len(env.Signature))
	}
	signer, err := IdentityFromBytes(env.Signer)
	return &env, signer, err
}
