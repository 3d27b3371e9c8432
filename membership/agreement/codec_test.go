package agreement

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/signalbox-io/signalbox"
)

func drawQuorum(r *rapid.T) *Quorum {
	if rapid.Bool().Draw(r, "no certificate") {
		return nil
	}
	return &Quorum{View: rapid.Uint64Range(1, 9).Draw(r, "of view"), Digest: digestOf(drawBytes(r, 4)), Signature: drawBytes(r, 40)}
}

func drawBytes(r *rapid.T, most int) []byte {
	return rapid.SliceOfN(rapid.Byte(), 1, most).Draw(r, "bytes")
}

func drawChange(r *rapid.T) *Change {
	if rapid.Bool().Draw(r, "no change") {
		return nil
	}
	c := &Change{View: rapid.Uint64Range(1, 9).Draw(r, "ended")}
	for range rapid.IntRange(0, 4).Draw(r, "voters") {
		c.Ended = append(c.Ended, Ended{Voter: rapid.IntRange(0, 255).Draw(r, "voter"), High: rapid.Uint64().Draw(r, "high"), Share: drawBytes(r, 8)})
	}
	return c
}

func drawMessage(r *rapid.T) *Message {
	m := &Message{Kind: Kind(rapid.IntRange(int(Request), int(Value)).Draw(r, "kind")), Epoch: rapid.Uint64().Draw(r, "epoch")}
	m.Slot, m.View = rapid.Uint64Range(1, 1<<62).Draw(r, "slot"), rapid.Uint64Range(1, 1<<62).Draw(r, "view")
	switch m.Kind {
	case Request, Value:
		m.Value = drawBytes(r, 50)
	case Proposal:
		m.Value, m.Quorum, m.Change = drawBytes(r, 50), drawQuorum(r), drawChange(r)
	case VoteOne, VoteTwo:
		m.Share = drawBytes(r, 64)
	case Certified, Decided:
		m.Quorum = &Quorum{View: 3, Digest: digestOf([]byte("x")), Signature: drawBytes(r, 40)}
	case Timeout:
		m.Share, m.Quorum, m.Change = drawBytes(r, 64), drawQuorum(r), drawChange(r)
	case Want:
		m.Digest = digestOf(drawBytes(r, 4))
	}
	return m
}

// TestCodec guards that what is sent is what arrives.
func TestCodec(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := drawMessage(r)
		raw, err := m.Encode()
		if err != nil {
			r.Fatal(err)
		}
		got, err := Decode(raw)
		if err != nil || !reflect.DeepEqual(got, m) {
			r.Fatalf("sent %+v, got %+v, %v", m, got, err)
		}
	})
}

// TestStateCodec guards that a voter finds on its disk what it put there.
func TestStateCodec(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := &State{Epoch: 1, Slot: 4, View: rapid.Uint64Range(1, 9).Draw(r, "view"), Change: drawChange(r), Ended: 2}
		if rapid.Bool().Draw(r, "voted") {
			s.VotedOne, s.Value = 3, drawBytes(r, 20)
		}
		if s.Lock = drawQuorum(r); s.Lock != nil {
			s.VotedTwo, s.Locked = s.Lock.View, drawBytes(r, 20)
			s.Lock.Digest = digestOf(s.Locked)
		}
		raw, err := s.Encode()
		if err != nil {
			r.Fatal(err)
		}
		got, err := DecodeState(raw)
		if err != nil || !reflect.DeepEqual(got, s) {
			r.Fatalf("kept %+v, found %+v, %v", s, got, err)
		}
	})
	s := &State{Epoch: 1, Slot: 1, View: 1, VotedOne: 1, Value: []byte("a"), Lock: &Quorum{View: 1, Digest: digestOf([]byte("b")), Signature: []byte{1}}, Locked: []byte("a")}
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeState(raw); !errors.Is(err, signalbox.ErrInvalid) {
		t.Errorf("a lock without its block: %v", err)
	}
}

// TestBounds guards that nothing larger than its maximum gets in.
func TestBounds(t *testing.T) {
	for name, m := range map[string]*Message{
		"value":     {Kind: Proposal, Slot: 1, View: 1, Value: make([]byte, MaxValue+1)},
		"share":     {Kind: VoteOne, Slot: 1, View: 1, Share: make([]byte, MaxShare+1)},
		"signature": {Kind: Decided, Slot: 1, View: 1, Quorum: &Quorum{View: 1, Signature: make([]byte, MaxSignature+1)}},
		"voters":    {Kind: Timeout, Slot: 1, View: 1, Change: &Change{View: 1, Ended: make([]Ended, 257)}},
		"voter":     {Kind: Timeout, Slot: 1, View: 1, Change: &Change{View: 1, Ended: []Ended{{Voter: 256}}}},
		"slot 0":    {Kind: VoteOne, View: 1},
		"view 0":    {Kind: VoteOne, Slot: 1},
		"message":   {Kind: Request, Value: make([]byte, MaxMessage)},
	} {
		raw, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(raw); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Message{}).Encode(); err == nil {
		t.Error("encoded nothing")
	}
}

// FuzzDecode guards that no bytes from another voter panic, neither the decoder
// nor the replica, and that what is decoded is encoded to the same message.
func FuzzDecode(f *testing.F) {
	for _, m := range []*Message{
		{Kind: Proposal, Epoch: 1, Slot: 1, View: 2, Value: []byte("p0"), Quorum: &Quorum{View: 1, Signature: []byte{1}}, Change: &Change{View: 1, Ended: []Ended{{Voter: 2, High: 1}}}},
		{Kind: Timeout, Epoch: 1, Slot: 1, View: 1, Share: []byte{1}}, {Kind: Decided, Epoch: 1, Slot: 1, View: 1, Quorum: &Quorum{View: 1}},
	} {
		raw, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Decode(raw)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		other, err := Decode(again)
		if err != nil || !reflect.DeepEqual(m, other) {
			t.Fatalf("%+v became %+v, %v", m, other, err)
		}
		for from := range 4 {
			_, _ = newReplica(t, config(4, 1, 1, 0), nil).Step(from, m, start)
		}
	})
}

// FuzzDecodeState guards that no damaged disk panics.
func FuzzDecodeState(f *testing.F) {
	raw, err := (&State{Epoch: 1, Slot: 1, View: 1, VotedOne: 1, Value: []byte("a")}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := DecodeState(raw)
		if err != nil {
			return
		}
		r, err := New(config(4, 1, 0, 0), 1, 0, s, start)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Tick(start.AddDate(1, 0, 0))
		if again, err := s.Encode(); err != nil || len(again) == 0 && !bytes.Equal(raw, again) {
			t.Fatal(err)
		}
	})
}
