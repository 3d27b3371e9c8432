package signature_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/membership/signature/signaturetest"
)

const (
	sigDomain   = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
	proofDomain = "BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
)

// A textbook BLS key, made without the package under test.
type plainKey struct {
	secret *big.Int
	voter  signature.Voter
}

func (k plainKey) bytes() []byte { return k.secret.FillBytes(make([]byte, signature.MultiSecretSize)) }

// sign is the draft's CoreSign: no blinding.
func (k plainKey) sign(message []byte, domain string) []byte {
	return plainSign(k.secret, message, domain)
}

func plainSign(secret *big.Int, message []byte, domain string) []byte {
	p, err := bls.HashToG1(message, []byte(domain))
	if err != nil {
		panic(err)
	}
	out := p.ScalarMultiplication(&p, secret).Bytes()
	return out[:]
}

func plain(name string, secret *big.Int) plainKey {
	_, _, _, p := bls.Generators()
	public := p.ScalarMultiplication(&p, secret).Bytes()
	k := plainKey{secret: secret, voter: signature.Voter{Name: name, PublicKey: public[:]}}
	k.voter.Proof = k.sign(public[:], proofDomain)
	return k
}

// multiKeys are the voters' keys; making one takes milliseconds under the race
// detector.
var multiKeys = sync.OnceValue(func() (keys []plainKey) {
	for i := range 64 {
		secret := new(big.Int).SetBytes(key(i).Seed())
		keys = append(keys, plain(fmt.Sprintf("gw-%d", i), secret.Mod(secret, fr.Modulus())))
	}
	return keys
})

func multiVoters(n int) (out []signature.Voter) {
	for _, k := range multiKeys()[:n] {
		out = append(out, k.voter)
	}
	return out
}

