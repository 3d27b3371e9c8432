package identity_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

func rotate(t *testing.T, a *identity.Authority, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := a.Rotate(dir, identity.IssueOptions{Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRotate guards that rotation renews what may change, keeps what may not,
// and touches no bundle of another cluster.
func TestRotate(t *testing.T) {
	a, foreign := newAuthority(t, spec("shop")), newAuthority(t, spec("shop"))
	dir := a.BundleDir(principal(rpc.RoleGateway, "east", "east-1"))
	before := load(t, dir)
	old := keeper(t, dir).Certificate().Leaf.SerialNumber
	if err := a.AddGateway("west", identity.GatewayAt("west-2", "10.0.0.9", 7400)); err != nil {
		t.Fatal(err)
	}
	if err := a.Rotate(dir, identity.IssueOptions{Now: time.Now(), Validity: 48 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	after := load(t, dir)
	if keeper(t, dir).Certificate().Leaf.SerialNumber.Cmp(old) == 0 || after.NotAfter.After(time.Now().Add(49*time.Hour)) {
		t.Error("the certificate is the old one")
	}
	if !after.Voter.Equal(before.Voter) || string(after.Gossip[0]) != string(before.Gossip[0]) {
		t.Error("rotating a leaf changed the voter's or the gossip key")
	}
	if _, _, ok := after.Cluster.Gateway("west-2"); !ok {
		t.Error("the rotated bundle does not know the new gateway")
	}
	wants(t, foreign.Rotate(dir, identity.IssueOptions{Now: time.Now()}), signalbox.ErrUntrusted, "another cluster")
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left) != 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// TestKeeperKeepsOldPair guards that a process that reads in the middle of a
// rotation keeps its identity, and takes the new one when it is whole.
func TestKeeperKeepsOldPair(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	dir := a.BundleDir(principal(rpc.RoleGateway, "east", "east-1"))
	next := filepath.Join(t.TempDir(), "next")
	if err := os.CopyFS(next, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	rotate(t, a, next)
	move := func(name string) {
		if err := os.Rename(filepath.Join(next, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		k, err := rpc.NewKeeper("shop", rpc.Files{
			Certificate: filepath.Join(dir, identity.FileCertificate), Key: filepath.Join(dir, identity.FileKey), CA: filepath.Join(dir, identity.FileCA),
		})
		if err != nil {
			t.Fatal(err)
		}
		old := k.Certificate().Leaf.SerialNumber
		move(identity.FileKey)
		time.Sleep(10 * time.Second)
		if k.Certificate().Leaf.SerialNumber.Cmp(old) != 0 {
			t.Fatal("the keeper took half a rotation")
		}
		move(identity.FileCertificate)
		time.Sleep(10 * time.Second)
		if k.Certificate().Leaf.SerialNumber.Cmp(old) == 0 {
			t.Fatal("the keeper never took the whole rotation")
		}
	})
}

// TestCARotation guards that at each step of a CA's rotation a process that was
// rotated and one that was not yet still talk to each other, both ways.
func TestCARotation(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	one := a.BundleDir(principal(rpc.RoleGateway, "east", "east-1"))
	two := a.BundleDir(principal(rpc.RoleGateway, "west", "west-1"))
	talk := func(step string) {
		t.Helper()
		x, y := keeper(t, one), keeper(t, two)
		if err := handshake(t, x.Server(), y.Client(rpc.RoleGateway)); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if err := handshake(t, y.Server(), x.Client(rpc.RoleGateway)); err != nil {
			t.Errorf("%s, the other way: %v", step, err)
		}
	}
	wants(t, a.ActivateCA(), signalbox.ErrConflict, "none is staged")
	wants(t, a.RetireCA(), signalbox.ErrConflict, "only one")
	first := load(t, one).Authorities[0]
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"stage", func() error { return a.StageCA(0, time.Now()) }},
		{"activate", a.ActivateCA},
		{"retire", a.RetireCA},
	} {
		if err := step.do(); err != nil {
			t.Fatal(step.name, err)
		}
		reopened, err := identity.Open(a.Dir())
		if err != nil {
			t.Fatal(err)
		}
		a = reopened
		rotate(t, a, one)
		talk(step.name + ", one rotated")
		rotate(t, a, two)
		talk(step.name + ", both rotated")
		if step.name == "stage" {
			wants(t, a.StageCA(0, time.Now()), signalbox.ErrConflict, "under way")
			wants(t, a.RetireCA(), signalbox.ErrConflict, "not activated")
		}
	}
	if got := load(t, one).Authorities; len(got) != 1 || got[0].Equal(first) {
		t.Error("the old CA is still trusted after it was retired")
	}
}

// TestGossipRotation guards the order of a keyring's rotation: a key is read by
// all before anybody writes with it.
func TestGossipRotation(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	dir := a.BundleDir(principal(rpc.RoleGateway, "east", "east-1"))
	ring := func() [][]byte { rotate(t, a, dir); return load(t, dir).Gossip }
	old := ring()
	wants(t, a.ActivateGossip(), signalbox.ErrConflict, "none is staged")
	for range 2 { // again after a crash
		if err := a.StageGossip(); err != nil {
			t.Fatal(err)
		}
	}
	staged := ring()
	if len(staged) != 2 || string(staged[0]) != string(old[0]) {
		t.Fatal("after staging the old key is no longer the primary one")
	}
	wants(t, a.RetireGossip(), signalbox.ErrConflict, "not activated")
	if err := a.ActivateGossip(); err != nil {
		t.Fatal(err)
	}
	if active := ring(); len(active) != 2 || string(active[0]) != string(staged[1]) {
		t.Fatal("after activating the new key is not the primary one")
	}
	wants(t, a.StageGossip(), signalbox.ErrConflict, "not retired")
	if err := a.RetireGossip(); err != nil {
		t.Fatal(err)
	}
	if last := ring(); len(last) != 1 || string(last[0]) != string(staged[1]) {
		t.Fatal("after retiring the old key is still there")
	}
}
