package identity_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

func spec(cluster string) identity.Spec {
	return identity.Spec{
		Cluster: cluster,
		DataCenters: []identity.DataCenter{
			{Name: "east", Gateways: []identity.Gateway{identity.GatewayAt("east-1", "127.0.0.1", 7400), identity.GatewayAt("east-2", "localhost", 7420)}},
			{Name: "west", Gateways: []identity.Gateway{identity.GatewayAt("west-1", "127.0.0.1", 7440)}},
		},
	}
}

func newAuthority(t *testing.T, s identity.Spec) *identity.Authority {
	t.Helper()
	a, err := identity.Init(filepath.Join(t.TempDir(), "keys"), s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func principal(role rpc.Role, dc signalbox.DataCenter, name string) rpc.Principal {
	return rpc.Principal{Cluster: "shop", Role: role, DataCenter: dc, Name: name}
}

func issue(t *testing.T, a *identity.Authority, p rpc.Principal) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bundle")
	if err := a.Issue(p, out, identity.IssueOptions{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return out
}

func load(t *testing.T, dir string) *identity.Bundle {
	t.Helper()
	b, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wants checks that an error is of a kind and names what to do.
func wants(t *testing.T, err, kind error, says string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Fatalf("got error %v, want one that is %q and says %q", err, kind, says)
	}
}

// TestBundles guards that each role's bundle holds what the role needs and
// nothing else: a proxy has no gossip key, only a voter has a voter's key.
func TestBundles(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	voter := load(t, a.BundleDir(principal(rpc.RoleGateway, "east", "east-1")))
	other := load(t, a.BundleDir(principal(rpc.RoleGateway, "east", "east-2")))
	west := load(t, a.BundleDir(principal(rpc.RoleGateway, "west", "west-1")))
	agent := load(t, issue(t, a, principal(rpc.RoleAgent, "east", "east-1")))
	proxy := load(t, issue(t, a, principal(rpc.RoleProxy, "east", "edge-1")))
	person := load(t, issue(t, a, rpc.Principal{Cluster: "shop", Role: rpc.RoleOperator, Name: "ada"}))

	if voter.Voter == nil || !voter.Voter.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(voter.Cluster.Voters[0].PublicKey)) {
		t.Error("the voter's bundle lacks its voter key")
	}
	if other.Voter != nil || agent.Voter != nil {
		t.Error("a voter's key stands in the bundle of one that does not vote")
	}
	if string(other.Gossip[0]) != string(agent.Gossip[0]) || string(west.Gossip[0]) == string(agent.Gossip[0]) {
		t.Error("a data center's pool has one key, and another's is another")
	}
	if string(west.GatewayGossip[0]) != string(voter.GatewayGossip[0]) || agent.GatewayGossip != nil || proxy.Gossip != nil || person.Gossip != nil {
		t.Error("the gateways' pool has one key that only gateways have; proxies and operators have none")
	}
	if got := agent.Gateways(); len(got) != 2 || got[1].RPC != "localhost:7420" {
		t.Errorf("agent knows gateways %v", got)
	}
	_ = filepath.WalkDir(a.Dir(), func(path string, d os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".key") || strings.HasSuffix(path, "key.pem") {
			if info, _ := d.Info(); info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		}
		return err
	})
	if matches, _ := filepath.Glob(filepath.Join(a.Dir(), "*voter*")); len(matches) != 0 {
		t.Errorf("a copy of a voter's key lies in the keys directory: %v", matches)
	}
}

// handshake runs a TLS handshake between two keepers, over real connections.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	result := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			if err == nil {
				_, err = conn.Write([]byte("x"))
			}
			conn.Close()
		}
		result <- err
	}()
	conn, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	return errors.Join(err, <-result)
}

func keeper(t *testing.T, dir string) *rpc.Keeper {
	t.Helper()
	k, err := load(t, dir).Keeper()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestMutualTLS guards that only a certificate of this cluster's CA gets a
// connection, and that a client talks to a gateway only.
func TestMutualTLS(t *testing.T) {
	a, foreign := newAuthority(t, spec("shop")), newAuthority(t, spec("shop"))
	gateway := keeper(t, a.BundleDir(principal(rpc.RoleGateway, "east", "east-1")))
	agent := keeper(t, issue(t, a, principal(rpc.RoleAgent, "east", "a-1")))
	stranger := keeper(t, issue(t, foreign, principal(rpc.RoleAgent, "east", "a-1")))

	if err := handshake(t, gateway.Server(), agent.Client(rpc.RoleGateway)); err != nil {
		t.Errorf("agent to gateway: %v", err)
	}
	// Each liar checks nothing itself, so that only the honest side can refuse.
	liar := func(k *rpc.Keeper) *tls.Config {
		cert := k.Certificate()
		return &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		}
	}
	foreignGateway := keeper(t, foreign.BundleDir(principal(rpc.RoleGateway, "east", "east-1")))
	bank := newAuthority(t, spec("bank"))
	bankGateway := keeper(t, bank.BundleDir(rpc.Principal{Cluster: "bank", Role: rpc.RoleGateway, DataCenter: "east", Name: "east-1"}))
	for name, c := range map[string]struct{ server, client *tls.Config }{
		"client of another CA":      {gateway.Server(), liar(stranger)},
		"client of another cluster": {gateway.Server(), liar(bankGateway)},
		"client without any":        {gateway.Server(), &tls.Config{InsecureSkipVerify: true}},
		"server of another CA":      {liar(foreignGateway), agent.Client(rpc.RoleGateway)},
		"server of another cluster": {liar(bankGateway), agent.Client(rpc.RoleGateway)},
		"agent as a server":         {liar(agent), gateway.Client(rpc.RoleGateway)},
		"agent as an agent server":  {liar(agent), gateway.Client(rpc.RoleAgent)},
		"gateway is no proxy":       {gateway.Server(), agent.Client(rpc.RoleProxy)},
	} {
		if err := handshake(t, c.server, c.client); err == nil {
			t.Errorf("%s: connected", name)
		}
	}
}

