package rpc_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

var update = flag.Bool("update", false, "write the golden vectors anew: every signature in the field becomes unreadable")

var goldenFile = filepath.Join("testdata", "golden.json")

// vectors are what fixed keys and contents encode to, hexadecimal.
func vectors(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	put := func(name string, raw []byte) { out[name] = hex.EncodeToString(raw) }
	d := decide(t, handover())
	block, err := rpc.EncodeBlock(&d.Block)
	if err != nil {
		t.Fatal(err)
	}
	put("signing input", rpc.SigningInput(rpc.DomainStatement, "shop", []byte("payload")))
	out["identity a"] = string(id("a"))
	put("block", block)
	put("block digest", d.Digest[:])
	put("decided block", d.Raw)
	for kind := signalbox.SaysDrained; kind <= signalbox.SaysServing; kind++ {
		s := answer(d, 0, kind)
		if kind == signalbox.SaysServing {
			s.Address = "10.2.0.1:8080"
		}
		put("statement "+kind.String(), seal(t, "a", s))
	}
	for _, kind := range []signalbox.StatementKind{signalbox.SaysAck, signalbox.SaysLeave} {
		s := answer(d, 0, kind)
		s.Position = signalbox.Position("1:0/3000148")
		put("statement "+kind.String()+" with a position", seal(t, "a", s))
	}
	forward, err := rpc.BuildCertificate(trust, d, "orders", 8, acks(t, d))
	if err != nil {
		t.Fatal(err)
	}
	put("certificate", forward.Raw)
	fallback, err := rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{seal(t, "b", answer(d, 1, signalbox.SaysRefuse))})
	if err != nil {
		t.Fatal(err)
	}
	put("certificate of the fallback", fallback.Raw)
	ans, err := rpc.SealAnswer("shop", rpc.Answer{
		Voter: "east-1", Service: "orders", Identity: id("a"), Nonce: bytes.Repeat([]byte{5}, rpc.NonceSize),
		Index: 42, Block: d.Digest, Allowed: signalbox.AckOnly, Term: 8,
	}, key("voter"))
	if err != nil {
		t.Fatal(err)
	}
	put("answer", ans)
	outcome, err := rpc.EncodeRequest(&signalbox.Request{Outcome: &signalbox.Outcome{Service: "orders", Block: d.Digest, Certified: 8, Evidence: acks(t, d)}})
	if err != nil {
		t.Fatal(err)
	}
	put("request outcome", outcome)
	remove, err := rpc.EncodeRequest(&signalbox.Request{Remove: &signalbox.Removal{Service: "orders", Identity: id("a"), Evidence: seal(t, "a", answer(d, 0, signalbox.SaysLeave))}})
	if err != nil {
		t.Fatal(err)
	}
	put("request remove", remove)
	request, err := rpc.SealLeaseRequest("shop", leaseOf("a"), key("a"))
	if err != nil {
		t.Fatal(err)
	}
	put("lease request", request)
	grant, err := rpc.SealLeaseGrant("shop", leaseOf("a"), key("voter"))
	if err != nil {
		t.Fatal(err)
	}
	put("lease grant", grant)
	return out
}

