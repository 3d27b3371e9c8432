package rpc_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// setOf is an epoch's set of one voter.
func setOf(epoch uint64, voter string) signalbox.VoterSet {
	v := signalbox.Voter{Name: voter, DataCenter: "east"}
	rpc.ProveVoter("shop", &v, key(voter))
	return signalbox.VoterSet{Epoch: epoch, Scheme: "test", Voters: []signalbox.Voter{v}}
}

// changeBy is a block of an epoch's voter that puts another one in its place.
func changeBy(t testing.TB, epoch, index uint64, voter, next string) *signalbox.DecidedBlock {
	t.Helper()
	c := &signalbox.VoterChange{VoterSet: setOf(epoch+1, next), By: "ada", Reason: "its disk is lost"}
	if err := rpc.SignVoters("shop", c, key("ada")); err != nil {
		t.Fatal(err)
	}
	return at(t, epoch, index, voter, signalbox.Request{Voters: c})
}

// at is a block of an epoch, signed by a voter.
func at(t testing.TB, epoch, index uint64, voter string, r signalbox.Request) *signalbox.DecidedBlock {
	t.Helper()
	b := blockOf(r)
	b.Epoch, b.Index, b.Prev = epoch, index, sha256.Sum256(fmt.Append(nil, index-1))
	return decideFor(t, "shop", voter, b)
}

func epochs(t testing.TB) (*rpc.Epochs, rpc.Trust) {
	t.Helper()
	e, err := rpc.NewEpochs("shop", setOf(1, "one"), func(s signalbox.VoterSet) (rpc.QuorumVerifier, error) {
		if s.Voters[0].Name == "nobody" {
			return nil, fmt.Errorf("%w: no such voter", signalbox.ErrUntrusted)
		}
		return oneVoter{s.Voters[0].Name}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, rpc.Trust{Cluster: "shop", Epochs: e}
}

// TestEpochs guards rule 1 across a change of voters: each set decides the blocks
// from the one that brought it to the one that replaces it, and no others, also
// when the keys of the old ones are still about.
func TestEpochs(t *testing.T) {
	e, trust := epochs(t)
	handover := signalbox.Request{Handover: handover()}
	open := func(b *signalbox.DecidedBlock) error { _, err := rpc.OpenBlock(trust, b.Raw); return err }

	wants(t, open(at(t, 2, 11, "two", handover)), signalbox.ErrUnknown, "newest known here is 1")
	wants(t, e.Learn(trust, at(t, 1, 10, "one", handover).Raw), signalbox.ErrInvalid, "brings no voters")
	wants(t, e.Learn(trust, changeBy(t, 1, 10, "two", "two").Raw), signalbox.ErrUntrusted, "signature")
	wants(t, e.Learn(trust, changeBy(t, 2, 10, "one", "two").Raw), signalbox.ErrUnknown, "voter set 2")
	wants(t, e.Learn(trust, changeBy(t, 1, 10, "one", "nobody").Raw), signalbox.ErrUntrusted, "no such voter")

	change := changeBy(t, 1, 10, "one", "two")
	for range 2 { // again is no error
		if err := e.Learn(trust, change.Raw); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, e.Learn(trust, changeBy(t, 1, 10, "one", "three").Raw), signalbox.ErrUntrusted, "two blocks change the voters of epoch 1")
	if err := e.Learn(trust, changeBy(t, 2, 20, "two", "three").Raw); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		epoch, index uint64
		voter        string
		ok           bool
	}{
		{1, 9, "one", true}, {1, 10, "one", true}, {1, 11, "one", false}, {2, 10, "two", false}, {2, 11, "two", true},
		{2, 20, "two", true}, {2, 21, "two", false}, {3, 20, "three", false}, {3, 21, "three", true}, {3, 9_000, "three", true},
		{1, 5, "two", false}, {2, 15, "one", false},
	} {
		err := open(at(t, c.epoch, c.index, c.voter, handover))
		if c.ok && err != nil {
			t.Errorf("block %d of epoch %d by %s: %v", c.index, c.epoch, c.voter, err)
		} else if !c.ok {
			wants(t, err, signalbox.ErrUntrusted, "")
		}
	}
	if n := e.Newest(); n.Epoch != 3 || n.Voters[0].Name != "three" {
		t.Errorf("newest %+v", n)
	}
	if v, epoch, ok := e.Had(public("two")); !ok || epoch != 2 || v.Name != "two" {
		t.Errorf("key of two: %v %d %v", v, epoch, ok)
	}
	if n := len(e.Chain(2)); n != 1 {
		t.Errorf("%d blocks lead to epoch 2", n)
	}

	fresh, again := epochs(t)
	for _, raw := range e.Chain(0) {
		if err := fresh.Learn(again, raw); err != nil {
			t.Fatal(err)
		}
	}
	if fresh.Newest().Epoch != 3 {
		t.Error("the chain does not lead to epoch 3")
	}
}

// TestEpochsAreBounded guards that the blocks which every certificate carries stay
// small: a change that no longer fits is refused, and nothing is forgotten for it.
func TestEpochsAreBounded(t *testing.T) {
	e, trust := epochs(t)
	voter, index, size := "one", uint64(1), 0
	for e.Room(2 * size) {
		next := fmt.Sprintf("v%d", index)
		b := changeBy(t, index, index, voter, next)
		if err := e.Learn(trust, b.Raw); err != nil {
			t.Fatal(err)
		}
		voter, index, size = next, index+1, max(size, len(b.Raw))
	}
	for range 3 {
		b := changeBy(t, index, index, voter, "last")
		err := e.Learn(trust, b.Raw)
		if err == nil {
			voter, index = "last", index+1
			continue
		}
		wants(t, err, signalbox.ErrInvalid, "bytes")
		if e.Newest().Epoch != index {
			t.Errorf("epoch %d after the refusal, want %d", e.Newest().Epoch, index)
		}
		return
	}
	t.Error("nothing was refused")
}

func FuzzLearnVoters(f *testing.F) {
	f.Add(changeBy(f, 1, 10, "one", "two").Raw)
	f.Add(at(f, 1, 10, "one", signalbox.Request{Handover: handover()}).Raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, trust := epochs(t)
		if err := e.Learn(trust, raw); err == nil && e.Newest().Epoch != 2 {
			t.Errorf("learned epoch %d", e.Newest().Epoch)
		}
	})
}
