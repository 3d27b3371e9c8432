package journal

import (
	"errors"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/rpc"
)

// otherVoters is a block of slot 1 that changes the voters.
func otherVoters(t *testing.T) []byte {
	t.Helper()
	c := &signalbox.VoterChange{By: "ada", Reason: "test", VoterSet: signalbox.VoterSet{Epoch: 2, Scheme: "ed25519-list"}}
	c.Voters = []signalbox.Voter{{Name: "west-1", DataCenter: "west", PublicKey: keyOf("west-1")[32:]}}
	raw, err := rpc.EncodeBlock(&signalbox.Block{Cluster: "demo", Epoch: 1, Index: 1, At: start, Requests: []signalbox.Request{{Voters: c}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestStopBeforeVote guards that a voter's vote 2 for other voters is neither kept nor
// sent before it has stopped granting leases, and that its answers name their epoch
// from then on (membership/agreement, DESIGN.md: changing the voters).
func TestStopBeforeVote(t *testing.T) {
	a := newAssembly(t)
	m := a.members["west-1"]
	sent, stopped, broken := 0, uint64(0), errors.New("no space left")
	m.opt.Send = func(string, []byte) { sent++ }
	m.opt.Stop = func(slot uint64) error {
		if st, err := m.opt.Journal.state(); err != nil || st != nil && st.VotedTwo > 0 || sent > 0 {
			t.Errorf("it voted before it stopped: %+v, %d sent, %v", st, sent, err)
		}
		stopped = slot
		return broken
	}
	if err := errors.Join(m.opt.Journal.begin(), m.opt.Journal.setAllBegun()); err != nil {
		t.Fatal(err)
	}
	raw := otherVoters(t)
	q := &agreement.Quorum{View: 1, Digest: rpc.BlockDigest(raw), Signature: []byte("x")}
	effects := agreement.Effects{
		Persist: &agreement.State{Epoch: 1, Slot: 1, View: 1, VotedOne: 1, VotedTwo: 1, Value: raw, Lock: q, Locked: raw},
		Send:    []agreement.Outgoing{{To: 0, Message: &agreement.Message{Kind: agreement.VoteTwo, Slot: 1, View: 1}}},
	}
	if m.carry(effects, nil); sent != 0 || stopped != 1 {
		t.Fatalf("leases cannot be stopped: %d messages, stopped for slot %d", sent, stopped)
	}
	broken = nil
	if m.carry(effects, nil); sent != 1 {
		t.Fatalf("%d messages", sent)
	}
	answer, err := m.Answer(orders, idOf("e1"), make([]byte, rpc.NonceSize))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := rpc.OpenAnswer("demo", answer, rpc.VoterKeys(signalbox.VoterSet{Voters: []signalbox.Voter{{PublicKey: keyOf("west-1")[32:]}}}))
	if err != nil || got.Epoch != 2 {
		t.Errorf("it answers for epoch %d: %v", got.Epoch, err)
	}
}
