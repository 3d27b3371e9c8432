package session

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// oldLog keeps a snapshot and nothing else, or takes one.
type oldLog struct {
	Log
	snapshot []byte
	index    uint64
	took     []byte
}

func (l *oldLog) Index() uint64                     { return l.index }
func (l *oldLog) Snapshot() ([]byte, uint64, error) { return l.snapshot, l.index, nil }
func (l *oldLog) Install(raw []byte) error {
	l.took = raw
	return nil
}

// chunks takes down what is sent; incoming brings it.
type chunks struct {
	grpc.ServerStream
	list []*wire.SnapshotChunk
}

func (c *chunks) Send(r *wire.FollowReply) error {
	c.list = append(c.list, r.GetSnapshot())
	return nil
}

type incoming struct {
	grpc.ClientStream
	list []*wire.SnapshotChunk
}

func (c *incoming) Recv() (*wire.FollowReply, error) {
	if len(c.list) == 0 {
		return nil, io.EOF
	}
	first := c.list[0]
	c.list = c.list[1:]
	return &wire.FollowReply{Snapshot: first}, nil
}

func peersWith(l Log, refused *int) *Peers {
	return &Peers{opt: PeersOptions{Log: l, Logger: zerolog.Nop(), Refused: func(string) { *refused++ }}}
}

// TestSnapshotChunks guards that a snapshot comes as it was, in parts that a
// message has room for, and that parts which do not fit together are refused
// before they take memory.
func TestSnapshotChunks(t *testing.T) {
	refused := 0
	whole := bytes.Repeat([]byte("snapshot"), 3*snapshotChunk/16)
	sender, out := peersWith(&oldLog{snapshot: whole, index: 7}, &refused), &chunks{}
	if index, err := sender.sendSnapshot(out, 3); err != nil || index != 7 || len(out.list) < 2 {
		t.Fatalf("%d chunks up to block %d, %v", len(out.list), index, err)
	}
	if _, err := sender.sendSnapshot(&chunks{}, 8); err == nil {
		t.Error("a snapshot was sent to who is ahead of it")
	}
	take := func(change func(list []*wire.SnapshotChunk) []*wire.SnapshotChunk) ([]byte, error) {
		log := &oldLog{index: 2}
		var list []*wire.SnapshotChunk
		for _, c := range out.list {
			list = append(list, &wire.SnapshotChunk{Index: c.Index, Size: c.Size, Offset: c.Offset, Data: c.Data})
		}
		list = change(list)
		err := peersWith(log, &refused).takeSnapshot(&link{}, &incoming{list: list[1:]}, func() {}, list[0])
		return log.took, err
	}
	same := func(list []*wire.SnapshotChunk) []*wire.SnapshotChunk { return list }
	if took, err := take(same); err != nil || !bytes.Equal(took, whole) || refused != 0 {
		t.Fatalf("%d bytes came of %d, %v", len(took), len(whole), err)
	}
	for name, change := range map[string]func(list []*wire.SnapshotChunk) []*wire.SnapshotChunk{
		"too large":          func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[0].Size = rpc.MaxSnapshot + 1; return l },
		"without a size":     func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[0].Size = 0; return l },
		"a hole":             func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[1].Offset++; return l },
		"a part twice":       func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { return append(l[:1:1], l...) },
		"an empty part":      func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[1].Data = nil; return l },
		"more than its size": func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[0].Size--; l[1].Size--; return l },
		"of two snapshots":   func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[1].Index++; return l },
		"a block between":    func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { l[1] = nil; return l },
	} {
		before := refused
		if took, err := take(change); !errors.Is(err, signalbox.ErrInvalid) || took != nil || refused == before {
			t.Errorf("%s: %v", name, err)
		}
	}
	if took, err := take(func(l []*wire.SnapshotChunk) []*wire.SnapshotChunk { return l[:1] }); err == nil || took != nil {
		t.Errorf("a part of it: %v", err)
	}
}
