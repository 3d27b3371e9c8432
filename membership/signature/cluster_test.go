package signature_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/membership/signature/signaturetest"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// described is a cluster of n voters that sign by a scheme, and their bundles.
func described(scheme string, n int) (*identity.Cluster, []*identity.Bundle) {
	c := &identity.Cluster{Name: "shop", Epoch: 1, Signatures: scheme}
	c.Unavailable, c.Lying = identity.DefaultFaults(n)
	var bundles []*identity.Bundle
	for i, v := range voters(n) {
		voter := identity.Voter{Name: v.Name, PublicKey: v.PublicKey}
		b := &identity.Bundle{Cluster: c, Voter: key(i), Self: rpc.Principal{Cluster: c.Name, Role: rpc.RoleGateway, Name: v.Name}}
		if scheme == signature.MultiName {
			k := multiKeys()[i]
			voter.SignatureKey, voter.SignatureProof, b.VoterSignature = k.voter.PublicKey, k.voter.Proof, k.bytes()
		}
		c.Voters, bundles = append(c.Voters, voter), append(bundles, b)
	}
	return c, bundles
}

// TestFromCluster guards, for each scheme, that a cluster's description says who
// votes, how and how many have to.
func TestFromCluster(t *testing.T) {
	for _, name := range []string{"", signature.ListName, signature.MultiName} {
		t.Run(name, func(t *testing.T) { fromCluster(t, name) })
	}
}

func fromCluster(t *testing.T, name string) {
	c, bundles := described(name, 4)
	trust, err := signature.Trust(c)
	if err != nil {
		t.Fatal(err)
	}
	b := &signalbox.Block{Cluster: "shop", Epoch: 1, Index: 1, Requests: []signalbox.Request{{Handover: &signalbox.Handover{ID: "a", Service: "orders", Term: 1, To: "east"}}}}
	raw, err := rpc.EncodeBlock(b)
	if err != nil {
		t.Fatal(err)
	}
	var s signature.Scheme
	var signed []signature.Share
	for _, b := range bundles[:3] {
		if s, err = signature.FromBundle(b); err != nil {
			t.Fatal(err)
		}
		share, err := s.Sign(rpc.SigningInput(rpc.DomainBlock, "shop", raw))
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, share)
	}
	sig, err := s.Combine(signed)
	if err != nil {
		t.Fatal(err)
	}
	d, err := rpc.SealBlock(raw, s.Name(), sig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.OpenBlock(trust, d.Raw); err != nil {
		t.Error(err)
	}
	if s.Name() != c.Scheme() {
		t.Errorf("the block names scheme %s, the cluster %s", s.Name(), c.Scheme())
	}
	c.Voters[0], c.Voters[3] = c.Voters[3], c.Voters[0]
	other, err := signature.Trust(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rpc.OpenBlock(other, d.Raw)
	signaturetest.Wants(t, err, signalbox.ErrUntrusted, "does not fit")
	c.Voters = nil
	_, err = signature.Trust(c)
	signaturetest.Wants(t, err, signalbox.ErrInvalid, "voters")
}

// TestFromBundleRefuses guards that a process begins to vote with its own key
// only, and believes no key without a proof.
func TestFromBundleRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		scheme string
		change func(c *identity.Cluster, b *identity.Bundle)
		kind   error
		says   string
	}{
		"another voter's Ed25519 key": {signature.ListName, func(_ *identity.Cluster, b *identity.Bundle) { b.Voter = key(1) }, signalbox.ErrUntrusted, "gw-1"},
		"a stranger's Ed25519 key":    {signature.ListName, func(_ *identity.Cluster, b *identity.Bundle) { b.Voter = key(9) }, signalbox.ErrUntrusted, "not of the voter set"},
		"another voter's BLS key": {signature.MultiName, func(_ *identity.Cluster, b *identity.Bundle) { b.VoterSignature = multiKeys()[1].bytes() },
			signalbox.ErrUntrusted, "gw-1"},
		"a stranger's BLS key": {signature.MultiName, func(_ *identity.Cluster, b *identity.Bundle) { b.VoterSignature = multiKeys()[9].bytes() },
			signalbox.ErrUntrusted, "not of the voter set"},
		"no proof": {signature.MultiName, func(c *identity.Cluster, _ *identity.Bundle) { c.Voters[2].SignatureProof = nil }, signalbox.ErrUntrusted, "gw-2"},
		"another's proof": {signature.MultiName, func(c *identity.Cluster, _ *identity.Bundle) { c.Voters[2].SignatureProof = c.Voters[1].SignatureProof },
			signalbox.ErrUntrusted, "gw-2"},
		"an unknown scheme": {signature.ListName, func(c *identity.Cluster, _ *identity.Bundle) { c.Signatures = "rsa" }, signalbox.ErrInvalid, "rsa"},
	} {
		cluster, bundles := described(c.scheme, 4)
		c.change(cluster, bundles[0])
		_, err := signature.FromBundle(bundles[0])
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", name, err, c.kind)
			continue
		}
		signaturetest.Wants(t, err, c.kind, c.says)
	}
	_, bundles := described(signature.MultiName, 4)
	bundles[0].VoterSignature = nil
	s, err := signature.FromBundle(bundles[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Sign(message)
	signaturetest.Wants(t, err, signalbox.ErrNotConfigured, "no voter's key")
}

// TestForNew guards which scheme a new cluster gets, and that what it gets
// makes keys that are accepted.
func TestForNew(t *testing.T) {
	for _, c := range []struct {
		name   string
		voters int
		want   string
	}{
		{"", 1, signature.ListName}, {signature.Auto, signature.MultiFrom - 1, signature.ListName}, {signature.Auto, signature.MultiFrom, signature.MultiName},
		{signature.MultiName, 3, signature.MultiName}, {signature.ListName, 100, signature.ListName},
	} {
		s, err := signature.ForNew(c.name, c.voters)
		if err != nil || s.Name != c.want || (s.NewKey != nil) != (c.want == signature.MultiName) {
			t.Errorf("%q for %d voters: %s, %v; want %s", c.name, c.voters, s.Name, err, c.want)
		}
	}
	_, err := signature.ForNew("rsa", 1)
	signaturetest.Wants(t, err, signalbox.ErrInvalid, "want ed25519-list or bls12381-multi")
}

// TestLargestSetFits guards that the largest voter set's combined signature
// leaves a block its room (rpc.MaxBlock), and its keys a cluster.json theirs.
func TestLargestSetFits(t *testing.T) {
	list := (signature.MaxVoters+7)/8 + signature.MaxVoters*64
	if list > rpc.MaxBlock/8 {
		t.Errorf("a list of %d bytes in a block of at most %d", list, rpc.MaxBlock)
	}
	perVoter := len(fmt.Sprintf("%x", make([]byte, signature.MultiKeySize+signature.MultiSignatureSize+32))) // base64 is shorter
	if all := signature.MaxVoters * perVoter; all > identity.MaxFile/4 {
		t.Errorf("the voters' keys take %d bytes of a cluster.json of at most %d", all, identity.MaxFile)
	}
}
