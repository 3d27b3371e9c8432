package identity_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// numbered is a scheme whose keys are numbers; what they are good for is
// another package's.
func numbered() identity.Scheme {
	n := byte(0)
	return identity.Scheme{Name: "numbered", NewKey: func() (secret, public, proof []byte, err error) {
		n++
		return []byte{n}, []byte{n, n}, []byte{n, n, n}, nil
	}}
}

// TestSchemeKeys guards that a scheme's private keys are in their voters'
// bundles and nowhere else, survive a rotation, and that a bundle without or
// with another scheme's is not used.
func TestSchemeKeys(t *testing.T) {
	s := spec("shop")
	s.Voters, s.Signatures = []string{"east-1", "east-2", "west-1"}, numbered()
	a := newAuthority(t, s)
	bundle := func(name string) string { return filepath.Join(a.Dir(), "bundles", "gateway", name[:4], name) }
	for i, v := range a.Cluster().Voters {
		rotate(t, a, bundle(v.Name))
		b := load(t, bundle(v.Name))
		if want := []byte{byte(i + 1)}; !bytes.Equal(b.VoterSignature, want) || !bytes.Equal(v.SignatureKey, bytes.Repeat(want, 2)) || b.Voter == nil {
			t.Errorf("voter %s: secret %x, public %x", v.Name, b.VoterSignature, v.SignatureKey)
		}
	}
	if a.Cluster().Scheme() != "numbered" {
		t.Errorf("scheme %s", a.Cluster().Scheme())
	}
	file := filepath.Join(bundle("east-1"), identity.FileVoterSignature)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for says, data := range map[string][]byte{
		"for scheme \"other\"":     pem.EncodeToMemory(&pem.Block{Type: "SIGNALBOX VOTER KEY", Headers: map[string]string{"Scheme": "other"}, Bytes: []byte{1}}),
		"no PEM block":             []byte("1"),
		"a key of 0 bytes":         pem.EncodeToMemory(&pem.Block{Type: "SIGNALBOX VOTER KEY", Headers: map[string]string{"Scheme": "numbered"}}),
		"a key of 513 bytes":       pem.EncodeToMemory(&pem.Block{Type: "SIGNALBOX VOTER KEY", Headers: map[string]string{"Scheme": "numbered"}, Bytes: make([]byte, 513)}),
		"no PEM block \"SIGNALBOX": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Load(bundle("east-1")); !errors.Is(err, signalbox.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want it to say %s", err, says)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(bundle("east-1")); !errors.Is(err, signalbox.ErrInvalid) || !strings.Contains(err.Error(), "lost key") {
		t.Errorf("got %v", err)
	}
}

// TestSchemeFailure guards that no cluster is left behind when its scheme makes
// no key.
func TestSchemeFailure(t *testing.T) {
	s := spec("shop")
	s.Signatures = identity.Scheme{Name: "broken", NewKey: func() (a, b, c []byte, err error) { return nil, nil, nil, signalbox.ErrUnavailable }}
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := identity.Init(dir, s, time.Now()); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a keys directory is left")
	}
}

// TestClusterSignatures guards what is believed of a cluster.json about the
// voters' signature keys.
func TestClusterSignatures(t *testing.T) {
	full := func() *identity.Cluster {
		c := described(3)
		c.Signatures = "numbered"
		for i := range c.Voters {
			c.Voters[i].SignatureKey, c.Voters[i].SignatureProof = []byte{byte(i)}, []byte{1}
		}
		return c
	}
	if err := full().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*identity.Cluster)
		says   string
	}{
		"scheme's name": {func(c *identity.Cluster) { c.Signatures = "A scheme" }, "signature scheme"},
		"list with key": {func(c *identity.Cluster) { c.Signatures = identity.SchemeList }, "has a signature key"},
		"none, and key": {func(c *identity.Cluster) { c.Signatures = "" }, "has a signature key"},
		"no key":        {func(c *identity.Cluster) { c.Voters[1].SignatureKey = nil }, "signature key of 0 bytes"},
		"long key":      {func(c *identity.Cluster) { c.Voters[1].SignatureKey = make([]byte, 513) }, "signature key of 513 bytes"},
		"no proof":      {func(c *identity.Cluster) { c.Voters[1].SignatureProof = nil }, "proof of possession of 0 bytes"},
		"long proof":    {func(c *identity.Cluster) { c.Voters[1].SignatureProof = make([]byte, 513) }, "proof of possession of 513 bytes"},
		"same key":      {func(c *identity.Cluster) { c.Voters[1].SignatureKey = c.Voters[0].SignatureKey }, "stands twice"},
	} {
		broken := full()
		c.change(broken)
		if err := broken.Validate(); !errors.Is(err, signalbox.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, c.says)
		}
	}
}
