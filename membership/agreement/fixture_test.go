package agreement

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
)

var start = time.Unix(1_700_000_000, 0)

// fake is a signature port without keys: what a voter signed is a hash of its
// index and the message. A combined signature does not depend on who signed.
type fake struct{ self, voters, quorum int }

func shareOf(voter int, message []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "share %d ", voter)
	h.Write(message)
	return h.Sum(nil)[:16]
}

func combinedOf(message []byte) []byte {
	h := sha256.Sum256(append([]byte("quorum "), message...))
	return h[:16]
}

func (f fake) Name() string { return "fake" }

func (f fake) Sign(message []byte) (signature.Share, error) {
	return signature.Share{Voter: f.self, Signature: shareOf(f.self, message)}, nil
}

// Combine cannot know the message: it keeps what was signed, and VerifyQuorum
// looks whether that is enough.
func (f fake) Combine(shares []signature.Share) ([]byte, error) {
	if len(shares) < f.quorum {
		return nil, signalbox.ErrUnavailable
	}
	var out []byte
	for _, s := range shares {
		out = append(append(out, byte(s.Voter)), s.Signature...)
	}
	return out, nil
}

func (f fake) VerifyShare(message []byte, s signature.Share) error {
	if s.Voter < 0 || s.Voter >= f.voters || !bytes.Equal(s.Signature, shareOf(s.Voter, message)) {
		return fmt.Errorf("%w: share of voter %d", signalbox.ErrUntrusted, s.Voter)
	}
	return nil
}

func (f fake) VerifyQuorum(_ string, message, combined []byte) error {
	if bytes.Equal(combined, combinedOf(message)) {
		return nil // made by the search, which counted itself
	}
	seen := map[byte]bool{}
	for ; len(combined) >= 17; combined = combined[17:] {
		if !bytes.Equal(combined[1:17], shareOf(int(combined[0]), message)) {
			return fmt.Errorf("%w: share of voter %d in a certificate", signalbox.ErrUntrusted, combined[0])
		}
		seen[combined[0]] = true
	}
	if len(combined) != 0 || len(seen) < f.quorum {
		return fmt.Errorf("%w: %d signers", signalbox.ErrUntrusted, len(seen))
	}
	return nil
}

// config of voter self with the fake port; everything is valid but "bad".
func config(n, u, self int, without Rule) Config {
	c := Config{
		Cluster: "demo", Epoch: 1, Self: self, Voters: n, Unavailable: u, Without: without, Timeout: time.Second,
		Validate: func(_ uint64, _ int, v []byte) error {
			if bytes.HasPrefix(v, []byte("bad")) {
				return fmt.Errorf("%w: %s", signalbox.ErrRefused, v)
			}
			return nil
		},
	}
	c.Scheme = fake{self: self, voters: n, quorum: c.quorum()}
	return c
}

func newReplica(t testing.TB, c Config, state *State) *Replica {
	t.Helper()
	r, err := New(c, 1, 0, state, start)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
