package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

// maxTogether is how many bytes of requests go into a block together; one request
// may be larger by what a block's frame leaves.
const maxTogether = rpc.MaxBlock/2 - 1024

// gather puts requests that wait and are allowed into a block, oldest first: at
// most one of each service, and the first of them in any case.
func gather(b *signalbox.Block, asks []*ask, allowed func(*ask) bool) (in []*ask) {
	seen, size := map[signalbox.Service]bool{}, 0
	for _, a := range asks {
		s, more := a.request.Service(), len(b.Requests) > 0
		if seen[s] || len(b.Requests) == rpc.MaxRequests || more && size+len(a.raw) > maxTogether || clashes(b, &a.request) || !allowed(a) {
			continue
		}
		if a.request.Voters != nil && more {
			continue // alone, in the next block
		}
		seen[s], size = true, size+len(a.raw)+8
		b.Requests, in = append(b.Requests, a.request), append(in, a)
		if a.request.Voters != nil {
			break
		}
	}
	return in
}

// clashes reports whether a request speaks of what another one of the block
// speaks of although their services differ: an identity, or a handover's id.
func clashes(b *signalbox.Block, r *signalbox.Request) bool {
	for i := range b.Requests {
		have := &b.Requests[i]
		if r.Admit != nil && have.Admit != nil && r.Admit.Identity == have.Admit.Identity {
			return true
		}
		if r.Handover != nil && have.Handover != nil && r.Handover.ID == have.Handover.ID {
			return true
		}
	}
	return false
}

// Propose has a request decided: checked against the whole log, signed, and on
// disk before it returns. Requests that come while a block is being written share
// the next one. A handover whose id is in the log already is returned as it was
// decided. Errors are those of Ledger.CheckAt, or ErrUnavailable.
func (v *Voter) Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error) {
	answer := make(chan reply, 1)
	if err := v.queue(&ask{request: r, ctx: ctx, replies: []chan reply{answer}}); err != nil {
		return nil, err
	}
	v.waiting.Add(1)
	defer v.waiting.Add(-1)
	v.journal.write.Lock()
	defer v.journal.write.Unlock()
	for {
		select {
		case got := <-answer:
			return got.block, got.err
		default:
			v.decide() // the oldest that waits at least, so this one's turn comes
		}
	}
}

func (v *Voter) queue(a *ask) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.asks) >= maxPending {
		return errTooMany()
	}
	v.asks = append(v.asks, a)
	return nil
}

func errTooMany() error {
	return fmt.Errorf("%w: %d requests wait already", signalbox.ErrUnavailable, maxPending)
}

// decide decides the next block of all that waits, and answers whoever's request
// is in it, or is refused: a refused one keeps nobody else's out. The caller holds
// the journal's write lock.
func (v *Voter) decide() {
	v.mu.Lock()
	asks := v.asks
	v.asks = nil
	v.mu.Unlock()
	block := &signalbox.Block{Cluster: v.journal.trust.Cluster, Epoch: v.epoch, At: v.now()}
	asks = v.screen(asks, block.At)
	in := gather(block, asks, func(*ask) bool { return true })
	v.journal.View(func(l *handover.Ledger) { block.Index, block.Prev = l.Index()+1, l.Digest() })
	v.putBack(asks, in)
	if len(in) == 0 {
		return
	}
	decided, err := v.write(block)
	for _, a := range in {
		a.reply(decided, err)
	}
}

// screen answers the requests that no block is needed for, or that the log does not
// allow, and returns the others.
func (v *Voter) screen(asks []*ask, at time.Time) (rest []*ask) {
	for _, a := range asks {
		b, err := v.screened(a, at)
		if b != nil || err != nil {
			a.reply(b, err)
			continue
		}
		rest = append(rest, a)
	}
	return rest
}

func (v *Voter) screened(a *ask, at time.Time) (b *signalbox.DecidedBlock, err error) {
	if err := a.ctx.Err(); err != nil {
		return nil, err
	}
	if err := v.mayVote(); err != nil {
		return nil, err
	}
	if b, err := known(v.journal, &a.request); b != nil || err != nil {
		return b, err
	}
	alone := signalbox.Block{Cluster: v.journal.trust.Cluster, Epoch: v.epoch, At: at, Requests: []signalbox.Request{a.request}}
	v.journal.View(func(l *handover.Ledger) { err = l.CheckBlock(&alone, at) })
	if err == nil {
		a.raw, err = rpc.EncodeRequest(&a.request)
	}
	return nil, err
}

// putBack has those wait on that did not get in, before who came since.
func (v *Voter) putBack(asks, in []*ask) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var left []*ask
	for _, a := range asks {
		if len(in) > 0 && in[0] == a {
			in = in[1:]
			continue
		}
		left = append(left, a)
	}
	v.asks = append(left, v.asks...)
}

// write signs a block and puts it on the disk.
func (v *Voter) write(block *signalbox.Block) (*signalbox.DecidedBlock, error) {
	if err := v.prepareVoters(block); err != nil {
		return nil, err
	}
	decided, err := v.sign(block)
	if err != nil {
		return nil, err
	}
	if err := v.journal.appendLocked(decided); err != nil {
		return nil, err // its signature must not get out
	}
	return decided, nil
}
