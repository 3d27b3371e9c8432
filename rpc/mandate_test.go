package rpc_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// authority is a CA of a cluster, for operators.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return authority{create(t, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, key, key), key}
}

// issue makes a certificate that is valid for an hour before and after enrolledAt.
func (a authority) issue(t testing.TB, uri string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	who, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	leaf := create(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), URIs: []*url.URL{who}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert, key, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

func (a authority) trust(listed ...ed25519.PublicKey) rpc.MandateTrust {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return rpc.MandateTrust{Cluster: "shop", Roots: pool, Keys: func(name string) []ed25519.PublicKey {
		if name != "ada" {
			return nil
		}
		return listed
	}}
}

func mandate(change ...func(*signalbox.Mandate)) signalbox.Mandate {
	m := signalbox.Mandate{
		Verb: signalbox.VerbSwitch, Operator: "ada", Service: "orders", ID: "orders-1", From: "east", To: "west", Term: 7, HoldBudget: time.Second,
		AllowLateProxies: true, BreakGlass: &signalbox.BreakGlass{Reason: "east burns", Overrides: []signalbox.SafetyRule{signalbox.RulePause}},
		Reason: "maintenance", At: enrolledAt,
	}
	for _, c := range change {
		c(&m)
	}
	return m
}

func sealMandate(t testing.TB, m signalbox.Mandate, who string, by tls.Certificate) []byte {
	t.Helper()
	raw, err := rpc.SealMandate("shop", m, key(who), by)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestMandate guards that what an operator signed comes out as it was signed,
// also out of a request.
func TestMandate(t *testing.T) {
	ca := newAuthority(t)
	ada := ca.issue(t, "spiffe://shop/operator/ada")
	until := time.Unix(1790003600, 7)
	for _, m := range []signalbox.Mandate{
		mandate(),
		mandate(func(m *signalbox.Mandate) {
			m.Verb, m.BreakGlass, m.Allowed, m.HoldBudget = signalbox.VerbFailover, nil, signalbox.EvidenceKinds(signalbox.Lapse), 0
		}),
		{Verb: signalbox.VerbApprove, Operator: "ada", Service: "orders", ID: "orders-1", Of: signalbox.Digest{1}, Reason: "looked", At: enrolledAt},
		{Verb: signalbox.VerbPause, Operator: "ada", Service: "orders", Until: until, Reason: "migration", At: enrolledAt},
		{Verb: signalbox.VerbResume, Operator: "ada", Service: "orders", At: enrolledAt},
	} {
		raw := sealMandate(t, m, "ada", ada)
		m.Key, m.Proof = id("ada"), raw
		for what, keys := range map[string][]ed25519.PublicKey{"vouched for": nil, "listed": {public("old"), public("ada")}} {
			got, err := rpc.OpenMandate(ca.trust(keys...), raw, enrolledAt)
			if err != nil || !reflect.DeepEqual(*got, m) {
				t.Errorf("%s, %s: %+v, %v", m.Verb, what, got, err)
			}
		}
		r := signalbox.Request{Pause: &signalbox.Pause{Service: "orders", By: "operator/ada", Mandate: &m}}
		encoded, err := rpc.EncodeRequest(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rpc.DecodeRequest(encoded); err != nil || !reflect.DeepEqual(*got, r) {
			t.Errorf("%s: out of a request: %+v, %v", m.Verb, got, err)
		}
	}
}

// TestMandateRefused guards that only an operator of this cluster, now, with the
// own keys, signs a mandate, and that the refusal says what to do.
func TestMandateRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	ada := ca.issue(t, "spiffe://shop/operator/ada")
	good := sealMandate(t, mandate(), "ada", ada)
	elsewhere, err := rpc.SealMandate("mall", mandate(), key("ada"), ada)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(good, []byte("maintenance"), []byte("maintenancf"), 1)
	mixed := ca.issue(t, "spiffe://shop/operator/ada")
	mixed.PrivateKey = ca.key
	stranger := ca.trust(public("old"))
	for name, c := range map[string]struct {
		raw   []byte
		trust rpc.MandateTrust
		at    time.Time
		kind  error
		says  string
	}{
		"changed bytes":         {changed, ca.trust(), enrolledAt, signalbox.ErrUntrusted, "give the order again"},
		"of another cluster":    {elsewhere, ca.trust(), enrolledAt, signalbox.ErrUntrusted, "with a bundle of cluster shop"},
		"another CA":            {sealMandate(t, mandate(), "ada", other.issue(t, "spiffe://shop/operator/ada")), ca.trust(), enrolledAt, signalbox.ErrUntrusted, "signalbox keys rotate"},
		"expired":               {good, ca.trust(), enrolledAt.Add(time.Hour + time.Second), signalbox.ErrUntrusted, "expired on 2026-09-21T15:13:20Z: renew it (signalbox keys rotate"},
		"not valid yet":         {good, ca.trust(), enrolledAt.Add(-time.Hour - time.Second), signalbox.ErrUntrusted, "look at the clocks"},
		"a gateway's":           {sealMandate(t, mandate(), "ada", ca.issue(t, "spiffe://shop/gateway/east/ada")), ca.trust(), enrolledAt, signalbox.ErrUntrusted, "the certificate is of spiffe://shop/gateway/east/ada"},
		"bob's as ada's":        {sealMandate(t, mandate(), "ada", ca.issue(t, "spiffe://shop/operator/bob")), ca.trust(), enrolledAt, signalbox.ErrUntrusted, "the certificate is of spiffe://shop/operator/bob"},
		"a cluster of the CA":   {sealMandate(t, mandate(), "ada", ca.issue(t, "spiffe://mall/operator/ada")), ca.trust(), enrolledAt, signalbox.ErrUntrusted, "bundle of cluster shop"},
		"another TLS key":       {sealMandate(t, mandate(), "ada", mixed), ca.trust(), enrolledAt, signalbox.ErrUntrusted, "TLS key does not fit"},
		"a key not listed":      {good, stranger, enrolledAt, signalbox.ErrUntrusted, "rotate the gateways' bundles"},
		"nothing":               {nil, ca.trust(), enrolledAt, signalbox.ErrInvalid, "0 bytes"},
		"too much":              {make([]byte, rpc.MaxMandate+1), ca.trust(), enrolledAt, signalbox.ErrInvalid, "at most"},
		"an attest is no order": {seal(t, "a", signalbox.Statement{Kind: signalbox.SaysAck, Service: "orders", Term: 8, Block: signalbox.Digest{1}, Admission: 1, Incarnation: 1}), ca.trust(), enrolledAt, signalbox.ErrInvalid, ""},
	} {
		_, err := rpc.OpenMandate(c.trust, c.raw, c.at)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		wants(t, err, c.kind, c.says)
	}
}

// TestMandateForm guards that nobody signs, and nobody reads, what is no order.
func TestMandateForm(t *testing.T) {
	ada := newAuthority(t).issue(t, "spiffe://shop/operator/ada")
	for name, m := range map[string]signalbox.Mandate{
		"no verb":                   mandate(func(m *signalbox.Mandate) { m.Verb = "burn" }),
		"nobody":                    mandate(func(m *signalbox.Mandate) { m.Operator = "" }),
		"no time":                   mandate(func(m *signalbox.Mandate) { m.At = time.Time{} }),
		"no id":                     mandate(func(m *signalbox.Mandate) { m.ID = "" }),
		"no term":                   mandate(func(m *signalbox.Mandate) { m.Term = 0 }),
		"nowhere":                   mandate(func(m *signalbox.Mandate) { m.To = "" }),
		"a long budget":             mandate(func(m *signalbox.Mandate) { m.HoldBudget = signalbox.MaxHoldBudget + 1 }),
		"a switch that counts more": mandate(func(m *signalbox.Mandate) { m.Allowed = signalbox.EvidenceKinds(signalbox.Attest) }),
		"glass of nothing":          mandate(func(m *signalbox.Mandate) { m.BreakGlass = &signalbox.BreakGlass{Reason: "r"} }),
		"a long reason":             mandate(func(m *signalbox.Mandate) { m.Reason = strings.Repeat("x", signalbox.MaxReason+1) }),
		"a pause without an end":    {Verb: signalbox.VerbPause, Operator: "ada", Service: "orders", Reason: "r", At: enrolledAt},
		"an approval of nothing":    {Verb: signalbox.VerbApprove, Operator: "ada", Service: "orders", ID: "orders-1", At: enrolledAt},
		"a pause that breaks glass": {Verb: signalbox.VerbResume, Operator: "ada", Service: "orders", At: enrolledAt, BreakGlass: mandate().BreakGlass},
	} {
		if _, err := rpc.SealMandate("shop", m, key("ada"), ada); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func FuzzOpenMandate(f *testing.F) {
	ca := newAuthority(f)
	ada := ca.issue(f, "spiffe://shop/operator/ada")
	f.Add(sealMandate(f, mandate(), "ada", ada))
	f.Add(sealMandate(f, signalbox.Mandate{Verb: signalbox.VerbResume, Operator: "ada", Service: "orders", At: enrolledAt}, "ada", ada))
	f.Fuzz(func(t *testing.T, raw []byte) {
		read, err := rpc.InspectMandate(raw)
		if err == nil && (read.Check() != nil || !bytes.Equal(read.Proof, raw)) {
			t.Errorf("read %+v", read)
		}
		m, openErr := rpc.OpenMandate(ca.trust(), raw, enrolledAt)
		if openErr == nil && (err != nil || !reflect.DeepEqual(m, read)) {
			t.Errorf("opened %+v, read %+v, %v", m, read, err)
		}
	})
}
