package rpc_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// The fuzz targets guard that no bytes from the network make a decoder panic,
// and that what a decoder accepts keeps its promise.

// seeds adds the golden vectors, so that fuzzing starts from what is valid.
func seeds(f *testing.F) {
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		f.Fatal(err)
	}
	var vectors map[string]string
	if err := json.Unmarshal(data, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		raw, err := hex.DecodeString(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}

// anySigner accepts any quorum, so that fuzzing gets behind the signatures.
type anySigner struct{}

func (anySigner) VerifyQuorum(string, []byte, []byte) error { return nil }

func FuzzOpenStatement(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := rpc.OpenStatement("shop", raw, known)
		if err != nil {
			return
		}
		if known(e.Identity) == nil || signalbox.CheckName("service", string(e.Service)) != nil || !bytes.Equal(e.Envelope, raw) {
			t.Errorf("opened %+v", e)
		}
	})
}

func FuzzOpenBlock(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := rpc.OpenBlock(rpc.Trust{Cluster: "shop", Quorum: anySigner{}}, raw)
		if err != nil {
			return
		}
		for _, r := range b.Requests {
			if signalbox.CheckName("service", string(r.Service())) != nil {
				t.Errorf("opened a request of service %q", r.Service())
			}
		}
	})
}

func FuzzOpenCertificate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := rpc.OpenCertificate(rpc.Trust{Cluster: "shop", Quorum: anySigner{}}, raw)
		if err != nil {
			return
		}
		if h := c.Handover(); h == nil || c.Term != h.Term && c.Term != h.Fallback || c.Term == 0 {
			t.Errorf("opened %s@%d", c.Service, c.Term)
		}
		if _, err := rpc.EncodeCertificateJSON(c); err != nil {
			t.Errorf("a certificate has no document: %v", err)
		}
	})
}

func FuzzOpenAnswer(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if a, _, err := rpc.OpenAnswer("shop", raw, known); err == nil && len(a.Nonce) != rpc.NonceSize {
			t.Errorf("opened %+v", a)
		}
	})
}

func FuzzOpenEnrollment(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, _, err := rpc.OpenEnrollment("shop", x509.NewCertPool(), raw); err == nil {
			t.Error("an enrollment without a CA opens")
		}
		if in, err := rpc.EnrolledInstance("shop", raw); err == nil && rpc.IdentityOf(in.PublicKey) != in.Identity {
			t.Errorf("opened %+v", in)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := rpc.DecodeRequest(raw)
		if err != nil {
			return
		}
		again, err := rpc.EncodeRequest(r)
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if _, err := rpc.DecodeRequest(again); err != nil {
			t.Errorf("what was encoded does not decode: %v", err)
		}
	})
}

func FuzzDecodeCertificateJSON(f *testing.F) {
	seeds(f)
	f.Add([]byte(`{"format":"signalbox-certificate/v1","certificate":"AA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if raw, err := rpc.DecodeCertificateJSON(data); err == nil && len(raw) > rpc.MaxCertificateDocument {
			t.Error("larger than its maximum")
		}
	})
}

func FuzzParsePrincipal(f *testing.F) {
	f.Add("spiffe://shop/gateway/east/gw-1")
	f.Add("spiffe://shop/operator/ada")
	f.Fuzz(func(t *testing.T, uri string) {
		if p, err := rpc.ParsePrincipal(uri); err == nil && p.String() != uri {
			t.Errorf("%q was read as %s", uri, p)
		}
	})
}

func FuzzParseRouteName(f *testing.F) {
	f.Add("orders@8")
	f.Add("orders@18446744073709551616")
	f.Add("orders@24000000000000000000")
	f.Fuzz(func(t *testing.T, name string) {
		if s, term, ok := signalbox.ParseRouteName(name); ok && signalbox.RouteName(s, term) != name {
			t.Errorf("%q was read as %s@%d", name, s, term)
		}
	})
}

func FuzzOpenEvidence(f *testing.F) {
	d := decide(f, failover())
	f.Add(lapse(f, testimony(d, 0, signalbox.SaysLapse), "voter"))
	f.Add(fence(f, testimony(d, 1, signalbox.SaysFence), "g1", "g3"))
	f.Add(attest(f, testimony(d, 2, signalbox.SaysAttest), "ada"))
	f.Add(acks(f, d)[0])
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := rpc.OpenEvidence(wide(), raw, known)
		if err != nil {
			return
		}
		if s, err := rpc.InspectEvidence(raw); err != nil || s.Identity != e.Identity || s.Kind != e.Kind {
			t.Fatalf("opened %+v, inspected %+v, %v", e.Statement, s, err)
		}
	})
}
