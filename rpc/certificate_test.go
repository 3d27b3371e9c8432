package rpc_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// TestCertificateNeedsWholeRoster guards that a term is certified by evidence
// for every roster identity and nothing less (interlock rules 2 to 4).
func TestCertificateNeedsWholeRoster(t *testing.T) {
	d := decide(t, handover())
	other := handover()
	other.ID = "orders-8-again"
	twin := decide(t, other)
	all := acks(t, d)
	swap := func(i int, by []byte) [][]byte { out := slices.Clone(all); out[i] = by; return out }
	change := func(i int, f func(*signalbox.Statement)) [][]byte {
		s := answer(d, i, signalbox.SaysAck)
		f(&s)
		return swap(i, seal(t, roster[i], s))
	}
	leave := answer(d, 1, signalbox.SaysLeave)
	stale, late := leave, leave
	stale.Admission = 3
	late.Term = 8
	for name, c := range map[string]struct {
		evidence [][]byte
		says     string
	}{
		"missing":                       {all[:2], "no evidence for orders-c"},
		"none":                          {nil, "no evidence for orders-a"},
		"one twice in place of another": {[][]byte{all[0], all[1], all[1]}, "no evidence for orders-c"},
		"replayed for another block":    {swap(0, seal(t, "a", answer(twin, 0, signalbox.SaysAck))), "is for block"},
		"replayed for another term":     {change(0, func(s *signalbox.Statement) { s.Term = 7 }), "at term 7"},
		"ack of another admission":      {change(2, func(s *signalbox.Statement) { s.Admission = 12 }), "admission 12, the roster has 13"},
		"ack of another service":        {change(2, func(s *signalbox.Statement) { s.Service = "basket" }), "basket"},
		"drained is no evidence":        {change(0, func(s *signalbox.Statement) { s.Kind = signalbox.SaysDrained }), "a drained is no evidence"},
		"serving is no evidence":        {change(0, func(s *signalbox.Statement) { s.Kind = signalbox.SaysServing }), "a serving is no evidence"},
		"refuse is no evidence":         {change(0, func(s *signalbox.Statement) { s.Kind = signalbox.SaysRefuse }), "a refuse is no evidence"},
		"leave of another admission":    {swap(1, seal(t, "b", stale)), "admission 3"},
		"leave after answering":         {swap(1, seal(t, "b", late)), "came after it answered"},
		"one outside the roster":        {append(slices.Clone(all), seal(t, "x", answer(d, 0, signalbox.SaysAck))), "unknown: signer"},
		"signed by another of them":     {swap(0, seal(t, "b", answer(d, 0, signalbox.SaysAck))), "admission 11, the roster has 12"},
	} {
		if _, err := rpc.BuildCertificate(trust, d, "orders", 8, c.evidence); err == nil {
			t.Errorf("%s: certified", name)
		} else if !bytes.Contains([]byte(err.Error()), []byte(c.says)) {
			t.Errorf("%s: got %q, want it to say %q", name, err, c.says)
		}
	}
	for name, evidence := range map[string][][]byte{
		"a leave in place of an ack": swap(1, seal(t, "b", leave)),
		"evidence twice":             append(slices.Clone(all), all[0]),
		"in another order":           {all[2], all[0], all[1]},
	} {
		if _, err := rpc.BuildCertificate(trust, d, "orders", 8, evidence); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCertificateTerm guards that a block certifies its own term and its
// fallback only, each with its own evidence, for a service that it is about.
func TestCertificateTerm(t *testing.T) {
	d := decide(t, handover())
	for _, term := range []signalbox.Term{0, 1, 7, 10, 1 << 63} {
		if _, err := rpc.BuildCertificate(trust, d, "orders", term, acks(t, d)); err == nil {
			t.Errorf("term %d: certified by the block of term 8", term)
		}
	}
	_, err := rpc.BuildCertificate(trust, d, "orders", 9, acks(t, d))
	wants(t, err, signalbox.ErrUntrusted, "no refuse of the block")
	_, err = rpc.BuildCertificate(trust, d, "basket", 8, acks(t, d))
	wants(t, err, signalbox.ErrInvalid, "no handover of service")
}

// TestOneRefuseCertifiesTheFallback guards rule 5: any roster instance's refuse
// is enough, of exactly this block, and only where the block can be voided.
func TestOneRefuseCertifiesTheFallback(t *testing.T) {
	d := decide(t, handover())
	refuse := func(d *signalbox.DecidedBlock, i int) []byte {
		return seal(t, roster[i], answer(d, i, signalbox.SaysRefuse))
	}
	for i := range roster {
		c, err := rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{refuse(d, i)})
		if err != nil || c.DataCenter() != "east" {
			t.Errorf("refuse of %s: %v", roster[i], err)
		}
	}
	twin := handover()
	twin.ID = "orders-8-again"
	_, err := rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{refuse(decide(t, twin), 0)})
	wants(t, err, signalbox.ErrUntrusted, "no refuse")
	replayed := answer(d, 0, signalbox.SaysRefuse)
	replayed.Admission = 3
	_, err = rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{seal(t, "a", replayed)})
	wants(t, err, signalbox.ErrUntrusted, "no refuse")

	for name, make := range map[string]func(*signalbox.Handover){
		"allows lapse":  func(h *signalbox.Handover) { h.Allowed |= signalbox.EvidenceKinds(signalbox.Lapse) },
		"allows fence":  func(h *signalbox.Handover) { h.Allowed |= signalbox.EvidenceKinds(signalbox.Fence) },
		"allows attest": func(h *signalbox.Handover) { h.Allowed |= signalbox.EvidenceKinds(signalbox.Attest) },
	} {
		h := handover()
		make(h)
		d := decide(t, h)
		_, err := rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{refuse(d, 0)})
		wants(t, err, signalbox.ErrUntrusted, "cannot be voided")
		entry, _ := h.Entry(id("a"))
		said := answer(d, 0, signalbox.SaysRefuse)
		said.Identity = id("a")
		if rpc.Voids(d.Handover("orders"), d.Digest, entry, said) {
			t.Errorf("%s: a refuse voids it", name)
		}
	}
	superseding := handover()
	superseding.Fallback = 0
	d = decide(t, superseding)
	if _, err := rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{refuse(d, 0)}); err == nil {
		t.Error("a superseding block has a fallback")
	}
}

