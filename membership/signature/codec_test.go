package signature

import (
	"bytes"
	"testing"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// TestIdentityProvesNothing guards that the identity is never a key's signature,
// not even where keys cancel each other out and the equation would hold.
func TestIdentityProvesNothing(t *testing.T) {
	var key bls.G2Affine
	var sig bls.G1Affine
	if fits(&key, []byte("block 8"), multiDomain, &sig) {
		t.Error("the identity signed for the identity")
	}
}

// FuzzPoints guards that each point has one encoding: what is read is written
// the same.
func FuzzPoints(f *testing.F) {
	k := &multiKey{}
	k.scalar.SetUint64(4711)
	public, err := k.public()
	if err != nil {
		f.Fatal(err)
	}
	sig, err := k.sign([]byte("block 8"), multiDomain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(public)
	f.Add(sig)
	f.Add(append([]byte{0xc0}, make([]byte, 47)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := parseMultiSignature(data); err == nil {
			if again := p.Bytes(); !bytes.Equal(again[:], data) || !p.IsInSubGroup() || p.IsInfinity() {
				t.Errorf("G1: %x is read as %x", data, again)
			}
		}
		if p, err := parsePublicMultiKey(data); err == nil {
			if again := p.Bytes(); !bytes.Equal(again[:], data) || !p.IsInSubGroup() || p.IsInfinity() {
				t.Errorf("G2: %x is read as %x", data, again)
			}
		}
	})
}

// FuzzSecret guards that a private key has one encoding.
func FuzzSecret(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0x11}, MultiSecretSize))
	f.Add(make([]byte, MultiSecretSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := parseMultiKey(data); err == nil {
			if again := k.scalar.Bytes(); !bytes.Equal(again[:], data) || k.scalar.IsZero() {
				t.Errorf("%x is read as %x", data, again)
			}
		}
	})
}
