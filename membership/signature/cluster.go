package signature

import (
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

// Trust is what verifies a cluster's blocks and certificates, from public data
// only.
func Trust(c *identity.Cluster) (rpc.Trust, error) {
	s, err := FromCluster(c)
	if err != nil {
		return rpc.Trust{}, err
	}
	t := c.Trust(s)
	t.SignersOf = func(combined []byte) (names []string) {
		for _, i := range Signers(len(c.Voters), combined) {
			names = append(names, c.Voters[i].Name)
		}
		return names
	}
	return t, nil
}
