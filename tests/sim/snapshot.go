package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// compacted is a snapshot that a book begins with, as it is on the disk: blocks up
// to index are not in its log any more, but for the newest of them.
type compacted struct {
	index uint64
	raw   []byte
}

// snapshots proposes what is due, and drops the blocks that a decided one stands
// for, as gateway/server does.
func (g *gateway) snapshots() {
	due, err := g.book.SnapshotDue()
	if err != nil {
		g.s.fail("%s cannot take a snapshot: %v", g.name, err)
		return
	}
	if due != nil && !g.s.now.Before(g.proposed) {
		g.proposed = g.s.now.Add(g.s.between(300*time.Millisecond, 2*time.Second))
		g.propose(signalbox.Request{Snapshot: due})
	}
	index, content, proof := g.book.Snapshotted()
	if content == nil || index <= g.book.base.index {
		return
	}
	raw, err := rpc.EncodeSnapshot(content.State, proof, content.Blocks)
	if err != nil {
		g.s.fail("%s cannot write a snapshot: %v", g.name, err)
		return
	}
	g.write(true, func() { g.book.compact(compacted{index, raw}) }, nil)
}

func (b *book) compact(to compacted) {
	for i := b.base.index; i+1 < to.index; i++ {
		b.log[i] = nil
	}
	if n := b.base.index; n > 0 && n < to.index {
		b.log[n-1] = nil
	}
	b.base = to
}

// restored is the book that a snapshot, verified, stands for.
func (s *Sim) restored(base compacted, trust rpc.Trust) (*book, error) {
	file, err := rpc.OpenSnapshot(trust, base.raw)
	if err != nil {
		return nil, err
	}
	l, err := handover.Restore(trust, enrolled, file)
	if err != nil {
		return nil, err
	}
	l.SetSnapshotBlocks(s.plan.snapshots)
	b := &book{Ledger: l, trust: trust, shown: map[string]bool{}, base: base, log: make([]*signalbox.DecidedBlock, base.index)}
	for _, have := range file.Blocks {
		if have.Index == base.index {
			b.log[base.index-1] = have
		}
	}
	if s.off == SnapshotForgets {
		for _, of := range s.plan.services {
			b.forgets(b.Service(of))
		}
	}
	return b, nil
}

// forgets is what SnapshotForgets is about: who is outstanding by an older term.
func (b *book) forgets(st *handover.ServiceState) {
	if st == nil || st.Certificate == nil {
		return
	}
	for id, holder := range st.Outstanding {
		if holder.DataCenter == st.Master() {
			delete(st.Outstanding, id)
		}
	}
}

// reload reads the book from the disk, as a process that starts does.
func (g *gateway) reload() {
	old := g.book
	var b *book
	if old.base.index > 0 {
		var err error
		if b, err = g.s.restored(old.base, g.s.trust()); err != nil {
			g.s.fail("%s cannot restore its snapshot: %v", g.name, err)
			return
		}
		g.s.Stats["ledgers restored from a snapshot"]++
	} else if old.trust.Epochs.Newest().Epoch == old.Voters().Epoch {
		return // it knew nothing but its log
	} else {
		b = g.s.newBook(g.s.trust())
	}
	for _, next := range old.log[old.base.index:] {
		if err := b.take(next); err != nil {
			g.s.fail("%s cannot apply block %d after its snapshot: %v", g.name, next.Index, err)
			return
		}
	}
	g.book = b
}

// install puts another gateway's snapshot in the place of an older log.
func (g *gateway) install(base compacted) {
	if !g.up || base.index <= g.book.Index() {
		return
	}
	b, err := g.s.restored(base, g.book.trust)
	if err != nil {
		g.s.fail("%s cannot install a snapshot: %v", g.name, err)
		return
	}
	if !g.write(true, func() { g.book = b }, nil) {
		return
	}
	g.s.Stats["snapshots installed"]++
	g.s.say("%s installs the snapshot of block %d", g.name, base.index)
	g.reseat()
	g.applied()
	g.keepUp()
}

// skip is the coordinator's: the machines hear what the log says now in the place
// of blocks that are not here.
func (g *gateway) skip(to uint64) {
	g.fed = to
	for _, d := range g.desks {
		st := d.state()
		if st == nil {
			continue
		}
		for _, b := range st.Open {
			if b.Index <= to && !d.machine.Runs(b.Digest) {
				d.step(handover.Decided{Block: b, Resumed: true})
			}
		}
		if st.Certificate != nil {
			d.step(handover.Certified{Certificate: st.Certificate})
		}
		for _, run := range d.machine.Status(d.s.now) {
			if slices.ContainsFunc(st.Open, func(b *signalbox.DecidedBlock) bool { return b.Digest == run.Block.Digest }) {
				continue
			}
			ended := handover.Logged{Block: run.Block.Digest}
			if c := st.Certificate; c != nil && c.Block.Digest == run.Block.Digest {
				ended.Certified = c.Term
			}
			d.step(ended)
		}
		for _, a := range d.s.agents {
			d.hand(a)
		}
	}
}

// sameState fails when a voter's log does not amount to what another one's does.
func (g *gateway) sameState(r *signalbox.Request, err error) {
	if r.Snapshot != nil && errors.Is(err, signalbox.ErrRefused) {
		g.s.fail("%s: %v", g.name, err)
	}
}
