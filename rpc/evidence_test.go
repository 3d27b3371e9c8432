package rpc_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// signers is a lookup of named test keys.
func signers(names ...string) rpc.SignerLookup {
	return func(of signalbox.Identity) (rpc.Signer, bool) {
		for _, name := range names {
			if id(name) == of {
				return rpc.Signer{Name: name, Key: public(name)}, true
			}
		}
		return rpc.Signer{}, false
	}
}

// wide is a trust that knows whoever may sign in an instance's place.
func wide() rpc.Trust {
	t := trust
	t.Fencers, t.FenceQuorum, t.Operators = signers("g1", "g2", "g3"), 2, signers("ada", "bob")
	t.SignersOf = func(uint64, []byte) []string { return []string{"voter"} }
	return t
}

// failover is a handover for which others' evidence counts; only a and b are
// leased.
func failover() *signalbox.Handover {
	h := handover()
	h.Allowed, h.Fallback = signalbox.AnyEvidence, 0
	h.Leases = signalbox.Leases{TTL: 3 * time.Second, Drift: 10000}
	h.Roster[0].Leased, h.Roster[1].Leased = true, true
	return h
}

// testimony is what others say of roster member i.
func testimony(d *signalbox.DecidedBlock, i int, kind signalbox.StatementKind) rpc.Testimony {
	t := rpc.Testimony{Statement: answer(d, i, kind)}
	t.Identity, t.Incarnation = id(roster[i]), 0
	switch kind {
	case signalbox.SaysLapse:
		t.Witness.Epoch = 1
	case signalbox.SaysFence:
		t.Witness.Plugin, t.Witness.Output = "ipmi", sha256.Sum256([]byte("off"))
	case signalbox.SaysAttest:
		t.Witness.By, t.Witness.Reason, t.Witness.At = []string{"ada"}, "the power is off", time.Unix(1790000001, 0)
	}
	return t
}

