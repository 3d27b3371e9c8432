package rpc_test

import (
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// setWith is an epoch's set of some voters, of whom so many may lie.
func setWith(epoch uint64, lying int, voters ...string) signalbox.VoterSet {
	s := signalbox.VoterSet{Epoch: epoch, Scheme: "test", Unavailable: lying, Lying: lying}
	for _, name := range voters {
		v := signalbox.Voter{Name: name, DataCenter: "east"}
		rpc.ProveVoter("shop", &v, key(name))
		s.Voters = append(s.Voters, v)
	}
	return s
}

// TestFenceOfLaterVoters guards rule 4 across a change of voters: of a block that is
// open while they change, a fence by the new voters makes a certificate that carries
// who they are, so that whoever knows the first keys only believes it; and whoever
// learns of voters of whom more have to sign goes on believing it, as the log has it.
func TestFenceOfLaterVoters(t *testing.T) {
	fresh := func() rpc.Trust {
		e, err := rpc.NewEpochs("shop", setWith(1, 1, "one", "two", "three", "four"), func(s signalbox.VoterSet) (rpc.QuorumVerifier, error) {
			return oneVoter{s.Voters[0].Name}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return rpc.Trust{Cluster: "shop", Epochs: e}
	}
	change := func(index uint64, by string, to signalbox.VoterSet) *signalbox.DecidedBlock {
		c := &signalbox.VoterChange{VoterSet: to, By: "ada", Reason: "moved"}
		return at(t, to.Epoch-1, index, by, signalbox.Request{Voters: c})
	}
	learn := func(trust rpc.Trust, b *signalbox.DecidedBlock) {
		t.Helper()
		if err := trust.Epochs.Learn(trust, b.Raw); err != nil {
			t.Fatal(err)
		}
	}
	h := failover()
	h.Roster = h.Roster[1:2]
	block := at(t, 1, 10, "one", signalbox.Request{Handover: h})
	fenced := func(by ...string) []byte {
		x := testimony(block, 1, signalbox.SaysFence)
		x.Statement = signalbox.Statement{
			Kind: signalbox.SaysFence, Service: h.Service, Identity: h.Roster[0].Identity, Admission: h.Roster[0].Admission, Block: block.Digest, Term: h.Term,
		}
		return fence(t, x, by...)
	}

	trust := fresh()
	learn(trust, change(11, "one", setWith(2, 0, "five")))
	c, err := rpc.BuildCertificate(trust, block, h.Service, h.Term, [][]byte{fenced("five")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.OpenCertificate(fresh(), c.Raw); err != nil {
		t.Errorf("by the first keys only: %v", err)
	}
	learn(trust, change(20, "five", setWith(3, 1, "five", "six", "seven", "eight")))
	if _, err := rpc.OpenCertificate(trust, c.Raw); err != nil {
		t.Errorf("by whoever knows voters of whom more have to sign: %v", err)
	}

	// Too few of any set, and of no set, are none.
	for _, by := range [][]string{{"one"}, {"six"}, {"one", "five"}, {"nobody"}} {
		_, err := rpc.BuildCertificate(trust, block, h.Service, h.Term, [][]byte{fenced(by...)})
		wants(t, err, signalbox.ErrUntrusted, "")
	}
	// Voters who were replaced before the block count for nothing.
	late := at(t, 3, 21, "five", signalbox.Request{Handover: h})
	x := testimony(late, 1, signalbox.SaysFence)
	x.Statement = signalbox.Statement{
		Kind: signalbox.SaysFence, Service: h.Service, Identity: h.Roster[0].Identity, Admission: h.Roster[0].Admission, Block: late.Digest, Term: h.Term,
	}
	_, err = rpc.BuildCertificate(trust, late, h.Service, h.Term, [][]byte{fence(t, x, "five")})
	wants(t, err, signalbox.ErrUntrusted, "by voter set 2")
}
