package signaturetest

import (
	"bytes"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
)

// bound: a signature counts for its message, scheme, voter set and quorum only.
func (f *fixture) bound(t *testing.T) {
	s := f.New(t, 4, 3, -1)
	good := f.combine(t, s, 0, 1, 3)
	if err := s.VerifyQuorum(s.Name(), Message, good); err != nil {
		t.Fatal(err)
	}
	Wants(t, s.VerifyQuorum("another", Message, good), signalbox.ErrUntrusted, "scheme")
	Wants(t, s.VerifyQuorum("", Message, good), signalbox.ErrUntrusted, "scheme")
	Wants(t, s.VerifyQuorum(s.Name(), []byte("block 9"), good), signalbox.ErrUntrusted, "does not fit")
	Wants(t, s.VerifyQuorum(s.Name(), nil, good), signalbox.ErrUntrusted, "does not fit")
	strict := f.New(t, 4, 4, -1)
	Wants(t, strict.VerifyQuorum(s.Name(), Message, good), signalbox.ErrUntrusted, "3 of 4")
	// The same bitmap of a larger set means other voters.
	larger := f.New(t, 6, 4, -1)
	if larger.VerifyQuorum(s.Name(), Message, append([]byte{0b1111}, good[1:]...)) == nil {
		t.Error("three signatures are accepted as four")
	}
}

// form: a combined signature has one encoding, and its bitmap cannot name more
// than signed.
func (f *fixture) form(t *testing.T) {
	s := f.New(t, 4, 3, -1)
	good, full := f.combine(t, s, 0, 1, 3), f.combine(t, s, 0, 1, 2, 3)
	with := func(bitmap byte, sig []byte) []byte { return append([]byte{bitmap}, sig[1:]...) }
	for name, sig := range map[string][]byte{
		"empty":                  nil,
		"no bitmap":              good[1:],
		"bitmap only":            good[:1],
		"cut":                    good[:len(good)-1],
		"longer":                 append(bytes.Clone(good), 0),
		"another one behind":     append(bytes.Clone(good), good[1:]...),
		"a bitmap twice":         append([]byte{good[0]}, good...),
		"a signer too many":      with(0b1111, good),
		"a signer too few":       with(0b1011, full),
		"another signer":         with(0b0111, good),
		"too few signers":        with(0b0011, good),
		"a signer that is not":   with(0b11011, good),
		"bitmap of nobody":       {0},
		"signatures of nobody":   with(0, good),
		"the bitmap's high bits": with(0b10001011, good),
		"all bits":               with(0xff, good),
		"zeros":                  with(0b1011, make([]byte, len(good))),
		"ones":                   with(0b1011, bytes.Repeat([]byte{0xff}, len(good))),
	} {
		if err := s.VerifyQuorum(s.Name(), Message, sig); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// changed: no changed byte is accepted.
func (f *fixture) changed(t *testing.T) {
	for _, n := range []int{1, 4, 9} {
		quorum := n - (n-1)/3
		s := f.New(t, n, quorum, -1)
		who := make([]int, quorum)
		for i := range who {
			who[i] = n - 1 - i
		}
		sig := f.combine(t, s, who...)
		if err := s.VerifyQuorum(s.Name(), Message, sig); err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(r *rapid.T) {
			other := bytes.Clone(sig)
			at := rapid.IntRange(0, len(sig)-1).Draw(r, "at")
			other[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "by"))
			if s.VerifyQuorum(s.Name(), Message, other) == nil {
				r.Fatalf("%d voters: byte %d changed and accepted", n, at)
			}
		})
	}
}

// concurrent: one scheme serves many goroutines (the race detector looks on).
func (f *fixture) concurrent(t *testing.T) {
	s := f.New(t, 4, 3, 0)
	shares := f.sharesOf(t, 1, 2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			own, err := s.Sign(Message)
			if err != nil {
				t.Error(err)
				return
			}
			sig, err := s.Combine(append(shares[:2:2], own))
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.VerifyQuorum(s.Name(), Message, sig); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
