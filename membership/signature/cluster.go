package signature

import (
	"crypto/ed25519"
	"fmt"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// FromCluster makes the scheme of a cluster's voters. key is this process's own
// voter key, or nil for one that only verifies.
func FromCluster(c *identity.Cluster, key ed25519.PrivateKey) (*List, error) {
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
	l, err := FromCluster(c, nil)
	if err != nil {
		return rpc.Trust{}, err
	}
	return rpc.Trust{Cluster: c.Name, Quorum: l}, nil
}
