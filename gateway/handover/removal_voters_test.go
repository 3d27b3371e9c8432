package handover_test

import (
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestRemovalByFormerVoters guards rule 3 across a change of voters: what takes an
// instance out of the outstanding is signed by none who were replaced before the
// removal was announced, whoever has their keys by now.
func TestRemovalByFormerVoters(t *testing.T) {
	setOf := func(epoch uint64, name string) signalbox.VoterSet {
		v := signalbox.Voter{Name: name, DataCenter: east}
		rpc.ProveVoter(cluster, &v, keyOf(name))
		return signalbox.VoterSet{Epoch: epoch, Scheme: "any", Voters: []signalbox.Voter{v}}
	}
	epochs, err := rpc.NewEpochs(cluster, setOf(1, "gateway"), func(signalbox.VoterSet) (rpc.QuorumVerifier, error) { return anyQuorum{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	b := &book{Ledger: handover.NewLedger(rpc.Trust{Cluster: cluster, Epochs: epochs}, enrolled)}
	for _, n := range []string{"e1", "e2", "e3", "w1"} {
		b.must(t, admit(n, 0))
	}
	b.must(t, signalbox.Request{Handover: &signalbox.Handover{
		ID: "adopt", Service: orders, Term: 1, To: east, Incoming: ids("e1", "e2", "e3"), Allowed: signalbox.AckOnly,
	}})
	fences := signalbox.EvidenceKinds(signalbox.Fence)
	before := b.must(t, b.announce("e1", fences))
	change := b.seal(signalbox.Request{Voters: &signalbox.VoterChange{VoterSet: setOf(2, "other"), By: "ada", Reason: "its disk is lost"}})
	if err := b.Apply(change); err != nil {
		t.Fatal(err)
	}
	after := b.must(t, b.announce("e2", fences))

	b.refuses(t, b.remove("e2", signalbox.SaysFence, after), signalbox.ErrUntrusted, "by voter set 1, the removal was announced under set 2")
	b.must(t, b.remove("e1", signalbox.SaysFence, before)) // announced in their time
	x := rpc.Testimony{
		Statement: signalbox.Statement{
			Kind: signalbox.SaysFence, Service: orders, Identity: actor("e2").Identity, Admission: after.Announcement(orders).Admission,
			Block: after.Digest, Term: after.Announcement(orders).Below,
		},
		Witness: signalbox.Witness{Plugin: "power"},
	}
	payload, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rpc.SealFence(payload, []rpc.Share{rpc.SignTestimony(rpc.DomainFence, cluster, payload, keyOf("other"))})
	if err != nil {
		t.Fatal(err)
	}
	b.must(t, signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: x.Identity, Evidence: raw}})
}