func encodeTestimony(t testing.TB, x rpc.Testimony) []byte {
	t.Helper()
	raw, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func lapse(t testing.TB, x rpc.Testimony, voter string) []byte {
	t.Helper()
	payload := encodeTestimony(t, x)
	raw, err := rpc.SealLapse(payload, "test", ed25519.Sign(key(voter), rpc.SigningInput(rpc.DomainLapse, "shop", payload)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func fence(t testing.TB, x rpc.Testimony, gateways ...string) []byte {
	t.Helper()
	payload := encodeTestimony(t, x)
	var shares []rpc.Share
	for _, g := range gateways {
		shares = append(shares, rpc.SignTestimony(rpc.DomainFence, "shop", payload, key(g)))
	}
	raw, err := rpc.SealFence(payload, shares)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func attest(t testing.TB, x rpc.Testimony, operator string) []byte {
	t.Helper()
	raw, err := rpc.SealAttest("shop", x, key(operator))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Rules 3 and 5: what others sign certifies a block that allows it, and the
// certificate says who signed on what ground, also without any instance's word.
func TestOthersEvidence(t *testing.T) {
	d := decide(t, failover())
	raw := [][]byte{
		lapse(t, testimony(d, 0, signalbox.SaysLapse), "voter"),
		fence(t, testimony(d, 1, signalbox.SaysFence), "g1", "g3"),
		attest(t, testimony(d, 2, signalbox.SaysAttest), "ada"),
	}
	c, err := rpc.BuildCertificate(wide(), d, "orders", 8, raw)
	if err != nil {
		t.Fatal(err)
	}
	doc := rpc.NewCertificateDocument(c).Evidence
	for i, want := range []rpc.CertificateEvidence{
		{Kind: "lapse", By: []string{"voter"}},
		{Kind: "fence", By: []string{"g1", "g3"}, Plugin: "ipmi"},
		{Kind: "attest", By: []string{"ada"}, Reason: "the power is off"},
	} {
		got := doc[i]
		if got.Kind != want.Kind || !slices.Equal(got.By, want.By) || got.Plugin != want.Plugin || got.Reason != want.Reason {
			t.Errorf("evidence %d: %+v, want %+v", i, got, want)
		}
	}
	if _, err := rpc.BuildCertificate(trust, d, "orders", 8, raw); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("a trust that names no gateways and operators: %v", err)
	}
	for i, r := range raw {
		s, err := rpc.InspectEvidence(r)
		if err != nil || s.Identity != id(roster[i]) || s.Block != d.Digest || s.Term != 8 {
			t.Errorf("inspect evidence %d: %+v, %v", i, s, err)
		}
	}
}

// Rule 4: others' evidence counts for its exact block, admission and identity,
// for kinds that the block allows, and with all the signatures that are due.
func TestOthersEvidenceIsExact(t *testing.T) {
	h := failover()
	d := decide(t, h)
	other := decide(t, func() *signalbox.Handover { o := failover(); o.Reason = "another"; return o }())
	ackOnly := decide(t, handover())
	change := func(kind signalbox.StatementKind, i int, f func(*rpc.Testimony)) rpc.Testimony {
		x := testimony(d, i, kind)
		f(&x)
		return x
	}
	attestOf := func(f func(*rpc.Testimony)) []byte {
		return attest(t, change(signalbox.SaysAttest, 0, f), "ada")
	}
	foreign, err := rpc.SealAttest("bank", testimony(d, 0, signalbox.SaysAttest), key("ada"))
	if err != nil {
		t.Fatal(err)
	}
	twice := fence(t, testimony(d, 0, signalbox.SaysFence), "g1", "g1")
	for name, raw := range map[string][]byte{
		"of another block":      attest(t, testimony(other, 0, signalbox.SaysAttest), "ada"),
		"for another admission": attestOf(func(x *rpc.Testimony) { x.Admission = 99 }),
		"below another term":    attestOf(func(x *rpc.Testimony) { x.Term = 9 }),
		"of another service":    attestOf(func(x *rpc.Testimony) { x.Service = "stock" }),
		"of another cluster":    foreign,
		"of nobody listed":      attestOf(func(x *rpc.Testimony) { x.Identity = id("z") }),
		"another's name":        attest(t, testimony(d, 0, signalbox.SaysAttest), "bob"),
		"unknown operator":      attest(t, change(signalbox.SaysAttest, 0, func(x *rpc.Testimony) { x.Witness.By = []string{"eve"} }), "eve"),
		"one gateway":           fence(t, testimony(d, 0, signalbox.SaysFence), "g1"),
		"one gateway, twice":    twice,
		"unknown gateway":       fence(t, testimony(d, 0, signalbox.SaysFence), "g1", "eve"),
		"no quorum of voters":   lapse(t, testimony(d, 0, signalbox.SaysLapse), "eve"),
	} {
		raws := append([][]byte{raw}, acks(t, d)[1:]...)
		if _, err := rpc.BuildCertificate(wide(), d, "orders", 8, raws); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	unleased := append(acks(t, d)[:2:2], lapse(t, testimony(d, 2, signalbox.SaysLapse), "voter"))
	if _, err := rpc.BuildCertificate(wide(), d, "orders", 8, unleased); err == nil || !strings.Contains(err.Error(), "without leases") {
		t.Errorf("lapse of who could serve without a lease: %v", err)
	}
	for _, raw := range [][]byte{
		lapse(t, testimony(ackOnly, 0, signalbox.SaysLapse), "voter"),
		fence(t, testimony(ackOnly, 0, signalbox.SaysFence), "g1", "g2"),
		attest(t, testimony(ackOnly, 0, signalbox.SaysAttest), "ada"),
	} {
		if _, err := rpc.BuildCertificate(wide(), ackOnly, "orders", 8, append([][]byte{raw}, acks(t, ackOnly)[1:]...)); err == nil {
			t.Error("a block that allows acks and leaves only took others' evidence")
		}
	}
}

// An attest has a reason, and an instance cannot speak as others do.
func TestTestimonyRefuses(t *testing.T) {
	d := decide(t, failover())
	for name, f := range map[string]func(*rpc.Testimony){
		"no reason":     func(x *rpc.Testimony) { x.Witness.Reason = "" },
		"long reason":   func(x *rpc.Testimony) { x.Witness.Reason = strings.Repeat("x", signalbox.MaxReason+1) },
		"no operator":   func(x *rpc.Testimony) { x.Witness.By = nil },
		"no block":      func(x *rpc.Testimony) { x.Block = signalbox.Digest{} },
		"no term":       func(x *rpc.Testimony) { x.Term = 0 },
		"no admission":  func(x *rpc.Testimony) { x.Admission = 0 },
		"no identity":   func(x *rpc.Testimony) { x.Identity = "" },
		"an ack":        func(x *rpc.Testimony) { x.Kind = signalbox.SaysAck },
		"no plugin":     func(x *rpc.Testimony) { x.Kind = signalbox.SaysFence },
		"no voter set":  func(x *rpc.Testimony) { x.Kind = signalbox.SaysLapse },
		"strange names": func(x *rpc.Testimony) { x.Witness.By = []string{"Ada Lovelace"} },
	} {
		x := testimony(d, 0, signalbox.SaysAttest)
		f(&x)
		if _, err := x.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	if _, err := rpc.SealStatement("shop", answer(d, 0, signalbox.SaysLapse), key("a")); err == nil {
		t.Error("an instance signed a lapse of its own")
	}
	longest := testimony(d, 0, signalbox.SaysAttest)
	longest.Service, longest.Witness.By = signalbox.Service(strings.Repeat("s", 40)), []string{strings.Repeat("o", 40)}
	longest.Witness.Reason = strings.Repeat("r", signalbox.MaxReason)
	longest.Term, longest.Admission = 1<<63, 1<<63
	if _, err := rpc.SealAttest("shop", longest, key("ada")); err != nil {
		t.Errorf("the longest attest: %v", err)
	}
}

// A removal's evidence counts for the block that announced it only.
func TestProvesRemoval(t *testing.T) {
	entry := failover().Roster[0]
	r := &signalbox.Removal{Service: "orders", Identity: entry.Identity, Admission: entry.Admission, Below: 8, Allowed: signalbox.ByOthers}
	d := decideFor(t, "shop", "voter", blockOf(signalbox.Request{Remove: r}))
	good := signalbox.Statement{Kind: signalbox.SaysFence, Service: "orders", Identity: entry.Identity, Admission: entry.Admission, Block: d.Digest, Term: 8}
	if err := rpc.ProvesRemoval(r, d.Digest, entry, good); err != nil {
		t.Fatal(err)
	}
	if got := d.Announcement("orders"); got == nil || got.Below != 8 || got.Allowed != signalbox.ByOthers || !got.Announces() {
		t.Errorf("the announcement came back as %+v", got)
	}
	for name, f := range map[string]func(*signalbox.Statement, *signalbox.RosterEntry){
		"another block":        func(s *signalbox.Statement, _ *signalbox.RosterEntry) { s.Block[0]++ },
		"another term":         func(s *signalbox.Statement, _ *signalbox.RosterEntry) { s.Term = 7 },
		"an ack":               func(s *signalbox.Statement, _ *signalbox.RosterEntry) { s.Kind = signalbox.SaysAck },
		"admitted again":       func(_ *signalbox.Statement, e *signalbox.RosterEntry) { e.Admission = 50 },
		"lapse without leases": func(s *signalbox.Statement, e *signalbox.RosterEntry) { s.Kind, e.Leased = signalbox.SaysLapse, false },
	} {
		s, e := good, entry
		f(&s, &e)
		if rpc.ProvesRemoval(r, d.Digest, e, s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
