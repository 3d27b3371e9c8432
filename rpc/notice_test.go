package rpc_test

import (
	"bytes"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestNotice guards that gossip carries only what proves itself: a handover block
// of the voters or a whole certificate, verbatim.
func TestNotice(t *testing.T) {
	block := decide(t, handover())
	cert, err := rpc.BuildCertificate(trust, block, "orders", 8, acks(t, block))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []rpc.Notice{{Block: block}, {Certificate: cert}} {
		raw := n.Seal()
		got, err := rpc.OpenNotice(trust, raw)
		if err != nil || !bytes.Equal(got.Seal(), raw) || got.Terms()["orders"] != 8 || len(got.Terms()) != 1 {
			t.Errorf("opened %+v: %v", got, err)
		}
		for cut := range raw {
			if _, err := rpc.OpenNotice(trust, raw[:cut]); err == nil {
				t.Fatalf("a notice of %d bytes is accepted with %d", len(raw), cut)
			}
		}
		raw[0]++
		if _, err := rpc.OpenNotice(trust, raw); err == nil {
			t.Error("accepted as something else")
		}
	}
	outcome := rpc.Notice{Block: &signalbox.DecidedBlock{Raw: block.Raw[:len(block.Raw)-1]}}
	if _, err := rpc.OpenNotice(trust, outcome.Seal()); err == nil {
		t.Error("accepted a block that lacks a byte")
	}
}