// TestLeafExtensions guards what Envoy and gRPC look at: one SPIFFE URI, the
// hosts of a gateway, and that an agent's certificate is no server's.
func TestLeafExtensions(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	leaf := func(dir string) *x509.Certificate { return keeper(t, dir).Certificate().Leaf }
	g := leaf(a.BundleDir(principal(rpc.RoleGateway, "east", "east-2")))
	if g.URIs[0].String() != "spiffe://shop/gateway/east/east-2" || g.VerifyHostname("localhost") != nil {
		t.Errorf("gateway's certificate has %v, %v", g.URIs, g.DNSNames)
	}
	b := load(t, a.BundleDir(principal(rpc.RoleGateway, "east", "east-2")))
	agent := leaf(issue(t, a, principal(rpc.RoleAgent, "east", "a-1")))
	if _, err := agent.Verify(x509.VerifyOptions{Roots: b.Roots()}); err == nil {
		t.Error("an agent's certificate counts as a server's")
	}
	if got := g.NotAfter.Sub(g.NotBefore); got != identity.DefaultValidity+identity.ClockSkew {
		t.Errorf("default validity is %s", got)
	}
}

// TestNeverOverwritten guards that keys and bundles that exist are kept.
func TestNeverOverwritten(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	_, err := identity.Init(a.Dir(), spec("shop"), time.Now())
	wants(t, err, signalbox.ErrConflict, "never overwritten")

	now := identity.IssueOptions{Now: time.Now()}
	force := identity.IssueOptions{Now: time.Now(), Force: true}
	agent := principal(rpc.RoleAgent, "east", "a-1")
	out := issue(t, a, agent)
	wants(t, a.Issue(agent, out, now), signalbox.ErrConflict, "--force")
	if err := a.Issue(agent, out, force); err != nil {
		t.Errorf("with force: %v", err)
	}
	if err := a.Issue(principal(rpc.RoleProxy, "east", "p-1"), out, force); err != nil {
		t.Errorf("with force, for another: %v", err)
	}
	if b := load(t, out); b.Gossip != nil {
		t.Error("a proxy's bundle inherited the agent's gossip key")
	}
	if _, err := os.Stat(filepath.Join(out, identity.FileGossip)); err == nil {
		t.Error("the agent's gossip.key is still there")
	}
	voter := a.BundleDir(principal(rpc.RoleGateway, "east", "east-1"))
	wants(t, a.Issue(agent, voter, force), signalbox.ErrConflict, "only copy")
	wants(t, a.Issue(principal(rpc.RoleGateway, "east", "east-1"), out, force), signalbox.ErrRefused, "rotate that one")
	before := load(t, voter).Voter
	if err := a.Issue(principal(rpc.RoleGateway, "east", "east-1"), voter, force); err != nil || !load(t, voter).Voter.Equal(before) {
		t.Errorf("issuing the voter's bundle in place: %v, and its voter key has to stay", err)
	}
}

