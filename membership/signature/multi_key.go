package signature

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"github.com/signalbox-io/signalbox"
)

// Sizes in bytes of what Multi reads and writes.
const (
	// MultiSignatureSize is a share's length and the aggregate's: a compressed
	// point of G1.
	MultiSignatureSize = bls.SizeOfG1AffineCompressed
	// MultiKeySize is a public key's length: a compressed point of G2.
	MultiKeySize = bls.SizeOfG2AffineCompressed
	// MultiSecretSize is a private key's length: a scalar, big-endian.
	MultiSecretSize = fr.Bytes
)

// The domain separation tags of draft-irtf-cfrg-bls-signature-05, section
// 4.2.3: minimal signature size, proof of possession.
const (
	multiDomain = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
	proofDomain = "BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
)

// A multiKey is a voter's private key; its scalar is never zero.
type multiKey struct{ scalar fr.Element }

// NewMultiKey makes a voter's key for Multi: the private key, the public key
// and the proof that its maker holds both.
func NewMultiKey() (secret, public, proof []byte, err error) {
	seed := make([]byte, 32)
	if _, err := rand.Read(seed); err != nil {
		return nil, nil, nil, fmt.Errorf("make voter key: %w", err)
	}
	secret, err = deriveMultiKey(seed)
	clear(seed)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make voter key: %w", err)
	}
	k, err := parseMultiKey(secret)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make voter key: %w", err)
	}
	if public, err = k.public(); err != nil {
		return nil, nil, nil, fmt.Errorf("make voter key: %w", err)
	}
	if proof, err = k.sign(public, proofDomain); err != nil {
		return nil, nil, nil, fmt.Errorf("prove possession of voter key: %w", err)
	}
	return secret, public, proof, nil
}

// deriveMultiKey is KeyGen of the draft, section 2.3, with an empty key_info;
// seed has at least 32 bytes.
func deriveMultiKey(seed []byte) ([]byte, error) {
	const length = 48 // ceil(3 * ceil(log2(r)) / 16)
	salt := []byte("BLS-SIG-KEYGEN-SALT-")
	for {
		digest := sha256.Sum256(salt)
		salt = digest[:]
		prk, err := hkdf.Extract(sha256.New, append(bytes.Clone(seed), 0), salt)
		if err != nil {
			return nil, err
		}
		okm, err := hkdf.Expand(sha256.New, prk, string([]byte{0, length}), length)
		if err != nil {
			return nil, err
		}
		var s fr.Element
		if s.SetBytes(okm); !s.IsZero() {
			out := s.Bytes()
			return out[:], nil
		}
	}
}

func parseMultiKey(secret []byte) (*multiKey, error) {
	k := &multiKey{}
	if len(secret) != MultiSecretSize || k.scalar.SetBytesCanonical(secret) != nil || k.scalar.IsZero() {
		return nil, fmt.Errorf("%w: a BLS12-381 private key is a number from 1 to the group's order in %d bytes", signalbox.ErrInvalid, MultiSecretSize)
	}
	return k, nil
}

// blind splits the key for one use: first * second is the key, and each of them
// alone is a uniformly random number. gnark-crypto's scalar multiplication takes
// a time that depends on the scalar; so it gets these instead of the key.
func (k *multiKey) blind() (first, second *big.Int, err error) {
	var r, inverse, rest fr.Element
	for r.IsZero() {
		if _, err := r.SetRandom(); err != nil {
			return nil, nil, fmt.Errorf("blind voter key: %w", err)
		}
	}
	rest.Mul(&k.scalar, inverse.Inverse(&r))
	first, second = r.BigInt(new(big.Int)), rest.BigInt(new(big.Int))
	r.SetZero()
	inverse.SetZero()
	rest.SetZero()
	return first, second, nil
}

// public computes the public key.
func (k *multiKey) public() ([]byte, error) {
	first, second, err := k.blind()
	if err != nil {
		return nil, err
	}
	_, _, _, p := bls.Generators()
	p.ScalarMultiplication(&p, first).ScalarMultiplication(&p, second)
	out := p.Bytes()
	return out[:], nil
}

// sign computes a signature: the key times the message's point, blinded.
func (k *multiKey) sign(message []byte, domain string) ([]byte, error) {
	p, err := bls.HashToG1(message, []byte(domain))
	if err != nil {
		return nil, fmt.Errorf("hash to curve: %w", err)
	}
	first, second, err := k.blind()
	if err != nil {
		return nil, err
	}
	p.ScalarMultiplication(&p, first).ScalarMultiplication(&p, second)
	out := p.Bytes()
	return out[:], nil
}

// compressed reports whether an encoding says of itself that it is compressed
// and not the identity; both are the first byte's.
func compressed(b []byte) bool { return b[0]&0xc0 == 0x80 }

// parseMultiSignature reads a point of G1: in its one encoding, in the subgroup
// and not the identity.
func parseMultiSignature(b []byte) (p bls.G1Affine, err error) {
	if len(b) != MultiSignatureSize || !compressed(b) {
		return p, fmt.Errorf("%w: want a compressed point of G1 in %d bytes that is not the identity", signalbox.ErrInvalid, MultiSignatureSize)
	}
	if _, err := p.SetBytes(b); err != nil {
		return p, fmt.Errorf("%w: no point of G1: %w", signalbox.ErrInvalid, err)
	}
	return p, nil
}

// parsePublicMultiKey reads a point of G2: in its one encoding, in the subgroup
// and not the identity.
func parsePublicMultiKey(b []byte) (p bls.G2Affine, err error) {
	if len(b) != MultiKeySize || !compressed(b) {
		return p, fmt.Errorf("%w: want a compressed point of G2 in %d bytes that is not the identity", signalbox.ErrInvalid, MultiKeySize)
	}
	if _, err := p.SetBytes(b); err != nil {
		return p, fmt.Errorf("%w: no point of G2: %w", signalbox.ErrInvalid, err)
	}
	return p, nil
}

// fits reports whether signature is by key over message in domain:
// e(signature, g2) = e(H(message), key).
func fits(key *bls.G2Affine, message []byte, domain string, signature *bls.G1Affine) bool {
	if key.IsInfinity() || signature.IsInfinity() {
		return false
	}
	point, err := bls.HashToG1(message, []byte(domain))
	if err != nil {
		return false
	}
	_, _, _, g2 := bls.Generators()
	g2.Neg(&g2)
	ok, err := bls.PairingCheck([]bls.G1Affine{*signature, point}, []bls.G2Affine{g2, *key})
	return err == nil && ok
}
