package signature_test

import (
	"bytes"
	"testing"

	"github.com/signalbox-io/signalbox/membership/signature"
)

// fuzzQuorum guards that no combined signature makes a scheme panic, and that
// what it accepts is the one encoding of a quorum's signature.
func fuzzQuorum(f *testing.F, scheme func(t testing.TB, n, quorum, self int) signature.Scheme) {
	s := scheme(f, 4, 3, -1)
	accepted := map[string]bool{}
	for _, who := range [][]int{{0, 1, 2}, {0, 1, 3}, {0, 2, 3}, {1, 2, 3}, {0, 1, 2, 3}} {
		sig := combine(f, scheme, 4, 3, who...)
		accepted[string(sig)] = true
		f.Add(sig)
	}
	f.Add([]byte{0b0111})
	f.Fuzz(func(t *testing.T, sig []byte) {
		if s.VerifyQuorum(s.Name(), message, sig) == nil && !accepted[string(sig)] {
			t.Errorf("accepted, and none of the five that exist: %x", sig)
		}
	})
}

func FuzzVerifyQuorumList(f *testing.F)  { fuzzQuorum(f, list) }
func FuzzVerifyQuorumMulti(f *testing.F) { fuzzQuorum(f, multi) }

// fuzzShare guards the same of single shares, and that Combine takes anything.
func fuzzShare(f *testing.F, scheme func(t testing.TB, n, quorum, self int) signature.Scheme) {
	s := scheme(f, 4, 3, -1)
	var good []signature.Share
	for i := range 4 {
		share, err := scheme(f, 4, 3, i).Sign(message)
		if err != nil {
			f.Fatal(err)
		}
		good = append(good, share)
		f.Add(i, share.Signature)
	}
	f.Fuzz(func(t *testing.T, voter int, sig []byte) {
		share := signature.Share{Voter: voter, Signature: sig}
		if s.VerifyShare(message, share) == nil && !bytes.Equal(good[voter].Signature, sig) {
			t.Errorf("accepted a second share of voter %d: %x", voter, sig)
		}
		combined, err := s.Combine([]signature.Share{good[0], good[1], share})
		if err != nil {
			return
		}
		if ok := s.VerifyQuorum(s.Name(), message, combined) == nil; ok != (s.VerifyShare(message, share) == nil) {
			t.Errorf("the combination is good: %v, and the share is not of that opinion", ok)
		}
	})
}

func FuzzVerifyShareList(f *testing.F)  { fuzzShare(f, list) }
func FuzzVerifyShareMulti(f *testing.F) { fuzzShare(f, multi) }

// FuzzNewMulti guards that no key, proof or secret of a cluster's description
// makes a process panic, and that nobody gets in without a proof that fits.
func FuzzNewMulti(f *testing.F) {
	for _, k := range multiKeys()[:2] {
		f.Add(k.voter.PublicKey, k.voter.Proof, k.bytes())
	}
	f.Add(multiKeys()[0].voter.PublicKey, multiKeys()[1].voter.Proof, []byte{})
	f.Fuzz(func(t *testing.T, public, proof, secret []byte) {
		m, err := signature.NewMulti([]signature.Voter{{Name: "gw-0", PublicKey: public, Proof: proof}}, 1, secret)
		if err != nil || len(secret) == 0 {
			return
		}
		share, err := m.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.VerifyShare(message, share); err != nil {
			t.Errorf("enrolled, and its shares do not verify: %v", err)
		}
	})
}
