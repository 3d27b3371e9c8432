package signature_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

var update = flag.Bool("update", false, "write the golden vector anew: every certificate in the field becomes unreadable")

func key(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "signalbox test voter %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(i int) ed25519.PublicKey { return key(i).Public().(ed25519.PublicKey) }

func voters(n int) (out []signature.Voter) {
	for i := range n {
		out = append(out, signature.Voter{Name: fmt.Sprintf("gw-%d", i), PublicKey: public(i)})
	}
	return out
}

// list is the scheme of n voters as voter self sees it; -1 only verifies.
func list(t testing.TB, n, u, self int) *signature.List {
	t.Helper()
	var k ed25519.PrivateKey
	if self >= 0 {
		k = key(self)
	}
	l, err := signature.NewList(voters(n), signature.Quorum(n, u), k)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var message = []byte("block 8")

func shares(t testing.TB, n, u int, who ...int) (out []signature.Share) {
	t.Helper()
	for _, i := range who {
		s, err := list(t, n, u, i).Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func combine(t testing.TB, n, u int, who ...int) []byte {
	t.Helper()
	sig, err := list(t, n, u, -1).Combine(shares(t, n, u, who...))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func wants(t *testing.T, err, kind error, says string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("got error %v, want one that is %q and says %q", err, kind, says)
	}
}

// TestQuorum guards that exactly the sets of at least a quorum of distinct
// voters are accepted, whoever they are.
func TestQuorum(t *testing.T) {
	for _, c := range []struct{ n, u int }{{1, 0}, {3, 1}, {4, 1}, {5, 2}, {6, 2}} {
		verifier := list(t, c.n, c.u, -1)
		for set := range 1 << c.n {
			var who []int
			for i := range c.n {
				if set>>i&1 == 1 {
					who = append(who, i)
				}
			}
			slices.Reverse(who) // shares come in any order
			sig, err := verifier.Combine(shares(t, c.n, c.u, who...))
			if enough := len(who) >= c.n-c.u; (err == nil) != enough {
				t.Fatalf("%d of %d voters, %d unavailable: %v", len(who), c.n, c.u, err)
			} else if !enough {
				wants(t, err, signalbox.ErrUnavailable, "are needed")
				continue
			}
			if err := verifier.VerifyQuorum(signature.ListName, message, sig); err != nil {
				t.Fatalf("voters %v of %d: %v", who, c.n, err)
			}
			if got := signature.Signers(c.n, sig); len(got) != len(who) || got[0] != who[len(who)-1] {
				t.Fatalf("voters %v signed, named are %v", who, got)
			}
		}
	}
}

// TestOneVoterIsNoQuorum guards that a voter cannot sign for another, nor twice.
func TestOneVoterIsNoQuorum(t *testing.T) {
	l := list(t, 4, 1, -1)
	one := shares(t, 4, 1, 0)[0]
	_, err := l.Combine([]signature.Share{one, one, one})
	wants(t, err, signalbox.ErrUnavailable, "1 of 4")
	forged := []signature.Share{one, {Voter: 1, Signature: one.Signature}, {Voter: 2, Signature: one.Signature}}
	sig, err := l.Combine(forged)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, l.VerifyQuorum(signature.ListName, message, sig), signalbox.ErrUntrusted, "gw-1")
	for _, f := range forged[1:] {
		wants(t, l.VerifyShare(message, f), signalbox.ErrUntrusted, fmt.Sprintf("gw-%d", f.Voter))
	}
	if err := l.VerifyShare(message, one); err != nil {
		t.Error(err)
	}
	wants(t, l.VerifyShare([]byte("block 9"), one), signalbox.ErrUntrusted, "gw-0")
	for _, s := range []signature.Share{{Voter: -1, Signature: one.Signature}, {Voter: 4, Signature: one.Signature}, {Voter: 1, Signature: one.Signature[:63]}, {Voter: 1}} {
		_, err := l.Combine([]signature.Share{s})
		wants(t, err, signalbox.ErrInvalid, "share")
		wants(t, l.VerifyShare(message, s), signalbox.ErrInvalid, "share")
	}
	_, err = l.Sign(message)
	wants(t, err, signalbox.ErrNotConfigured, "no voter's key")
}

// TestVerifyRefuses guards that a signature counts for its message, scheme and
// voter set only, and that its form admits one reading.
func TestVerifyRefuses(t *testing.T) {
	l, good := list(t, 4, 1, -1), combine(t, 4, 1, 0, 1, 3)
	if err := l.VerifyQuorum(signature.ListName, message, good); err != nil {
		t.Fatal(err)
	}
	wants(t, l.VerifyQuorum("bls12-381", message, good), signalbox.ErrUntrusted, "scheme")
	wants(t, l.VerifyQuorum("", message, good), signalbox.ErrUntrusted, "scheme")
	wants(t, l.VerifyQuorum(signature.ListName, []byte("block 9"), good), signalbox.ErrUntrusted, "gw-0")
	moved, err := signature.NewList(append(voters(4)[1:], voters(1)...), 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, moved.VerifyQuorum(signature.ListName, message, good), signalbox.ErrUntrusted, "another voter set")
	few := append([]byte{0b0011}, good[1:1+128]...)
	wants(t, l.VerifyQuorum(signature.ListName, message, few), signalbox.ErrUntrusted, "2 of 4")
	for name, sig := range map[string][]byte{
		"empty":                  nil,
		"no bitmap":              good[1:],
		"cut":                    good[:len(good)-1],
		"longer":                 append(slices.Clone(good), 0),
		"a signature too many":   append(slices.Clone(good), good[1:65]...),
		"a signer too many":      append([]byte{0b1111}, good[1:]...),
		"a signer that is not":   append([]byte{0b11011}, good[1:]...),
		"bitmap of nobody":       {0},
		"signatures of nobody":   append([]byte{0}, good[1:]...),
		"the bitmap's high bits": append([]byte{0b10001011}, good[1:]...),
	} {
		if err := l.VerifyQuorum(signature.ListName, message, sig); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestNewList guards the voter set: a majority, whole keys, each once, and a
// key of one's own that is in it.
func TestNewList(t *testing.T) {
	twice := append(voters(2), voters(1)...)
	short := voters(3)
	short[1].PublicKey = short[1].PublicKey[:31]
	for name, c := range map[string]struct {
		voters []signature.Voter
		quorum int
		key    ed25519.PrivateKey
		kind   error
	}{
		"nobody":       {nil, 0, nil, signalbox.ErrInvalid},
		"too many":     {make([]signature.Voter, signature.MaxVoters+1), 200, nil, signalbox.ErrInvalid},
		"half":         {voters(4), 2, nil, signalbox.ErrInvalid},
		"none":         {voters(3), 0, nil, signalbox.ErrInvalid},
		"more than":    {voters(3), 4, nil, signalbox.ErrInvalid},
		"twice":        {twice, 2, nil, signalbox.ErrInvalid},
		"short key":    {short, 2, nil, signalbox.ErrInvalid},
		"stranger":     {voters(3), 2, key(9), signalbox.ErrUntrusted},
		"negative":     {voters(3), -1, nil, signalbox.ErrInvalid},
		"quorum of 1?": {voters(2), 1, nil, signalbox.ErrInvalid},
	} {
		if _, err := signature.NewList(c.voters, c.quorum, c.key); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", name, err, c.kind)
		}
	}
}

// TestChangedByte guards, for any voter set, that no changed byte is accepted.
func TestChangedByte(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(r, "voters")
		u := rapid.IntRange(0, (n-1)/2).Draw(r, "unavailable")
		who := rapid.Permutation(slices.Collect(func(yield func(int) bool) {
			for i := range n {
				if !yield(i) {
					return
				}
			}
		})).Draw(r, "order")[:n-u]
		sig := combine(t, n, u, who...)
		l := list(t, n, u, -1)
		if err := l.VerifyQuorum(signature.ListName, message, sig); err != nil {
			r.Fatal(err)
		}
		at := rapid.IntRange(0, len(sig)-1).Draw(r, "at")
		sig[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "by"))
		if l.VerifyQuorum(signature.ListName, message, sig) == nil {
			r.Fatalf("byte %d changed and accepted", at)
		}
	})
}

// TestGolden guards the list's encoding: certificates are verified for ever.
func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "list-0-1-3-of-4.hex")
	sig := combine(t, 4, 1, 0, 1, 3)
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(sig)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(sig); got != strings.TrimSpace(string(data)) {
		t.Errorf("encodes to\n%s\nwant\n%s", got, data)
	}
}

