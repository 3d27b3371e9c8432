package rpc

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// voterInput is what a voter's own proof signs: its name, data center and keys,
// each with its length.
func voterInput(cluster string, v *signalbox.Voter) []byte {
	var p []byte
	for _, part := range [][]byte{[]byte(v.Name), []byte(v.DataCenter), v.PublicKey, v.SignatureKey, v.SignatureProof} {
		p = binary.BigEndian.AppendUint64(p, uint64(len(part)))
		p = append(p, part...)
	}
	return SigningInput(DomainVoter, cluster, p)
}

// ProveVoter signs a voter's name and keys with its Ed25519 key, into v.Proof:
// nobody can enroll a key that another one holds.
func ProveVoter(cluster string, v *signalbox.Voter, key ed25519.PrivateKey) {
	v.PublicKey = key.Public().(ed25519.PublicKey)
	v.Proof = ed25519.Sign(key, voterInput(cluster, v))
}

// VerifyVoter returns nil when v.Proof is that of the key's holder, else
// ErrUntrusted.
func VerifyVoter(cluster string, v *signalbox.Voter) error {
	if len(v.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(v.PublicKey, voterInput(cluster, v), v.Proof) {
		return fmt.Errorf("%w: voter %s has not proven that it holds its key", signalbox.ErrUntrusted, v.Name)
	}
	return nil
}

func votersToWire(c *signalbox.VoterChange) *wire.VoterSet {
	m := &wire.VoterSet{
		Epoch: c.Epoch, Unavailable: uint32(max(c.Unavailable, 0)), Lying: uint32(max(c.Lying, 0)), Scheme: c.Scheme, By: c.By, Reason: c.Reason,
		Signature: c.Signature,
	}
	for i := range c.Voters {
		m.Voters = append(m.Voters, VoterToWire(&c.Voters[i]))
	}
	return m
}

// votersInput is what an operator signs of a change of voters: everything else in it.
func votersInput(cluster string, c *signalbox.VoterChange) ([]byte, error) {
	m := votersToWire(c)
	m.Signature = nil
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode voters: %w", err)
	}
	return SigningInput(DomainVoters, cluster, raw), nil
}

// SignVoters signs a change of voters with an operator's key; c.By is that
// operator's name.
func SignVoters(cluster string, c *signalbox.VoterChange, key ed25519.PrivateKey) error {
	input, err := votersInput(cluster, c)
	if err == nil {
		c.Signature = ed25519.Sign(key, input)
	}
	return err
}

// VerifyVoters returns nil when a key of the operator that c names signed it, else
// ErrUntrusted.
func VerifyVoters(trust Trust, c *signalbox.VoterChange) error {
	input, err := votersInput(trust.Cluster, c)
	if err != nil {
		return err
	}
	for _, key := range trust.OperatorKeys(c.By) {
		if trust.single()(key, input, c.Signature) {
			return nil
		}
	}
	return fmt.Errorf("%w: no key of operator %q signed the change of voters (its key has to stand in cluster.json: signalbox keys issue operator, then rotate the bundles)", signalbox.ErrUntrusted, c.By)
}

// VoterToWire writes a voter for messages of our own processes.
func VoterToWire(v *signalbox.Voter) *wire.VoterKey {
	return &wire.VoterKey{
		Name: v.Name, DataCenter: string(v.DataCenter), PublicKey: v.PublicKey, SignatureKey: v.SignatureKey,
		SignatureProof: v.SignatureProof, Proof: v.Proof,
	}
}

// VoterFromWire reads a voter; nothing of it is verified.
func VoterFromWire(m *wire.VoterKey) signalbox.Voter {
	return signalbox.Voter{
		Name: m.GetName(), DataCenter: signalbox.DataCenter(m.GetDataCenter()), PublicKey: m.GetPublicKey(),
		SignatureKey: m.GetSignatureKey(), SignatureProof: m.GetSignatureProof(), Proof: m.GetProof(),
	}
}

func votersFromWire(m *wire.VoterSet) (*signalbox.VoterChange, error) {
	if len(m.GetVoters()) > signalbox.MaxVoters || m.GetUnavailable() > signalbox.MaxVoters || m.GetLying() > signalbox.MaxVoters {
		return nil, fmt.Errorf("%w: a set of more than %d voters", signalbox.ErrInvalid, signalbox.MaxVoters)
	}
	c := &signalbox.VoterChange{By: m.GetBy(), Reason: m.GetReason(), Signature: m.GetSignature(), VoterSet: signalbox.VoterSet{
		Epoch: m.GetEpoch(), Unavailable: int(m.GetUnavailable()), Lying: int(m.GetLying()), Scheme: m.GetScheme(),
	}}
	for _, v := range m.GetVoters() {
		c.Voters = append(c.Voters, VoterFromWire(v))
	}
	return c, c.Check()
}