// TestTwins guards that what one voter or cluster signed counts nowhere else.
func TestTwins(t *testing.T) {
	b := blockOf(signalbox.Request{Handover: handover()})
	_, err := rpc.OpenBlock(trust, decideFor(t, "shop", "mallory", b).Raw)
	wants(t, err, signalbox.ErrUntrusted, "voter")
	_, err = rpc.OpenBlock(trust, decideFor(t, "bank", "voter", b).Raw)
	wants(t, err, signalbox.ErrUntrusted, "voter")
	b.Cluster = "bank"
	_, err = rpc.OpenBlock(trust, decideFor(t, "shop", "voter", b).Raw)
	wants(t, err, signalbox.ErrUntrusted, `cluster "bank"`)

	d := decide(t, handover())
	var m wire.QuorumEnvelope
	if err := proto.Unmarshal(d.Raw, &m); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*wire.QuorumEnvelope){
		"version": func(m *wire.QuorumEnvelope) { m.Version = 2 },
		"scheme":  func(m *wire.QuorumEnvelope) { m.Scheme = "none" },
		"content": func(m *wire.QuorumEnvelope) { m.Block[len(m.Block)-1] ^= 1 },
		"empty":   func(m *wire.QuorumEnvelope) { m.Block = nil },
	} {
		twin := proto.Clone(&m).(*wire.QuorumEnvelope)
		change(twin)
		raw, _ := proto.Marshal(twin)
		if _, err := rpc.OpenBlock(trust, raw); err == nil {
			t.Errorf("%s: a changed block opens", name)
		}
	}
	whole, err := rpc.BuildCertificate(trust, d, "orders", 8, acks(t, d))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole.Raw) {
		if _, err := rpc.OpenCertificate(trust, whole.Raw[:n]); err == nil {
			t.Fatalf("a certificate that was cut after %d of %d bytes opens", n, len(whole.Raw))
		}
	}
	for n := range whole.Raw {
		bad := bytes.Clone(whole.Raw)
		bad[n] ^= 0x55
		if c, err := rpc.OpenCertificate(trust, bad); err == nil && (c.Term != 8 || c.Service != "orders") {
			t.Fatalf("a certificate with byte %d changed certifies %s@%d", n, c.Service, c.Term)
		}
	}
}

