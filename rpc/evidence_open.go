package rpc

import (
	"crypto/ed25519"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// A Signer is somebody who may sign others' evidence, by name and key.
type Signer struct {
	Name string
	Key  ed25519.PublicKey
}

// SignerLookup returns a signer by the fingerprint of its key; false when it may
// not sign.
type SignerLookup func(signalbox.Identity) (Signer, bool)

// OpenEvidence verifies a piece of evidence of any kind: an instance's own
// statement with keys, others' testimony with the trust. Errors are as Open;
// evidence of a kind for which the trust names nobody is not trusted.
func OpenEvidence(trust Trust, raw []byte, keys KeyLookup) (signalbox.Evidence, error) {
	kind, err := EvidenceKind(raw)
	if err != nil {
		return signalbox.Evidence{}, err
	}
	if !kind.ByOthers() {
		return openStatement(trust.Cluster, raw, keys, trust.single())
	}
	e, err := openTestimony(trust, kind, raw)
	if err != nil {
		return signalbox.Evidence{}, fmt.Errorf("open %s: %w", kind, err)
	}
	return e, nil
}

// EvidenceKind says from an envelope's domain whose evidence it is: SaysLapse,
// SaysFence, SaysAttest, or 0 for an instance's own statement.
func EvidenceKind(raw []byte) (signalbox.StatementKind, error) {
	if len(raw) == 0 || len(raw) > MaxEvidence {
		return 0, fmt.Errorf("%w: evidence has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxEvidence)
	}
	var env wire.Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return 0, fmt.Errorf("%w: evidence: %w", signalbox.ErrInvalid, err)
	}
	for kind, d := range domains {
		if Domain(env.Domain) == d {
			return kind, nil
		}
	}
	if Domain(env.Domain) != DomainStatement {
		return 0, fmt.Errorf("%w: signed message of domain %d is no evidence", signalbox.ErrInvalid, env.Domain)
	}
	return 0, nil
}

// InspectEvidence reads evidence without verifying its signatures: for passing
// it on, never for acting on it.
func InspectEvidence(raw []byte) (signalbox.Statement, error) {
	kind, err := EvidenceKind(raw)
	if err != nil {
		return signalbox.Statement{}, fmt.Errorf("inspect evidence: %w", err)
	}
	if !kind.ByOthers() {
		return InspectStatement(raw)
	}
	var env wire.Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return signalbox.Statement{}, fmt.Errorf("%w: evidence: %w", signalbox.ErrInvalid, err)
	}
	t, err := testimonyFrom(kind, env.Payload)
	return t.Statement, err
}

func openTestimony(trust Trust, kind signalbox.StatementKind, raw []byte) (signalbox.Evidence, error) {
	var env wire.Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return signalbox.Evidence{}, fmt.Errorf("%w: %w", signalbox.ErrInvalid, err)
	}
	if env.Version != Version {
		return signalbox.Evidence{}, fmt.Errorf("%w: version %d, this program speaks %d", signalbox.ErrInvalid, env.Version, Version)
	}
	t, err := testimonyFrom(kind, env.Payload)
	if err != nil {
		return signalbox.Evidence{}, err
	}
	message := SigningInput(domains[kind], trust.Cluster, env.Payload)
	switch kind {
	case signalbox.SaysLapse:
		t.Witness.By, err = openLapse(trust, t.Witness.Epoch, message, &env)
	case signalbox.SaysFence:
		t.Witness.By, t.Witness.Epoch, err = openFence(trust, message, env.Shares)
	case signalbox.SaysAttest:
		err = openAttest(trust, raw, t.Witness.By[0])
	}
	return signalbox.Evidence{Statement: t.Statement, Witness: &t.Witness, Envelope: raw}, err
}

func openLapse(trust Trust, epoch uint64, message []byte, env *wire.Envelope) ([]string, error) {
	quorum, err := trust.quorumOf(epoch, 0)
	if err == nil {
		err = quorum.VerifyQuorum(env.Scheme, message, env.Signature)
	}
	if err != nil || trust.SignersOf == nil {
		return nil, err
	}
	return trust.SignersOf(epoch, env.Signature), nil
}

// lapseEpoch reads, unverified, which voter set a lapse names; 0 for other
// evidence.
func lapseEpoch(raw []byte) uint64 {
	var env wire.Envelope
	if kind, err := EvidenceKind(raw); err != nil || kind != signalbox.SaysLapse || proto.Unmarshal(raw, &env) != nil {
		return 0
	}
	t, err := testimonyFrom(signalbox.SaysLapse, env.Payload)
	if err != nil {
		return 0
	}
	return t.Witness.Epoch
}

// fencersOf returns the set of which a fence's signers are voters and enough of
// them, the newest one, and how many have to sign; without epochs, those that the
// trust names. Whoever learns of a newer set, in which as many are too few, goes on
// believing what it believed: the log has it.
func fencersOf(trust Trust, shares []*wire.Share) (fencers SignerLookup, quorum int, epoch uint64) {
	if trust.Epochs == nil {
		return trust.Fencers, trust.FenceQuorum, 0
	}
	newest, first := trust.Epochs.Newest(), trust.Epochs.First().Epoch
	for n := newest.Epoch; n >= first; n-- {
		if set, _ := trust.Epochs.Of(n); mayFence(set, shares) {
			return Fencers(set), set.Lying + 1, n
		}
	}
	return Fencers(newest), newest.Lying + 1, newest.Epoch // the error is about them
}

