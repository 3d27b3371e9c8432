package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/signalbox-io/signalbox"
)

// SchemeList is the signature scheme of a cluster.json that names none: voters
// sign with their Ed25519 keys. What each scheme does is membership/signature's.
const SchemeList = "ed25519-list"

// Maxima of what a signature scheme keeps of a voter, in bytes.
const (
	MaxSignatureKey    = 512
	MaxSignatureProof  = 512
	MaxSignatureSecret = 512
)

// pemVoter is the type of the PEM block in FileVoterSignature; its header
// "Scheme" names the scheme.
const pemVoter = "SIGNALBOX VOTER KEY"

// A Scheme is how the voters of a new cluster sign blocks; the zero value is
// SchemeList. Package membership/signature makes them.
type Scheme struct {
	Name string
	// NewKey makes one voter's key for the scheme and the proof that whoever
	// enrolls the public key holds the private one; nil where voters sign with
	// their Ed25519 keys.
	NewKey func() (secret, public, proof []byte, err error)
}

// voterSecrets are the private keys of a voter.
type voterSecrets struct {
	key ed25519.PrivateKey
	// signature is the scheme's own key, nil where it has none.
	signature []byte
}

// newVoter makes a voter's keys.
func newVoter(v *Voter, s Scheme) (*voterSecrets, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make voter key: %w", err)
	}
	v.PublicKey = public
	out := &voterSecrets{key: private}
	if s.NewKey != nil {
		out.signature, v.SignatureKey, v.SignatureProof, err = s.NewKey()
	}
	return out, err
}

// files are the bundle's files with a voter's private keys; none of whoever
// does not vote.
func (v *voterSecrets) files(scheme string) ([]bundleFile, error) {
	if v == nil {
		return nil, nil
	}
	data, err := pemKey(v.key)
	if err != nil {
		return nil, err
	}
	out := []bundleFile{{FileVoter, data, modeSecret}}
	if v.signature != nil {
		block := &pem.Block{Type: pemVoter, Headers: map[string]string{"Scheme": scheme}, Bytes: v.signature}
		out = append(out, bundleFile{FileVoterSignature, pem.EncodeToMemory(block), modeSecret})
	}
	return out, nil
}

// Scheme is the name of the signature scheme of the cluster's voters.
func (c *Cluster) Scheme() string {
	if c.Signatures == "" {
		return SchemeList
	}
	return c.Signatures
}

// validateSignatures checks the scheme's name and that every voter has what it
// needs. Whether keys and proofs are any good is membership/signature's to say.
func (c *Cluster) validateSignatures() error {
	if err := signalbox.CheckName("signature scheme", c.Scheme()); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, v := range c.Voters {
		if c.Scheme() == SchemeList {
			if v.SignatureKey != nil || v.SignatureProof != nil {
				return fmt.Errorf("%w: voter %q has a signature key; with %s voters sign with their public_key", signalbox.ErrInvalid, v.Name, SchemeList)
			}
			continue
		}
		if n := len(v.SignatureKey); n == 0 || n > MaxSignatureKey {
			return fmt.Errorf("%w: voter %q: signature key of %d bytes, want 1 to %d for %s", signalbox.ErrInvalid, v.Name, n, MaxSignatureKey, c.Scheme())
		}
		if n := len(v.SignatureProof); n == 0 || n > MaxSignatureProof {
			return fmt.Errorf("%w: voter %q: proof of possession of %d bytes, want 1 to %d for %s", signalbox.ErrInvalid, v.Name, n, MaxSignatureProof, c.Scheme())
		}
		if seen[string(v.SignatureKey)] {
			return fmt.Errorf("%w: voter %q: its signature key stands twice", signalbox.ErrInvalid, v.Name)
		}
		seen[string(v.SignatureKey)] = true
	}
	return nil
}

// readVoter reads a voter's private keys, and sees that whoever does not vote
// has none.
func (b *Bundle) readVoter() error {
	voter, votes := b.Cluster.Voter(b.Self.Name)
	key, err := readEd25519(b.path(FileVoter))
	switch {
	case !votes && errors.Is(err, fs.ErrNotExist):
		return nil
	case votes && errors.Is(err, fs.ErrNotExist) && exists(b.path(FileVoterLost)):
		return nil
	case votes && errors.Is(err, fs.ErrNotExist):
		return b.lostKey(FileVoter)
	case err != nil:
		return err
	case !votes:
		return fmt.Errorf("%w: %s does not vote and has a %s: remove it", signalbox.ErrInvalid, b.Self.Name, FileVoter)
	case !key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(voter.PublicKey)):
		return fmt.Errorf("%w: %s is not the key of voter %s in %s: put back the one that was made with this gateway's bundle; a lost one is replaced: signalbox keys issue gateway --lost-voter-key, then signalbox gateway voters change --replace", signalbox.ErrUntrusted, FileVoter, voter.Name, FileCluster)
	}
	b.Voter = key
	if voter.SignatureKey == nil {
		return nil
	}
	b.VoterSignature, err = readVoterSignature(b.path(FileVoterSignature), b.Cluster.Scheme())
	if errors.Is(err, fs.ErrNotExist) {
		return b.lostKey(FileVoterSignature)
	}
	return err
}

func (b *Bundle) lostKey(file string) error {
	return fmt.Errorf("%w: %s votes and %s is missing: take the bundle that was made with the cluster; a lost key is replaced with the next voter set only: signalbox keys issue gateway --lost-voter-key makes a bundle without it, then signalbox gateway voters change --replace makes the gateway a voter with a new one", signalbox.ErrInvalid, b.Self.Name, file)
}

func readVoterSignature(path, scheme string) ([]byte, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("read voter key: %w", err)
	}
	secret, err := parseVoterSignature(data, scheme)
	if err != nil {
		return nil, fmt.Errorf("read voter key %s: %w", path, err)
	}
	return secret, nil
}

func parseVoterSignature(data []byte, scheme string) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemVoter {
		return nil, fmt.Errorf("%w: no PEM block %q in it", signalbox.ErrInvalid, pemVoter)
	}
	if got := block.Headers["Scheme"]; got != scheme {
		return nil, fmt.Errorf("%w: a key for scheme %.40q, the cluster's is %s", signalbox.ErrInvalid, got, scheme)
	}
	if len(block.Bytes) == 0 || len(block.Bytes) > MaxSignatureSecret {
		return nil, fmt.Errorf("%w: a key of %d bytes, want 1 to %d", signalbox.ErrInvalid, len(block.Bytes), MaxSignatureSecret)
	}
	return block.Bytes, nil
}
