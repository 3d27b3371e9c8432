package agent

import (
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// of is voter v's answer as part of an epoch's voter set.
func (r *rig) of(epoch uint64, v int) {
	r.t.Helper()
	raw, err := rpc.SealAnswer(testCluster, rpc.Answer{
		Voter: fmt.Sprint("v", v), Service: "orders", Identity: r.w.id(r.name), Nonce: r.nonce, Epoch: epoch,
	}, r.w.voters[v])
	r.w.must(err)
	r.step(answered{raw: raw})
}

// Rule 2 across a change of voters: a voter that knows newer voters, or is behind,
// lets nobody in; a quorum of those that the agent knows does, and what they said
// before the agent learned of newer ones counts no more.
func TestAnswersOfOneEpoch(t *testing.T) {
	w := newWorld(t, 3, 2)
	r, _ := serving(t, w, "a")
	r.epoch = 1
	r.restart()
	r.of(2, 0) // it voted for other voters
	r.of(1, 1)
	if r.master {
		t.Fatal("serves by one voter of its epoch and one that goes on with others")
	}
	r.epoch = 2
	r.step(learned{})
	r.of(2, 0)
	r.of(1, 2) // it is behind
	if r.master {
		t.Fatal("serves by one voter of the new epoch, and by what old ones said")
	}
	r.of(2, 1)
	if !r.master {
		t.Fatal("does not serve although a quorum of the new epoch answered")
	}
}

// Grants count among those of one epoch; what is live stays so until it runs out.
func TestGrantsOfOneEpoch(t *testing.T) {
	r := leasedRig(t)
	grant := func(epoch uint64, v int) {
		t.Helper()
		request, err := rpc.OpenLeaseRequest(testCluster, r.requests[len(r.requests)-1], func(signalbox.Identity) ed25519.PublicKey { return r.w.key(r.name).Public().(ed25519.PublicKey) })
		r.w.must(err)
		request.Epoch = epoch
		raw, err := rpc.SealLeaseGrant(testCluster, request, r.w.voters[v])
		r.w.must(err)
		r.step(leaseReplied{&wire.LeaseReply{Grant: raw}})
	}
	r.epoch = 1
	r.step(learned{})
	grant(1, 0)
	grant(2, 1)
	if r.until != nil {
		t.Fatal("a voter of the old set and one of the new one are no quorum")
	}
	grant(1, 1)
	if r.until == nil {
		t.Fatal("no lease although a quorum of its voters granted it")
	}
	asked := len(r.requests)
	r.epoch = 2
	r.step(learned{})
	if len(r.requests) == asked || r.until == nil {
		t.Errorf("%d requests after the voters changed, before %d; the lease %v", len(r.requests), asked, r.until)
	}
}