// mayFence reports whether a fence's signers are all voters of a set, and enough.
func mayFence(set signalbox.VoterSet, shares []*wire.Share) bool {
	fencers := Fencers(set)
	for _, s := range shares {
		id, err := IdentityFromBytes(s.GetSigner())
		if _, ok := fencers(id); err != nil || !ok {
			return false
		}
	}
	return len(shares) > set.Lying
}

// fenceEpoch reads, unverified, the oldest set from an epoch on whose voters may have
// signed a fence: whoever knows the sets up to that one can verify it. 0: it is none,
// or no set's.
func fenceEpoch(epochs *Epochs, from uint64, raw []byte) uint64 {
	var env wire.Envelope
	if kind, err := EvidenceKind(raw); err != nil || kind != signalbox.SaysFence || proto.Unmarshal(raw, &env) != nil {
		return 0
	}
	for n := from; ; n++ {
		set, known := epochs.Of(n)
		if !known {
			return 0
		}
		if mayFence(set, env.Shares) {
			return n
		}
	}
}

// Fencers are the voters of a set, who sign fences with the keys of what they say
// by themselves.
func Fencers(set signalbox.VoterSet) SignerLookup {
	return func(id signalbox.Identity) (Signer, bool) {
		for _, v := range set.Voters {
			if IdentityOf(v.PublicKey) == id {
				return Signer{Name: v.Name, Key: v.PublicKey}, true
			}
		}
		return Signer{}, false
	}
}

// openFence wants the signatures of enough distinct gateways, voters of one
// epoch, and no signature that does not fit.
func openFence(trust Trust, message []byte, shares []*wire.Share) ([]string, uint64, error) {
	fencers, quorum, epoch := fencersOf(trust, shares)
	names, err := verifyFence(trust.single(), fencers, quorum, message, shares)
	return names, epoch, err
}

func verifyFence(verify SingleVerifier, fencers SignerLookup, quorum int, message []byte, shares []*wire.Share) ([]string, error) {
	var names []string
	seen := map[signalbox.Identity]bool{}
	for _, s := range shares {
		id, err := IdentityFromBytes(s.GetSigner())
		if err != nil {
			return nil, err
		}
		signer, ok := lookup(fencers, id)
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: %s is no gateway that may sign a fence", signalbox.ErrUntrusted, id)
		case seen[id]:
			return nil, fmt.Errorf("%w: gateway %s signed twice", signalbox.ErrUntrusted, signer.Name)
		case !verify(signer.Key, message, s.GetSignature()):
			return nil, fmt.Errorf("%w: signature of gateway %s does not fit", signalbox.ErrUntrusted, signer.Name)
		}
		seen[id] = true
		names = append(names, signer.Name)
	}
	if want := max(quorum, 1); len(names) < want {
		return nil, fmt.Errorf("%w: %d gateways signed the fence, %d are needed", signalbox.ErrUntrusted, len(names), want)
	}
	return names, nil
}

// openAttest wants the signature of the operator that the attest names.
func openAttest(trust Trust, raw []byte, operator string) error {
	keys := func(id signalbox.Identity) ed25519.PublicKey {
		if s, ok := lookup(trust.Operators, id); ok && s.Name == operator {
			return s.Key
		}
		return nil
	}
	_, _, err := open(DomainAttest, trust.Cluster, raw, MaxEvidence, keys, trust.single())
	if err != nil {
		return fmt.Errorf("%w: operator %q: %w (its key has to stand in cluster.json: signalbox keys issue operator, then rotate the bundles)", signalbox.ErrUntrusted, operator, err)
	}
	return nil
}

func lookup(signers SignerLookup, id signalbox.Identity) (Signer, bool) {
	if signers == nil {
		return Signer{}, false
	}
	s, ok := signers(id)
	return s, ok && len(s.Key) == ed25519.PublicKeySize && IdentityOf(s.Key) == id
}

// InspectTestimony is InspectEvidence for others' evidence, with what it says of
// its signers.
func InspectTestimony(raw []byte) (signalbox.Statement, *signalbox.Witness, error) {
	kind, err := EvidenceKind(raw)
	if err != nil {
		return signalbox.Statement{}, nil, fmt.Errorf("inspect evidence: %w", err)
	}
	if !kind.ByOthers() {
		return signalbox.Statement{}, nil, fmt.Errorf("%w: it is an instance's own word", signalbox.ErrInvalid)
	}
	var env wire.Envelope
	if err := proto.Unmarshal(raw, &env); err != nil {
		return signalbox.Statement{}, nil, fmt.Errorf("%w: evidence: %w", signalbox.ErrInvalid, err)
	}
	t, err := testimonyFrom(kind, env.Payload)
	return t.Statement, &t.Witness, err
}