// TestFromCluster guards that a cluster's description says who votes and how
// many have to.
func TestFromCluster(t *testing.T) {
	c := &identity.Cluster{Name: "shop", Unavailable: 1, Lying: 1}
	for _, v := range voters(4) {
		c.Voters = append(c.Voters, identity.Voter{Name: v.Name, PublicKey: v.PublicKey})
	}
	trust, err := signature.Trust(c)
	if err != nil {
		t.Fatal(err)
	}
	b := &signalbox.Block{Cluster: "shop", Index: 1, Requests: []signalbox.Request{{Handover: &signalbox.Handover{ID: "a", Service: "orders", Term: 1, To: "east"}}}}
	raw, err := rpc.EncodeBlock(b)
	if err != nil {
		t.Fatal(err)
	}
	var signed []signature.Share
	for i := range 3 {
		l, err := signature.FromBundle(&identity.Bundle{Cluster: c, Voter: key(i)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Sign(rpc.SigningInput(rpc.DomainBlock, "shop", raw))
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, s)
	}
	sig, err := list(t, 4, 1, -1).Combine(signed)
	if err != nil {
		t.Fatal(err)
	}
	d, err := rpc.SealBlock(raw, signature.ListName, sig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.OpenBlock(trust, d.Raw); err != nil {
		t.Error(err)
	}
	c.Voters[0], c.Voters[3] = c.Voters[3], c.Voters[0]
	other, err := signature.Trust(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rpc.OpenBlock(other, d.Raw)
	wants(t, err, signalbox.ErrUntrusted, "does not fit")
	c.Voters = nil
	_, err = signature.Trust(c)
	wants(t, err, signalbox.ErrInvalid, "voters")
}

func FuzzVerifyQuorum(f *testing.F) {
	f.Add(combine(f, 4, 1, 0, 1, 3))
	f.Add([]byte{0b0111})
	l := list(f, 4, 1, -1)
	f.Fuzz(func(t *testing.T, sig []byte) {
		if l.VerifyQuorum(signature.ListName, message, sig) == nil && len(signature.Signers(4, sig)) < 3 {
			t.Error("fewer than a quorum signed and it is accepted")
		}
	})
}
