package handover_test

import (
	"testing"

	"github.com/signalbox-io/signalbox"
)

// TestProvenOutcomeIsExact guards rule 4 where a ledger remembers what it
// verified: another term, less or other evidence is looked at anew.
func TestProvenOutcomeIsExact(t *testing.T) {
	b := opened(t)
	block := b.log[5]
	acks := []signalbox.Evidence{actor("e1").answer(signalbox.SaysAck, block), actor("e2").answer(signalbox.SaysAck, block)}
	good := outcome(block, 2, acks...)
	for range 2 {
		if err := b.Check(&good); err != nil {
			t.Fatal(err)
		}
	}
	b.refuses(t, outcome(block, 2, acks[0]), signalbox.ErrUntrusted, "no evidence for e2")
	b.refuses(t, outcome(block, 3, acks...), signalbox.ErrUntrusted, "no refuse")
	forged := acks[1]
	forged.Envelope = append([]byte(nil), forged.Envelope...)
	forged.Envelope[len(forged.Envelope)-1] ^= 1
	b.refuses(t, outcome(block, 2, acks[0], forged), signalbox.ErrUntrusted, "signature")
	b.must(t, good)
}
