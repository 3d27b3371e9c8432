package signature

import (
	"crypto/ed25519"
	"fmt"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// FromCluster makes the scheme of a cluster's voters for whoever only verifies.
func FromCluster(c *identity.Cluster) (Scheme, error) { return fromCluster(c, nil) }

// FromBundle makes the scheme of a cluster's voters as a bundle's holder has
// it: a voter can sign, everybody else can verify.
func FromBundle(b *identity.Bundle) (Scheme, error) { return fromCluster(b.Cluster, b.Voter) }

func fromCluster(c *identity.Cluster, key ed25519.PrivateKey) (Scheme, error) {
	voters := make([]Voter, 0, len(c.Voters))
	for _, v := range c.Voters {
		voters = append(voters, Voter{Name: v.Name, PublicKey: v.PublicKey})
	}
	l, err := NewList(voters, c.Quorum(), key)
	if err != nil {
		return nil, fmt.Errorf("voters of cluster %s: %w", c.Name, err)
	}
	return l, nil
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
