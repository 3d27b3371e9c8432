package rpc_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A trust's own check of single signatures is asked for every kind of evidence
// that one key signs, and for nothing else.
func TestSingleVerifier(t *testing.T) {
	d := decide(t, failover())
	raws := [][]byte{
		acks(t, d)[0],
		fence(t, testimony(d, 1, signalbox.SaysFence), "g1", "g3"),
		attest(t, testimony(d, 2, signalbox.SaysAttest), "ada"),
	}
	asked := 0
	own := wide()
	own.Single = func(key ed25519.PublicKey, message, signature []byte) bool {
		asked++
		return ed25519.Verify(key, message, signature)
	}
	if _, err := rpc.BuildCertificate(own, d, "orders", 8, raws); err != nil || asked != 4 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	own.Single = func(ed25519.PublicKey, []byte, []byte) bool { return false }
	for i, raw := range raws {
		keys := func(signalbox.Identity) ed25519.PublicKey { return public("a") }
		if _, err := rpc.OpenEvidence(own, raw, keys); err == nil {
			t.Errorf("evidence %d: not asked", i)
		}
	}
}
