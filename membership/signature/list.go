package signature

import (
	"crypto/ed25519"
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// ListName is the name of the Ed25519 list scheme.
const ListName = "ed25519-list"

// List is the scheme "ed25519-list": a bitmap of the signers, then their
// signatures in the voters' order.
type List struct {
	voters []Voter
	quorum int
	self   int
	key    ed25519.PrivateKey
}

// NewList makes the list scheme for a voter set of which quorum have to sign.
// key is this process's own voter key, or nil for one that only verifies.
func NewList(voters []Voter, quorum int, key ed25519.PrivateKey) (*List, error) {
	if err := checkSet(voters, quorum, ed25519.PublicKeySize); err != nil {
		return nil, err
	}
	l := &List{voters: voters, quorum: quorum, self: -1, key: key}
	if key == nil {
		return l, nil
	}
	for i, v := range voters {
		if key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(v.PublicKey)) {
			l.self = i
		}
	}
	if l.self < 0 {
		return nil, notOfTheSet()
	}
	return l, nil
}

// Name returns "ed25519-list".
func (l *List) Name() string { return ListName }

// Sign implements Scheme.
func (l *List) Sign(message []byte) (Share, error) {
	if l.self < 0 {
		return Share{}, noKey()
	}
	return Share{Voter: l.self, Signature: ed25519.Sign(l.key, message)}, nil
}

// Combine implements Scheme.
func (l *List) Combine(shares []Share) ([]byte, error) {
	out, byVoter, err := gather(len(l.voters), l.quorum, shares, l.checkShare)
	if err != nil {
		return nil, err
	}
	for _, sig := range byVoter {
		out = append(out, sig...)
	}
	return out, nil
}

func (l *List) checkShare(s Share) error {
	return checkShare(len(l.voters), ed25519.SignatureSize, s)
}

// VerifyShare implements Scheme.
func (l *List) VerifyShare(message []byte, s Share) error {
	if err := l.checkShare(s); err != nil {
		return err
	}
	if !ed25519.Verify(l.voters[s.Voter].PublicKey, message, s.Signature) {
		return fmt.Errorf("%w: share of voter %s does not fit", signalbox.ErrUntrusted, l.voters[s.Voter].Name)
	}
	return nil
}

// VerifyQuorum implements Scheme.
func (l *List) VerifyQuorum(scheme string, message, signature []byte) error {
	if scheme != ListName {
		return otherScheme(scheme, ListName)
	}
	signers, rest, err := signersOf(len(l.voters), l.quorum, signature)
	if err != nil {
		return err
	}
	if len(rest) != len(signers)*ed25519.SignatureSize {
		return fmt.Errorf("%w: quorum signature of %d voters has %d bytes", signalbox.ErrInvalid, len(signers), len(signature))
	}
	for _, i := range signers {
		if !ed25519.Verify(l.voters[i].PublicKey, message, rest[:ed25519.SignatureSize]) {
			return doesNotFit("voter " + l.voters[i].Name)
		}
		rest = rest[ed25519.SignatureSize:]
	}
	return nil
}
