// Package signaturetest says what every signature.Scheme must do, whatever it is
// made of: each scheme's tests run it, and so should those of a double.
//
// It guarantees that a scheme which passes can stand behind agreement and
// certificates. It does not check the scheme's own encodings and mathematics.
package signaturetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// A Subject is a scheme under test.
type Subject struct {
	Name string
	// New makes the scheme of n voters, named VoterName(0) and so on, of which
	// quorum have to sign, as voter self has it; -1 only verifies. The same
	// index always has the same key.
	New func(t testing.TB, n, quorum, self int) signature.Scheme
}

// VoterName is the name of a voter in error messages.
func VoterName(i int) string { return fmt.Sprintf("gw-%d", i) }

// Message is what the suite has signed.
var Message = []byte("block 8")

// Run runs the whole suite.
func Run(t *testing.T, s Subject) {
	f := &fixture{Subject: s, shares: map[int]signature.Share{}}
	t.Run("sets", f.sets)
	t.Run("shares", f.oneShare)
	t.Run("find the bad share", f.badShare)
	t.Run("repeated voter", f.repeated)
	t.Run("message, scheme and set", f.bound)
	t.Run("form", f.form)
	t.Run("changed byte", f.changed)
	t.Run("concurrent use", f.concurrent)
}

// fixture signs Message once per voter: of more voters, the share is the same.
type fixture struct {
	Subject
	mu     sync.Mutex
	shares map[int]signature.Share
}

func (f *fixture) share(t testing.TB, i int) signature.Share {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.shares[i]; ok {
		return s
	}
	n := i + 1
	s, err := f.New(t, n, n, i).Sign(Message)
	if err != nil || s.Voter != i {
		t.Fatalf("voter %d signs as %d: %v", i, s.Voter, err)
	}
	f.shares[i] = s
	return s
}

func (f *fixture) sharesOf(t testing.TB, who ...int) (out []signature.Share) {
	t.Helper()
	for _, i := range who {
		out = append(out, f.share(t, i))
	}
	return out
}

func (f *fixture) combine(t testing.TB, s signature.Scheme, who ...int) []byte {
	t.Helper()
	sig, err := s.Combine(f.sharesOf(t, who...))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// Wants fails when err is not of a kind or does not say something.
func Wants(t testing.TB, err, kind error, says string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("got error %v, want one that is %q and says %q", err, kind, says)
	}
}

// sets: exactly the sets of at least a quorum of distinct voters are accepted,
// whoever they are and in whatever order they come.
func (f *fixture) sets(t *testing.T) {
	for _, c := range []struct{ n, u int }{{1, 0}, {3, 1}, {4, 1}, {5, 2}, {6, 2}} {
		verifier := f.New(t, c.n, c.n-c.u, -1)
		for set := range 1 << c.n {
			var who []int
			for i := range c.n {
				if set>>i&1 == 1 {
					who = append(who, i)
				}
			}
			slices.Reverse(who)
			sig, err := verifier.Combine(f.sharesOf(t, who...))
			if enough := len(who) >= c.n-c.u; (err == nil) != enough {
				t.Fatalf("%d of %d voters, %d unavailable: %v", len(who), c.n, c.u, err)
			} else if !enough {
				Wants(t, err, signalbox.ErrUnavailable, "are needed")
				continue
			}
			if err := verifier.VerifyQuorum(verifier.Name(), Message, sig); err != nil {
				t.Fatalf("voters %v of %d: %v", who, c.n, err)
			}
			slices.Reverse(who)
			if got := signature.Signers(c.n, sig); !slices.Equal(got, who) {
				t.Fatalf("voters %v signed, named are %v", who, got)
			}
		}
	}
}

// oneShare: a share is its voter's, over its message; a voter without a key
// makes none.
func (f *fixture) oneShare(t *testing.T) {
	s := f.New(t, 4, 3, -1)
	_, err := s.Sign(Message)
	Wants(t, err, signalbox.ErrNotConfigured, "no voter's key")
	for i := range 4 {
		if err := s.VerifyShare(Message, f.share(t, i)); err != nil {
			t.Errorf("share of voter %d: %v", i, err)
		}
	}
	one := f.share(t, 0)
	Wants(t, s.VerifyShare([]byte("block 9"), one), signalbox.ErrUntrusted, VoterName(0))
	Wants(t, s.VerifyShare(Message, signature.Share{Voter: 1, Signature: one.Signature}), signalbox.ErrUntrusted, VoterName(1))
	for _, bad := range []signature.Share{
		{Voter: -1, Signature: one.Signature}, {Voter: 4, Signature: one.Signature}, {Voter: 1},
		{Voter: 0, Signature: one.Signature[:len(one.Signature)-1]}, {Voter: 0, Signature: append(bytes.Clone(one.Signature), 0)},
	} {
		_, err := s.Combine(append(f.sharesOf(t, 1, 2, 3), bad))
		Wants(t, err, signalbox.ErrInvalid, "share")
		Wants(t, s.VerifyShare(Message, bad), signalbox.ErrInvalid, "share")
	}
}

// badShare: after a combination that does not verify, checking single shares
// finds exactly the bad one, and without it the rest is good.
func (f *fixture) badShare(t *testing.T) {
	s := f.New(t, 4, 3, -1)
	other, err := f.New(t, 4, 3, 2).Sign([]byte("block 9"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]signature.Share{"of another message": other, "of another voter": {Voter: 2, Signature: f.share(t, 0).Signature}} {
		shares := append(f.sharesOf(t, 0, 1, 3), bad)
		sig, err := s.Combine(shares)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		Wants(t, s.VerifyQuorum(s.Name(), Message, sig), signalbox.ErrUntrusted, "does not fit")
		var good []signature.Share
		for _, share := range shares {
			if s.VerifyShare(Message, share) == nil {
				good = append(good, share)
			}
		}
		if len(good) != 3 {
			t.Fatalf("%s: %d of 4 shares are good, want 3", name, len(good))
		}
		if sig, err = s.Combine(good); err != nil {
			t.Fatal(err)
		}
		if err := s.VerifyQuorum(s.Name(), Message, sig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// repeated: a voter counts once, however often its share comes.
func (f *fixture) repeated(t *testing.T) {
	s := f.New(t, 4, 3, -1)
	one := f.share(t, 0)
	_, err := s.Combine([]signature.Share{one, one, one})
	Wants(t, err, signalbox.ErrUnavailable, "1 of 4")
	sig := f.combine(t, s, 0, 1, 0, 3, 1, 0)
	if err := s.VerifyQuorum(s.Name(), Message, sig); err != nil {
		t.Error(err)
	}
	if once := f.combine(t, s, 0, 1, 3); !bytes.Equal(sig, once) {
		t.Error("repeated shares change the combination")
	}
	forged := []signature.Share{one, {Voter: 1, Signature: one.Signature}, {Voter: 2, Signature: one.Signature}}
	if sig, err := s.Combine(forged); err == nil {
		Wants(t, s.VerifyQuorum(s.Name(), Message, sig), signalbox.ErrUntrusted, "does not fit")
	}
}