// TestCertificatePosition guards which evidence's position the new side is
// promoted to: the newest admission's of those that say one, acks and leaves
// only, and none for who serves on after a fallback.
func TestCertificatePosition(t *testing.T) {
	d := decide(t, handover())
	for name, c := range map[string]struct {
		says map[int]string // by place in the roster: admissions grow
		want string
	}{
		"nobody":                          {nil, ""},
		"the one that was master":         {map[int]string{1: "0/2000"}, "0/2000"},
		"an older master left long since": {map[int]string{0: "0/9000", 2: "0/3000"}, "0/3000"},
	} {
		var evidence [][]byte
		for i, who := range roster {
			s := answer(d, i, signalbox.SaysAck)
			if i == 0 {
				s = answer(d, i, signalbox.SaysLeave)
			}
			s.Position = signalbox.Position(c.says[i])
			evidence = append(evidence, seal(t, who, s))
		}
		cert, err := rpc.BuildCertificate(trust, d, "orders", 8, evidence)
		if err != nil {
			t.Fatal(err)
		}
		if got := cert.Position().String(); got != c.want {
			t.Errorf("%s: position %q, want %q", name, got, c.want)
		}
		if doc, err := rpc.EncodeCertificateJSON(cert); err != nil || c.want != "" && !bytes.Contains(doc, []byte(`"position": "`+c.want+`"`)) {
			t.Errorf("%s: its document does not say so: %v\n%s", name, err, doc)
		}
	}
	ack := answer(d, 0, signalbox.SaysAck)
	ack.Position = signalbox.Position("0/2000")
	fallback, err := rpc.BuildCertificate(trust, d, "orders", 9, [][]byte{seal(t, "a", ack), seal(t, "b", answer(d, 1, signalbox.SaysRefuse))})
	if err != nil || fallback.Position() != nil {
		t.Errorf("fallback: position %q, %v", fallback.Position(), err)
	}
}

// TestCertificateJSON guards that only the certificate's bytes count in its
// document, and that raw bytes are taken as they are.
func TestCertificateJSON(t *testing.T) {
	d := decide(t, handover())
	c, err := rpc.BuildCertificate(trust, d, "orders", 8, acks(t, d))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := rpc.EncodeCertificateJSON(c)
	if err != nil {
		t.Fatal(err)
	}
	lying := bytes.ReplaceAll(doc, []byte(`"term": 8`), []byte(`"term": 99`))
	for name, data := range map[string][]byte{"document": doc, "raw": c.Raw, "lying document": lying} {
		raw, err := rpc.DecodeCertificateJSON(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := rpc.OpenCertificate(trust, raw); err != nil || got.Term != 8 || !bytes.Equal(got.Raw, c.Raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string]string{
		"format":    `{"format":"signalbox-certificate/v2","certificate":"AA=="}`,
		"empty":     `{"format":"signalbox-certificate/v1"}`,
		"no base64": `{"format":"signalbox-certificate/v1","certificate":"?"}`,
		"cut":       string(doc[:len(doc)-9]),
		"huge":      string(make([]byte, rpc.MaxCertificateDocument+1)),
	} {
		if _, err := rpc.DecodeCertificateJSON([]byte(data)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, sig, err := rpc.QuorumOf(c.Block); err != nil || len(sig) != 64 {
		t.Errorf("quorum: %v", err)
	}
}
