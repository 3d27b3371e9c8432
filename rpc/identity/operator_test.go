package identity_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// An operator's bundle has a key that the cluster's description names, also after
// a rotation; a key that is not named is refused.
func TestOperatorKey(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	p := rpc.Principal{Cluster: a.Cluster().Name, Role: rpc.RoleOperator, Name: "ada"}
	out := filepath.Join(t.TempDir(), "ada")
	now := time.Now()
	if err := a.Issue(p, out, identity.IssueOptions{Now: now}); err != nil {
		t.Fatal(err)
	}
	b, err := identity.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if b.Operator == nil || len(a.Cluster().Operators) != 1 || len(b.Cluster.Operators) != 1 {
		t.Fatalf("operator's key %v, named by %v", b.Operator != nil, b.Cluster.Operators)
	}
	if s, ok := b.Cluster.Trust(nil).Operators(rpc.IdentityOf(b.Operator.Public().(ed25519.PublicKey))); !ok || s.Name != "ada" {
		t.Errorf("the trust names %q, %v", s.Name, ok)
	}
	if err := a.Rotate(out, identity.IssueOptions{Now: now}); err != nil {
		t.Fatal(err)
	}
	rotated, err := identity.Load(out)
	if err != nil || !rotated.Operator.Equal(b.Operator) {
		t.Errorf("after a rotation: %v, another key %v", err, rotated != nil && !rotated.Operator.Equal(b.Operator))
	}
	if err := a.Issue(p, out, identity.IssueOptions{Now: now, Force: true}); err != nil {
		t.Fatal(err)
	}
	if n := len(a.Cluster().Operators); n != 2 {
		t.Errorf("%d keys are named after a second one: what the first signed would not verify any more", n)
	}
	other := newAuthority(t, spec("shop"))
	strange := filepath.Join(t.TempDir(), "ada")
	if err := other.Issue(p, strange, identity.IssueOptions{Now: now}); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(strange, identity.FileOperator))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, identity.FileOperator), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Load(out); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("a key that cluster.json does not name: %v", err)
	}
}