// TestIssueRefuses guards that no certificate is made for what the cluster does
// not have.
func TestIssueRefuses(t *testing.T) {
	a := newAuthority(t, spec("shop"))
	now := time.Now()
	for name, c := range map[string]struct {
		p    rpc.Principal
		o    identity.IssueOptions
		kind error
		says string
	}{
		"data center":  {principal(rpc.RoleAgent, "north", "a"), identity.IssueOptions{Now: now}, signalbox.ErrUnknown, "[east west]"},
		"gateway":      {principal(rpc.RoleGateway, "east", "east-9"), identity.IssueOptions{Now: now}, signalbox.ErrUnknown, "add it"},
		"name":         {principal(rpc.RoleAgent, "east", "A_1"), identity.IssueOptions{Now: now}, signalbox.ErrInvalid, "lowercase"},
		"slash":        {principal(rpc.RoleAgent, "east", "a/../b"), identity.IssueOptions{Now: now}, signalbox.ErrInvalid, "lowercase"},
		"role":         {principal("admin", "east", "a"), identity.IssueOptions{Now: now}, signalbox.ErrInvalid, "role"},
		"cluster":      {rpc.Principal{Cluster: "other", Role: rpc.RoleAgent, DataCenter: "east", Name: "a"}, identity.IssueOptions{Now: now}, signalbox.ErrInvalid, "shop"},
		"short":        {principal(rpc.RoleAgent, "east", "a"), identity.IssueOptions{Now: now, Validity: time.Second}, signalbox.ErrInvalid, "at least"},
		"after the CA": {principal(rpc.RoleAgent, "east", "a"), identity.IssueOptions{Now: now.Add(11 * 365 * 24 * time.Hour)}, signalbox.ErrUntrusted, "CA expired"},
	} {
		out := filepath.Join(t.TempDir(), "b")
		if err := a.Issue(c.p, out, c.o); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", name, err, c.kind, c.says)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: left a bundle behind", name)
		}
	}
}

// TestLoadSays guards that a bundle that cannot be used is refused with what to
// do about it.
func TestLoadSays(t *testing.T) {
	a, foreign := newAuthority(t, spec("shop")), newAuthority(t, spec("shop"))
	other := newAuthority(t, spec("bank"))
	replace := func(from *identity.Authority, role rpc.Principal, name string) func(string) error {
		return func(dir string) error {
			data, err := os.ReadFile(filepath.Join(from.BundleDir(role), name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
	}
	east1 := principal(rpc.RoleGateway, "east", "east-1")
	bank := rpc.Principal{Cluster: "bank", Role: rpc.RoleGateway, DataCenter: "east", Name: "east-1"}
	for name, c := range map[string]struct {
		break_ func(dir string) error
		kind   error
		says   string
	}{
		"open key":        {func(d string) error { return os.Chmod(filepath.Join(d, "key.pem"), 0o644) }, signalbox.ErrUntrusted, "chmod 600"},
		"open voter key":  {func(d string) error { return os.Chmod(filepath.Join(d, "voter.key"), 0o640) }, signalbox.ErrUntrusted, "chmod 600"},
		"open gossip key": {func(d string) error { return os.Chmod(filepath.Join(d, "gossip.key"), 0o604) }, signalbox.ErrUntrusted, "chmod 600"},
		"voter key lost":  {func(d string) error { return os.Remove(filepath.Join(d, "voter.key")) }, signalbox.ErrInvalid, "voter set"},
		"other voter key": {replace(foreign, east1, "voter.key"), signalbox.ErrUntrusted, "not the key of voter"},
		"other key":       {replace(foreign, east1, "key.pem"), signalbox.ErrInvalid, "belong together"},
		"other CA":        {replace(foreign, east1, "ca.pem"), signalbox.ErrUntrusted, "another cluster"},
		"other cluster":   {replace(other, bank, "cluster.json"), signalbox.ErrUntrusted, `"bank"`},
		"no description":  {func(d string) error { return os.Remove(filepath.Join(d, "cluster.json")) }, os.ErrNotExist, "signalbox keys"},
		"gossip garbage":  {func(d string) error { return os.WriteFile(filepath.Join(d, "gossip.key"), []byte("QQ==\n"), 0o600) }, signalbox.ErrInvalid, "32 bytes"},
		"cert garbage":    {func(d string) error { return os.WriteFile(filepath.Join(d, "cert.pem"), []byte("?"), 0o600) }, signalbox.ErrInvalid, "PEM"},
		"huge description": {func(d string) error {
			return os.WriteFile(filepath.Join(d, "cluster.json"), make([]byte, 2<<20), 0o600)
		}, signalbox.ErrInvalid, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "b")
			if err := os.CopyFS(dir, os.DirFS(a.BundleDir(east1))); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{"key.pem", "voter.key", "gossip.key", "gossip-gateways.key"} {
				if err := os.Chmod(filepath.Join(dir, f), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			load(t, dir)
			if err := c.break_(dir); err != nil {
				t.Fatal(err)
			}
			_, err := identity.Load(dir)
			wants(t, err, c.kind, c.says)
		})
	}
	dir := a.BundleDir(east1)
	_, err := identity.LoadAt(dir, time.Now().Add(91*24*time.Hour))
	wants(t, err, signalbox.ErrUntrusted, "keys rotate")
	_, err = identity.LoadAt(dir, time.Now().Add(-time.Hour))
	wants(t, err, signalbox.ErrUntrusted, "clock")
	_, err = identity.Load(filepath.Join(dir, "key.pem"))
	wants(t, err, signalbox.ErrInvalid, "directory")
	if b, err := identity.Inspect(dir); err != nil || b.RenewBy().After(b.NotAfter) {
		t.Errorf("inspect: %v", err)
	}
}
