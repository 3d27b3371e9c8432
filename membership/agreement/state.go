package agreement

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// A State is what a voter has on its disk before a message leaves: a voter that
// starts again from it does not vote twice and forgets no lock. Of a slot that
// is decided nothing has to be kept. Receivers must not change it.
type State struct {
	Epoch, Slot uint64
	// View is the newest one it took part in; Change is how it came there.
	View   uint64
	Change *Change
	// Ended is the highest view that it timed out of.
	Ended uint64
	// VotedOne and VotedTwo are the views of its newest votes; Value is what the
	// newest vote 1 was for.
	VotedOne, VotedTwo uint64
	Value              []byte
	// Lock is the newest first certificate that it voted 2 by, Locked its value.
	Lock   *Quorum
	Locked []byte
}

// Encode returns the state's bytes for the disk.
func (s *State) Encode() ([]byte, error) {
	m := &wire.AgreementState{
		Version: rpc.Version, Epoch: s.Epoch, Slot: s.Slot, View: s.View, Ended: s.Ended, VotedOne: s.VotedOne,
		VotedTwo: s.VotedTwo, Value: s.Value, Lock: quorumToWire(s.Lock), Change: changeToWire(s.Change),
	}
	if s.Lock != nil && string(s.Locked) != string(s.Value) {
		m.Locked = s.Locked // else it is the same block
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode agreement state: %w", err)
	}
	return raw, nil
}

// DecodeState reads a state from the disk. ErrInvalid: it is none, and this
// voter must not vote with what it cannot read.
func DecodeState(raw []byte) (*State, error) {
	var m wire.AgreementState
	if len(raw) > 2*MaxMessage {
		return nil, fmt.Errorf("%w: agreement state of %d bytes", signalbox.ErrInvalid, len(raw))
	}
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: agreement state: %w", signalbox.ErrInvalid, err)
	}
	if m.Version != rpc.Version || m.Slot == 0 || m.View == 0 {
		return nil, fmt.Errorf("%w: agreement state of version %d, slot %d, view %d", signalbox.ErrInvalid, m.Version, m.Slot, m.View)
	}
	s := &State{
		Epoch: m.Epoch, Slot: m.Slot, View: m.View, Ended: m.Ended, VotedOne: m.VotedOne, VotedTwo: m.VotedTwo, Value: m.Value,
	}
	var err error
	if s.Lock, err = quorumFromWire(m.Lock); err != nil {
		return nil, fmt.Errorf("agreement state: %w", err)
	}
	if s.Change, err = changeFromWire(m.Change); err != nil {
		return nil, fmt.Errorf("agreement state: %w", err)
	}
	if s.Lock == nil {
		return s, nil
	}
	if s.Locked = m.Locked; len(s.Locked) == 0 {
		s.Locked = s.Value
	}
	if digestOf(s.Locked) != s.Lock.Digest {
		return nil, fmt.Errorf("%w: agreement state: the locked block is not the lock's", signalbox.ErrInvalid)
	}
	return s, nil
}
