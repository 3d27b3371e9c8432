package signature

import (
	"bytes"
	"fmt"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"

	"github.com/signalbox-io/signalbox"
)

// MultiName is the name of the BLS12-381 multisignature scheme.
const MultiName = "bls12381-multi"

// Multi is the scheme "bls12381-multi": a bitmap of the signers, then the sum
// of their BLS signatures, a point of 48 bytes. It is the ciphersuite
// BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_ of draft-irtf-cfrg-bls-signature
// with FastAggregateVerify; which keys are added up is what the bitmap says.
type Multi struct {
	voters []Voter
	keys   []bls.G2Affine
	// all is the sum of all keys: where most voters signed, taking the others
	// out is cheaper than adding the signers up.
	all    bls.G2Jac
	quorum int
	self   int
	key    *multiKey
}

// NewMulti makes the multisignature scheme for a voter set of which quorum have
// to sign. It verifies every voter's key and proof of possession, without which
// one voter could choose a key that cancels the others'. secret is this
// process's own voter key, or nil for one that only verifies.
func NewMulti(voters []Voter, quorum int, secret []byte) (*Multi, error) {
	if err := checkSet(voters, quorum, MultiKeySize); err != nil {
		return nil, err
	}
	m := &Multi{voters: voters, quorum: quorum, self: -1, keys: make([]bls.G2Affine, len(voters))}
	for i, v := range voters {
		var err error
		if m.keys[i], err = parsePublicMultiKey(v.PublicKey); err != nil {
			return nil, fmt.Errorf("key of voter %s: %w", v.Name, err)
		}
		if err := verifyProof(&m.keys[i], v); err != nil {
			return nil, err
		}
		m.all.AddMixed(&m.keys[i])
	}
	if secret == nil {
		return m, nil
	}
	return m, m.own(secret)
}

func verifyProof(key *bls.G2Affine, v Voter) error {
	if len(v.Proof) == 0 {
		return fmt.Errorf("%w: voter %s: its key comes without a proof of possession", signalbox.ErrUntrusted, v.Name)
	}
	proof, err := parseMultiSignature(v.Proof)
	if err != nil {
		return fmt.Errorf("proof of voter %s: %w", v.Name, err)
	}
	if !fits(key, v.PublicKey, proofDomain, &proof) {
		return fmt.Errorf("%w: voter %s: the proof of possession does not fit its key", signalbox.ErrUntrusted, v.Name)
	}
	return nil
}

// own takes this process's key and finds whose it is.
func (m *Multi) own(secret []byte) (err error) {
	if m.key, err = parseMultiKey(secret); err != nil {
		return err
	}
	public, err := m.key.public()
	if err != nil {
		return err
	}
	for i, v := range m.voters {
		if bytes.Equal(v.PublicKey, public) {
			m.self = i
			return nil
		}
	}
	return notOfTheSet()
}

// Name returns "bls12381-multi".
func (m *Multi) Name() string { return MultiName }

// Sign implements Scheme.
func (m *Multi) Sign(message []byte) (Share, error) {
	if m.self < 0 {
		return Share{}, noKey()
	}
	s, err := m.key.sign(message, multiDomain)
	return Share{Voter: m.self, Signature: s}, err
}

// Combine implements Scheme.
func (m *Multi) Combine(shares []Share) ([]byte, error) {
	out, byVoter, err := gather(len(m.voters), m.quorum, shares, m.checkShare)
	if err != nil {
		return nil, err
	}
	var sum bls.G1Jac
	for i, s := range byVoter {
		if s == nil {
			continue
		}
		p, err := parseMultiSignature(s)
		if err != nil {
			return nil, fmt.Errorf("share of voter %s: %w", m.voters[i].Name, err)
		}
		sum.AddMixed(&p)
	}
	var p bls.G1Affine
	encoded := p.FromJacobian(&sum).Bytes()
	return append(out, encoded[:]...), nil
}

func (m *Multi) checkShare(s Share) error {
	return checkShare(len(m.voters), MultiSignatureSize, s)
}

// VerifyShare implements Scheme.
func (m *Multi) VerifyShare(message []byte, s Share) error {
	if err := m.checkShare(s); err != nil {
		return err
	}
	p, err := parseMultiSignature(s.Signature)
	if err != nil {
		return fmt.Errorf("share of voter %s: %w", m.voters[s.Voter].Name, err)
	}
	if !fits(&m.keys[s.Voter], message, multiDomain, &p) {
		return fmt.Errorf("%w: share of voter %s does not fit", signalbox.ErrUntrusted, m.voters[s.Voter].Name)
	}
	return nil
}

// VerifyQuorum implements Scheme. It cannot tell whose share was bad.
func (m *Multi) VerifyQuorum(scheme string, message, signature []byte) error {
	if scheme != MultiName {
		return otherScheme(scheme, MultiName)
	}
	signers, rest, err := signersOf(len(m.voters), m.quorum, signature)
	if err != nil {
		return err
	}
	p, err := parseMultiSignature(rest)
	if err != nil {
		return fmt.Errorf("quorum signature: %w", err)
	}
	key := m.sum(signers)
	if !fits(&key, message, multiDomain, &p) {
		return doesNotFit(fmt.Sprintf("%d voters together", len(signers)))
	}
	return nil
}

// sum adds the signers' keys up; signers are ascending.
func (m *Multi) sum(signers []int) (key bls.G2Affine) {
	var sum bls.G2Jac
	if 2*len(signers) <= len(m.voters) {
		for _, i := range signers {
			sum.AddMixed(&m.keys[i])
		}
		return *key.FromJacobian(&sum)
	}
	sum.Set(&m.all)
	for i := range m.keys {
		if len(signers) > 0 && signers[0] == i {
			signers = signers[1:]
			continue
		}
		var absent bls.G2Affine
		sum.AddMixed(absent.Neg(&m.keys[i]))
	}
	return *key.FromJacobian(&sum)
}