func readGolden(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]string
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoldenVectors guards the signed formats: what was signed once must verify
// for ever, so the same content has to encode to the same bytes. A change here
// needs a new rpc.Version.
func TestGoldenVectors(t *testing.T) {
	got := vectors(t)
	if *update {
		writeGolden(t, got)
	}
	want := readGolden(t)
	for name, v := range got {
		if want[name] != v {
			t.Errorf("%s: encodes to\n%s\nwant\n%s", name, v, want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok && name != "enrollment" && name != "enrollment ca" {
			t.Errorf("%s: is no longer made", name)
		}
	}
}

// TestGoldenOpens guards that stored bytes still open, to what they said.
func TestGoldenOpens(t *testing.T) {
	raw := map[string][]byte{}
	for name, v := range readGolden(t) {
		raw[name], _ = hex.DecodeString(v)
	}
	c, err := rpc.OpenCertificate(trust, raw["certificate"])
	if err != nil || c.DataCenter() != "west" || c.Term != 8 || c.IsFallback() || len(c.Evidence) != 3 || c.Block.Index != 42 {
		t.Errorf("certificate: %v, %+v", err, c)
	}
	if h := c.Handover(); h.Reason != "maintenance" || h.HoldBudget != 5*time.Second || !h.AllowLateProxies || h.Roster[2].Admission != 13 || !c.Block.At.Equal(time.Unix(1790000000, 123456789)) {
		t.Errorf("handover: %+v", h)
	}
	c, err = rpc.OpenCertificate(trust, raw["certificate of the fallback"])
	if err != nil || c.DataCenter() != "east" || !c.IsFallback() {
		t.Errorf("fallback: %v", err)
	}
	if s, err := rpc.OpenStatement("shop", raw["statement serving"], known); err != nil || s.Address != "10.2.0.1:8080" || s.Identity != id("a") || s.Incarnation != 7 {
		t.Errorf("statement: %v, %+v", err, s)
	}
	if s, err := rpc.OpenStatement("shop", raw["statement ack with a position"], known); err != nil || s.Position.String() != "1:0/3000148" {
		t.Errorf("statement with a position: %v, %+v", err, s)
	}
	if a, signer, err := rpc.OpenAnswer("shop", raw["answer"], known); err != nil || signer != id("voter") || a.Index != 42 || a.Allowed != signalbox.AckOnly {
		t.Errorf("answer: %v, %+v", err, a)
	}
	if l, err := rpc.OpenLeaseRequest("shop", raw["lease request"], known); err != nil || l != leaseOf("a") {
		t.Errorf("lease request: %v, %+v", err, l)
	}
	if l, voter, err := rpc.OpenLeaseGrant("shop", raw["lease grant"], known); err != nil || voter != id("voter") || l != leaseOf("a") {
		t.Errorf("lease grant: %v, %+v", err, l)
	}
	ca, err := x509.ParseCertificate(raw["enrollment ca"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	in, agent, err := rpc.OpenEnrollment("shop", roots, raw["enrollment"])
	if err != nil || in.Name != "orders-a" || in.Identity != id("a") || agent.Name != "app-1" {
		t.Errorf("enrollment: %v, %+v by %s", err, in, agent)
	}
}

func writeGolden(t *testing.T, got map[string]string) {
	t.Helper()
	// An enrollment cannot be made twice the same: the stored one is kept.
	if _, err := os.Stat(goldenFile); err == nil {
		old := readGolden(t)
		got["enrollment ca"], got["enrollment"] = old["enrollment ca"], old["enrollment"]
	} else {
		ca, enrollment := enroll(t, instance("a"), key("a"), agentURI("app-1"))
		got["enrollment ca"], got["enrollment"] = hex.EncodeToString(ca.Raw), hex.EncodeToString(enrollment)
	}
	data, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func instance(name string) signalbox.Instance {
	return signalbox.Instance{Service: "orders", DataCenter: "east", Name: "orders-" + name, Identity: id(name), PublicKey: public(name)}
}

func agentURI(name string) rpc.Principal {
	return rpc.Principal{Cluster: "shop", Role: rpc.RoleAgent, DataCenter: "east", Name: name}
}

var enrolledAt = time.Unix(1790000000, 0)

// enroll makes an enrollment by an agent whose certificate is of a new CA. It
// is not reproducible: ECDSA signatures and keys are random.
func enroll(t testing.TB, in signalbox.Instance, k []byte, agent rpc.Principal) (*x509.Certificate, []byte) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := create(t, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, caKey, caKey)
	agentKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := create(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), URIs: []*url.URL{agent.URI()},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, agentKey, caKey)
	raw, err := rpc.SealEnrollment("shop", in, enrolledAt, k, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: agentKey})
	if err != nil {
		t.Fatal(err)
	}
	return ca, raw
}

func create(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.NotBefore, template.NotAfter = enrolledAt.Add(-time.Hour), enrolledAt.Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
