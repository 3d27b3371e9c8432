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
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/membership/signature/signaturetest"
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

// list is the list scheme of n voters as voter self has it; -1 only verifies.
func list(t testing.TB, n, quorum, self int) signature.Scheme {
	t.Helper()
	var k ed25519.PrivateKey
	if self >= 0 {
		k = key(self)
	}
	l, err := signature.NewList(voters(n), quorum, k)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var message = []byte("block 8")

// combine is the combination of what the voters sign.
func combine(t testing.TB, scheme func(t testing.TB, n, quorum, self int) signature.Scheme, n, quorum int, who ...int) []byte {
	t.Helper()
	var shares []signature.Share
	for _, i := range who {
		s, err := scheme(t, n, quorum, i).Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	sig, err := scheme(t, n, quorum, -1).Combine(shares)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// TestConformance guards that certificates and agreement can rely on either
// scheme alike.
func TestConformance(t *testing.T) {
	for _, s := range []signaturetest.Subject{{Name: signature.ListName, New: list}, {Name: signature.MultiName, New: multi}} {
		t.Run(s.Name, func(t *testing.T) { signaturetest.Run(t, s) })
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

// TestGolden guards the schemes' encodings: certificates are verified for ever.
func TestGolden(t *testing.T) {
	for name, sig := range map[string][]byte{
		"list-0-1-3-of-4.hex":  combine(t, list, 4, 3, 0, 1, 3),
		"multi-0-1-3-of-4.hex": combine(t, multi, 4, 3, 0, 1, 3),
	} {
		path := filepath.Join("testdata", name)
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
			t.Errorf("%s: encodes to\n%s\nwant\n%s", name, got, data)
		}
	}
}
