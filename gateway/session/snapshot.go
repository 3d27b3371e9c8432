package session

import (
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// snapshotChunk is how much of a snapshot one message carries.
const snapshotChunk = 512 << 10

// snapshotWait is how long all of a snapshot may take to come; then another
// gateway is asked.
const snapshotWait = 2 * time.Minute

// sendSnapshot sends what stands for the blocks from an index on that are not
// kept, and returns up to which index.
func (p *Peers) sendSnapshot(stream wire.Gateways_FollowServer, from uint64) (uint64, error) {
	raw, index, err := p.opt.Log.Snapshot()
	if err == nil && index < from {
		err = fmt.Errorf("%w: block %d is not kept, and the snapshot is of block %d", signalbox.ErrUnavailable, from, index)
	}
	if err != nil {
		return 0, rpc.ToStatus(err)
	}
	for offset := 0; offset < len(raw); offset += snapshotChunk {
		err := stream.Send(&wire.FollowReply{Newest: p.opt.Log.Index(), Snapshot: &wire.SnapshotChunk{
			Index: index, Size: uint64(len(raw)), Offset: uint64(offset), Data: raw[offset:min(offset+snapshotChunk, len(raw))],
		}})
		if err != nil {
			return 0, err
		}
	}
	return index, nil
}

// takeSnapshot receives a snapshot whose first chunk has come, and puts it in the
// place of a log that is older. One at a time: what a peer sends is kept in
// memory until all of it is here, and nothing of it is believed before.
func (p *Peers) takeSnapshot(l *link, stream grpc.ServerStreamingClient[wire.FollowReply], cancel func(), chunk *wire.SnapshotChunk) error {
	size, index := chunk.GetSize(), chunk.GetIndex()
	if size == 0 || size > rpc.MaxSnapshot {
		p.opt.Refused("snapshot")
		return fmt.Errorf("%w: %s sends a snapshot of %d bytes, at most %d", signalbox.ErrInvalid, l.peer.Name, size, rpc.MaxSnapshot)
	}
	if !p.installing.TryLock() {
		return fmt.Errorf("%w: another gateway's snapshot is under way", signalbox.ErrUnavailable)
	}
	defer p.installing.Unlock()
	late := time.AfterFunc(snapshotWait, cancel)
	defer late.Stop()
	var raw []byte
	for {
		switch {
		case chunk == nil || chunk.GetSize() != size || chunk.GetIndex() != index || chunk.GetOffset() != uint64(len(raw)),
			len(chunk.GetData()) == 0 || uint64(len(raw)+len(chunk.GetData())) > size:
			p.opt.Refused("snapshot")
			return fmt.Errorf("%w: the parts of %s's snapshot do not fit together", signalbox.ErrInvalid, l.peer.Name)
		}
		raw = append(raw, chunk.GetData()...)
		if uint64(len(raw)) == size {
			break
		}
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		chunk = reply.GetSnapshot()
	}
	if index <= p.opt.Log.Index() {
		return nil // another gateway was faster
	}
	if err := p.opt.Log.Install(raw); err != nil {
		p.opt.Refused("snapshot")
		p.opt.Logger.Warn().Err(err).Str("peer", l.peer.Name).Uint64("index", index).Msg("refused snapshot")
		return err
	}
	p.opt.Logger.Info().Str("peer", l.peer.Name).Uint64("index", index).Int("bytes", len(raw)).
		Msg("took a snapshot in the place of blocks that are not kept any more")
	return nil
}
