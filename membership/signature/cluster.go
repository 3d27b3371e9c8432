package signature

import (
	"crypto/ed25519"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// Auto stands for the scheme that suits the number of voters.
const Auto = "auto"

// MultiFrom is the number of voters from which on Auto is Multi. DESIGN.md has
// the measurement.
const MultiFrom = 25

// Names are the schemes that a cluster can be made with, and Auto.
func Names() []string { return []string{Auto, ListName, MultiName} }

// ForNew returns the scheme of a new cluster by its name, "" being Auto. An
// unknown name is ErrInvalid.
func ForNew(name string, voters int) (identity.Scheme, error) {
	if name == "" || name == Auto {
		name = ListName
		if voters >= MultiFrom {
			name = MultiName
		}
	}
	switch name {
	case ListName:
		return identity.Scheme{Name: name}, nil
	case MultiName:
		return identity.Scheme{Name: name, NewKey: NewMultiKey}, nil
	}
	return identity.Scheme{}, unknownScheme(name)
}

func unknownScheme(name string) error {
	return fmt.Errorf("%w: signature scheme %.40q, want %s or %s", signalbox.ErrInvalid, name, ListName, MultiName)
}

// FromCluster makes the configured scheme of a cluster's voters for whoever only
// verifies. Keys whose holder has not proven possession are refused.
func FromCluster(c *identity.Cluster) (Scheme, error) {
	return fromBundle(&identity.Bundle{Cluster: c})
}

// FromBundle makes the configured scheme of a cluster's voters as a bundle's
// holder has it: a voter can sign, everybody else can verify. A voter with
// another voter's key is refused.
func FromBundle(b *identity.Bundle) (Scheme, error) { return fromBundle(b) }

func fromBundle(b *identity.Bundle) (Scheme, error) {
	var s Scheme
	var err error
	self := -1
	switch c := b.Cluster; c.Scheme() {
	case ListName:
		var l *List
		if l, err = NewList(votersOf(c), c.Quorum(), b.Voter); err == nil {
			s, self = l, l.self
		}
	case MultiName:
		var m *Multi
		if m, err = NewMulti(votersOf(c), c.Quorum(), b.VoterSignature); err == nil {
			s, self = m, m.self
		}
	default:
		err = unknownScheme(c.Scheme())
	}
	if err == nil && self >= 0 && b.Self.Name != "" && b.Cluster.Voters[self].Name != b.Self.Name {
		err = fmt.Errorf("%w: %s holds the key of voter %s", signalbox.ErrUntrusted, b.Self, b.Cluster.Voters[self].Name)
	}
	if err != nil {
		return nil, fmt.Errorf("voters of cluster %s: %w", b.Cluster.Name, err)
	}
	return s, nil
}

// votersOf are the voters by the keys that the cluster's scheme verifies with.
func votersOf(c *identity.Cluster) []Voter {
	voters := make([]Voter, 0, len(c.Voters))
	for _, v := range c.Voters {
		if c.Scheme() == ListName {
			voters = append(voters, Voter{Name: v.Name, PublicKey: v.PublicKey})
		} else {
			voters = append(voters, Voter{Name: v.Name, PublicKey: v.SignatureKey, Proof: v.SignatureProof})
		}
	}
	return voters
}

// First is the voter set that a cluster begins with, as its description has it.
func First(c *identity.Cluster) signalbox.VoterSet {
	set := signalbox.VoterSet{Epoch: c.Epoch, Unavailable: c.Unavailable, Lying: c.Lying, Scheme: c.Scheme()}
	for _, v := range c.Voters {
		set.Voters = append(set.Voters, signalbox.Voter{
			Name: v.Name, DataCenter: v.DataCenter, PublicKey: v.PublicKey, SignatureKey: v.SignatureKey, SignatureProof: v.SignatureProof,
		})
	}
	return set
}

// ForSet makes a voter set's scheme for whoever only verifies. Keys whose holder
// has not proven possession are refused.
func ForSet(set signalbox.VoterSet) (Scheme, error) { return ForVoter(set, nil, nil) }

// ForVoter makes a voter set's scheme for a voter: key is its Ed25519 key, secret
// its key of a scheme that has keys of its own. ErrUntrusted: the set has neither.
func ForVoter(set signalbox.VoterSet, key ed25519.PrivateKey, secret []byte) (Scheme, error) {
	voters := make([]Voter, 0, len(set.Voters))
	for _, v := range set.Voters {
		if set.Scheme == ListName {
			voters = append(voters, Voter{Name: v.Name, PublicKey: v.PublicKey})
		} else {
			voters = append(voters, Voter{Name: v.Name, PublicKey: v.SignatureKey, Proof: v.SignatureProof})
		}
	}
	switch set.Scheme {
	case ListName:
		return NewList(voters, set.Quorum(), key)
	case MultiName:
		return NewMulti(voters, set.Quorum(), secret)
	}
	return nil, unknownScheme(set.Scheme)
}

// Trust is what verifies a cluster's blocks and certificates, from public data
// only: the first voters' keys, and the changes of voters that are learned.
func Trust(c *identity.Cluster) (rpc.Trust, error) {
	s, err := FromCluster(c)
	if err != nil {
		return rpc.Trust{}, err
	}
	t := c.Trust(s)
	t.Epochs, err = rpc.NewEpochs(c.Name, First(c), func(set signalbox.VoterSet) (rpc.QuorumVerifier, error) { return ForSet(set) })
	if err != nil {
		return rpc.Trust{}, err
	}
	t.SignersOf = func(epoch uint64, combined []byte) (names []string) {
		set, _ := t.Epochs.Of(epoch)
		for _, i := range Signers(len(set.Voters), combined) {
			names = append(names, set.Voters[i].Name)
		}
		return names
	}
	return t, nil
}