// multi is the multisignature scheme of n voters as voter self has it; -1 only
// verifies.
func multi(t testing.TB, n, quorum, self int) signature.Scheme {
	t.Helper()
	var secret []byte
	if self >= 0 {
		secret = multiKeys()[self].bytes()
	}
	m, err := signature.NewMulti(multiVoters(n), quorum, secret)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBlindedSignature guards that blinding changes nothing but the way: the
// share is the textbook's, every time.
func TestBlindedSignature(t *testing.T) {
	s := multi(t, 4, 3, 2)
	want := multiKeys()[2].sign(message, sigDomain)
	for range 8 {
		if share, err := s.Sign(message); err != nil || !bytes.Equal(share.Signature, want) {
			t.Fatalf("share %x, %v; want %x", share.Signature, err, want)
		}
	}
}

// outside are encodings of points that are on the curve and not in the
// subgroup, found by counting x up: of G1 and of G2.
func outside(t testing.TB) (g1, g2 []byte) {
	t.Helper()
	for x := byte(1); g1 == nil || g2 == nil; x++ {
		small, large := make([]byte, 48), make([]byte, 96)
		small[0], small[47], large[0], large[95] = 0x80, x, 0x80, x
		var p bls.G1Affine
		var q bls.G2Affine
		if bls.NewDecoder(bytes.NewReader(small), bls.NoSubgroupChecks()).Decode(&p) == nil && p.IsOnCurve() && !p.IsInSubGroup() {
			g1 = small
		}
		if bls.NewDecoder(bytes.NewReader(large), bls.NoSubgroupChecks()).Decode(&q) == nil && q.IsOnCurve() && !q.IsInSubGroup() {
			g2 = large
		}
	}
	return g1, g2
}

// TestHostilePoints guards that the identity, points outside the subgroup and
// second encodings are no shares, no combined signatures, no keys and no proofs.
func TestHostilePoints(t *testing.T) {
	m := multi(t, 4, 3, -1)
	good := combine(t, multi, 4, 3, 0, 1, 3)
	var point bls.G1Affine
	if _, err := point.SetBytes(good[1:]); err != nil {
		t.Fatal(err)
	}
	raw := point.RawBytes()
	outside1, outside2 := outside(t)
	identity1, identity2 := make([]byte, 48), make([]byte, 96)
	identity1[0], identity2[0] = 0xc0, 0xc0
	// A point of the subgroup plus one of small order passes the pairing in
	// libraries that leave the subgroup check out.
	var torsion bls.G1Affine
	if err := bls.NewDecoder(bytes.NewReader(outside1), bls.NoSubgroupChecks()).Decode(&torsion); err != nil {
		t.Fatal(err)
	}
	torsion.ScalarMultiplication(&torsion, fr.Modulus())
	torsion.Add(&torsion, &point)
	shifted := torsion.Bytes()
	for name, sig := range map[string][]byte{
		"identity": identity1, "outside": outside1, "shifted": shifted[:], "uncompressed": raw[:],
		"uncompressed, cut": raw[:48], "x is not reduced": bytes.Repeat([]byte{0x9f}, 48), "no point": append([]byte{0x80}, make([]byte, 47)...),
	} {
		signaturetest.Wants(t, m.VerifyQuorum(signature.MultiName, message, append([]byte{0b1011}, sig...)), signalbox.ErrInvalid, "G1")
		if len(sig) != 48 {
			continue
		}
		bad := signature.Share{Voter: 2, Signature: sig}
		signaturetest.Wants(t, m.VerifyShare(message, bad), signalbox.ErrInvalid, "gw-2")
		if _, err := m.Combine([]signature.Share{bad, bad, bad}); err == nil {
			t.Errorf("%s: combined", name)
		}
		voters := multiVoters(4)
		voters[1].Proof = sig
		_, err := signature.NewMulti(voters, 3, nil)
		signaturetest.Wants(t, err, signalbox.ErrInvalid, "proof of voter gw-1")
	}
	for name, public := range map[string][]byte{
		"identity": identity2, "outside": outside2, "x is not reduced": bytes.Repeat([]byte{0x9f}, 96), "no flag": make([]byte, 96),
	} {
		voters := multiVoters(4)
		voters[1].PublicKey = public
		if _, err := signature.NewMulti(voters, 3, nil); err == nil {
			t.Errorf("%s: is a voter's key", name)
		} else {
			signaturetest.Wants(t, err, signalbox.ErrInvalid, "key of voter gw-1")
		}
	}
}

// TestCancelledSum guards that shares which cancel each other out, and so add up
// to the identity, are never a quorum's signature.
func TestCancelledSum(t *testing.T) {
	one := multiKeys()[0].sign(message, sigDomain)
	var p bls.G1Affine
	if _, err := p.SetBytes(one); err != nil {
		t.Fatal(err)
	}
	negative := p.Neg(&p).Bytes()
	m := multi(t, 2, 2, -1)
	sig, err := m.Combine([]signature.Share{{Voter: 0, Signature: one}, {Voter: 1, Signature: negative[:]}})
	if err != nil {
		t.Fatal(err)
	}
	signaturetest.Wants(t, m.VerifyQuorum(signature.MultiName, message, sig), signalbox.ErrInvalid, "identity")
}

// TestRogueKey guards against the attack for which possession is proven: a key
// that is the attacker's minus everybody else's, so that the attacker alone
// signs for all.
func TestRogueKey(t *testing.T) {
	attacker := plain("gw-2", big.NewInt(4711))
	var rogue, other bls.G2Affine
	if _, err := rogue.SetBytes(attacker.voter.PublicKey); err != nil {
		t.Fatal(err)
	}
	for _, v := range multiVoters(2) {
		if _, err := other.SetBytes(v.PublicKey); err != nil {
			t.Fatal(err)
		}
		rogue.Sub(&rogue, &other)
	}
	public := rogue.Bytes()
	for name, proof := range map[string][]byte{
		"none":            nil,
		"of its own key":  attacker.voter.Proof,
		"over the rogue":  attacker.sign(public[:], proofDomain),
		"another voter's": multiKeys()[1].voter.Proof,
	} {
		voters := append(multiVoters(2), signature.Voter{Name: "gw-2", PublicKey: public[:], Proof: proof})
		if _, err := signature.NewMulti(voters, 3, nil); err == nil {
			t.Errorf("proof %s: accepted", name)
		} else {
			signaturetest.Wants(t, err, signalbox.ErrUntrusted, "possession")
		}
	}
	// What is at stake: with that key in the sum the attacker's signature is
	// everybody's.
	var all bls.G2Affine
	for _, v := range multiVoters(2) {
		if _, err := other.SetBytes(v.PublicKey); err != nil {
			t.Fatal(err)
		}
		all.Add(&all, &other)
	}
	if sum := all.Add(&all, &rogue).Bytes(); !bytes.Equal(sum[:], attacker.voter.PublicKey) {
		t.Error("the rogue key does not do what the test is about")
	}
}

// TestDomains guards that a proof of possession is no signature and that a
// signature is no proof, nor one of another ciphersuite.
func TestDomains(t *testing.T) {
	k := multiKeys()[0]
	m := multi(t, 1, 1, -1)
	for _, domain := range []string{proofDomain, "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_", "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_AUG_", ""} {
		sig := k.sign(message, domain)
		signaturetest.Wants(t, m.VerifyShare(message, signature.Share{Signature: sig}), signalbox.ErrUntrusted, "does not fit")
		signaturetest.Wants(t, m.VerifyQuorum(signature.MultiName, message, append([]byte{1}, sig...)), signalbox.ErrUntrusted, "does not fit")
	}
	// A voter who is made to sign its own key has not proven anything.
	v := k.voter
	v.Proof = k.sign(v.PublicKey, sigDomain)
	_, err := signature.NewMulti([]signature.Voter{v}, 1, nil)
	signaturetest.Wants(t, err, signalbox.ErrUntrusted, "possession")
}

// TestNewMulti guards the voter set: a majority, whole keys, each once, and a
// key of one's own that is in it.
func TestNewMulti(t *testing.T) {
	zero, order := make([]byte, 32), fr.Modulus().Bytes()
	listed := voters(3)
	for name, c := range map[string]struct {
		voters []signature.Voter
		quorum int
		secret []byte
		kind   error
	}{
		"nobody":       {nil, 0, nil, signalbox.ErrInvalid},
		"half":         {multiVoters(4), 2, nil, signalbox.ErrInvalid},
		"more than":    {multiVoters(3), 4, nil, signalbox.ErrInvalid},
		"twice":        {append(multiVoters(2), multiVoters(1)...), 2, nil, signalbox.ErrInvalid},
		"other keys":   {listed, 2, nil, signalbox.ErrInvalid},
		"stranger":     {multiVoters(3), 2, multiKeys()[9].bytes(), signalbox.ErrUntrusted},
		"zero":         {multiVoters(3), 2, zero, signalbox.ErrInvalid},
		"the order":    {multiVoters(3), 2, order, signalbox.ErrInvalid},
		"Ed25519's":    {multiVoters(3), 2, key(0), signalbox.ErrInvalid},
		"empty secret": {multiVoters(3), 2, []byte{}, signalbox.ErrInvalid},
	} {
		if _, err := signature.NewMulti(c.voters, c.quorum, c.secret); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", name, err, c.kind)
		}
	}
}

// TestNewMultiKey guards that a new key comes with a proof that is accepted,
// and is a new one.
func TestNewMultiKey(t *testing.T) {
	var seen [][]byte
	for range 3 {
		secret, public, proof, err := signature.NewMultiKey()
		if err != nil {
			t.Fatal(err)
		}
		m, err := signature.NewMulti([]signature.Voter{{Name: "gw-0", PublicKey: public, Proof: proof}}, 1, secret)
		if err != nil {
			t.Fatal(err)
		}
		share, err := m.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.VerifyShare(message, share); err != nil {
			t.Error(err)
		}
		if slices.ContainsFunc(seen, func(s []byte) bool { return bytes.Equal(s, secret) }) {
			t.Error("a key was made twice")
		}
		seen = append(seen, secret)
	}
}
