// Package signature combines the signatures of voters into one that anyone who
// holds their public keys can verify, behind a port of five methods.
//
// Guarantees: Verify accepts only signatures of distinct voters of the set over
// exactly the message, at least a quorum of them; the scheme's name travels
// with the signature. It does not know what a message means; the caller
// separates domains (rpc.SigningInput).
package signature

import (
	"crypto/ed25519"
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// MaxVoters is the largest voter set.
const MaxVoters = 256

// A Voter is one member of the voter set, by its public key.
type Voter struct {
	Name      string
	PublicKey []byte
}

// A Share is one voter's signature.
type Share struct {
	// Voter is the index in the voter set.
	Voter     int
	Signature []byte
}

// Scheme is the port: one way of signing, combining and verifying.
type Scheme interface {
	// Name is the scheme's name in certificates.
	Name() string
	// Sign returns this voter's share over message; ErrNotConfigured when the
	// process holds no voter's key.
	Sign(message []byte) (Share, error)
	// Combine joins shares into one signature; it fails when they are fewer
	// than a quorum of distinct voters. Shares are not verified here.
	Combine(shares []Share) ([]byte, error)
	// VerifyShare checks one share by itself: ErrInvalid when its voter or form
	// is impossible, ErrUntrusted when the voter did not sign message. It is
	// what finds the bad share after a combination failed to verify.
	VerifyShare(message []byte, share Share) error
	// VerifyQuorum checks a combined signature (see rpc.QuorumVerifier).
	VerifyQuorum(scheme string, message, signature []byte) error
}

// Quorum returns how many of n voters have to sign when u may be unavailable.
func Quorum(n, u int) int { return n - u }

// List is the scheme "ed25519-list": a bitmap of the signers, then their
// signatures in the voters' order.
type List struct {
	voters []Voter
	quorum int
	self   int
	key    ed25519.PrivateKey
}

// ListName is the name of the Ed25519 list scheme.
const ListName = "ed25519-list"

// NewList makes the list scheme for a voter set of which quorum have to sign.
// key is this process's own voter key, or nil for one that only verifies.
func NewList(voters []Voter, quorum int, key ed25519.PrivateKey) (*List, error) {
	if len(voters) == 0 || len(voters) > MaxVoters {
		return nil, fmt.Errorf("%w: %d voters, want 1 to %d", signalbox.ErrInvalid, len(voters), MaxVoters)
	}
	if quorum*2 <= len(voters) || quorum > len(voters) {
		return nil, fmt.Errorf("%w: quorum %d of %d voters: want a majority", signalbox.ErrInvalid, quorum, len(voters))
	}
	l := &List{voters: voters, quorum: quorum, self: -1, key: key}
	seen := map[string]bool{}
	for i, v := range voters {
		if len(v.PublicKey) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: voter %s: key has %d bytes, want %d", signalbox.ErrInvalid, v.Name, len(v.PublicKey), ed25519.PublicKeySize)
		}
		if seen[string(v.PublicKey)] {
			return nil, fmt.Errorf("%w: voter %s: the same key stands twice", signalbox.ErrInvalid, v.Name)
		}
		seen[string(v.PublicKey)] = true
		if key != nil && key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(v.PublicKey)) {
			l.self = i
		}
	}
	if key != nil && l.self < 0 {
		return nil, fmt.Errorf("%w: the voter key is not of the voter set", signalbox.ErrUntrusted)
	}
	return l, nil
}

// Name returns "ed25519-list".
func (l *List) Name() string { return ListName }

// Sign implements Scheme.
func (l *List) Sign(message []byte) (Share, error) {
	if l.self < 0 {
		return Share{}, fmt.Errorf("%w: this process holds no voter's key", signalbox.ErrNotConfigured)
	}
	return Share{Voter: l.self, Signature: ed25519.Sign(l.key, message)}, nil
}

// Combine implements Scheme.
func (l *List) Combine(shares []Share) ([]byte, error) {
	byVoter := make([][]byte, len(l.voters))
	count := 0
	for _, s := range shares {
		if s.Voter < 0 || s.Voter >= len(l.voters) || len(s.Signature) != ed25519.SignatureSize {
			return nil, fmt.Errorf("%w: share of voter %d", signalbox.ErrInvalid, s.Voter)
		}
		if byVoter[s.Voter] == nil {
			count++
		}
		byVoter[s.Voter] = s.Signature
	}
	if count < l.quorum {
		return nil, fmt.Errorf("%w: %d of %d voters signed, %d are needed", signalbox.ErrUnavailable, count, len(l.voters), l.quorum)
	}
	out := make([]byte, (len(l.voters)+7)/8, (len(l.voters)+7)/8+count*ed25519.SignatureSize)
	for i, sig := range byVoter {
		if sig != nil {
			out[i/8] |= 1 << (i % 8)
			out = append(out, sig...)
		}
	}
	return out, nil
}

// VerifyShare implements Scheme.
func (l *List) VerifyShare(message []byte, s Share) error {
	if s.Voter < 0 || s.Voter >= len(l.voters) || len(s.Signature) != ed25519.SignatureSize {
		return fmt.Errorf("%w: share of voter %d", signalbox.ErrInvalid, s.Voter)
	}
	if !ed25519.Verify(l.voters[s.Voter].PublicKey, message, s.Signature) {
		return fmt.Errorf("%w: share of voter %s does not fit", signalbox.ErrUntrusted, l.voters[s.Voter].Name)
	}
	return nil
}

// VerifyQuorum implements Scheme.
func (l *List) VerifyQuorum(scheme string, message, signature []byte) error {
	if scheme != ListName {
		return fmt.Errorf("%w: signature scheme %.40q, configured is %s", signalbox.ErrUntrusted, scheme, ListName)
	}
	bitmap := (len(l.voters) + 7) / 8
	if len(signature) < bitmap || (len(signature)-bitmap)%ed25519.SignatureSize != 0 {
		return fmt.Errorf("%w: quorum signature has %d bytes", signalbox.ErrInvalid, len(signature))
	}
	rest, count := signature[bitmap:], 0
	for i := range bitmap * 8 {
		if signature[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if i >= len(l.voters) || len(rest) < ed25519.SignatureSize {
			return fmt.Errorf("%w: quorum signature's bitmap names signers that are not there", signalbox.ErrInvalid)
		}
		if !ed25519.Verify(l.voters[i].PublicKey, message, rest[:ed25519.SignatureSize]) {
			return fmt.Errorf("%w: signature of voter %s does not fit (another voter set, another cluster or changed bytes)", signalbox.ErrUntrusted, l.voters[i].Name)
		}
		rest, count = rest[ed25519.SignatureSize:], count+1
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: quorum signature has %d bytes too many", signalbox.ErrInvalid, len(rest))
	}
	if count < l.quorum {
		return fmt.Errorf("%w: %d of %d voters signed, %d are needed", signalbox.ErrUntrusted, count, len(l.voters), l.quorum)
	}
	return nil
}

// Signers returns the indices of those of n voters that a combined signature
// names; every scheme's begins with their bitmap. It verifies nothing;
// VerifyQuorum does.
func Signers(n int, combined []byte) (voters []int) {
	for i := range n {
		if i/8 < len(combined) && combined[i/8]&(1<<(i%8)) != 0 {
			voters = append(voters, i)
		}
	}
	return voters
}
