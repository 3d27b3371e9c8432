package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// follow takes decided blocks from a peer, as long as the stream lasts.
func (p *Peers) follow(ctx context.Context, l *link) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := wire.NewGatewaysClient(l.conn).Follow(ctx, &wire.FollowRequest{From: p.opt.Log.Index() + 1})
	if err != nil {
		return err
	}
	for {
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		if chunk := reply.GetSnapshot(); chunk != nil {
			if err := p.takeSnapshot(l, stream, cancel, chunk); err != nil {
				return err
			}
		}
		if len(reply.GetDecided()) == 0 {
			continue
		}
		if err := p.opt.Log.Append(reply.GetDecided()); err != nil {
			p.opt.Logger.Warn().Err(err).Str("peer", l.peer.Name).Msg("refused block")
			return err
		}
	}
}

// Follow implements wire.GatewaysServer.
func (p *Peers) Follow(req *wire.FollowRequest, stream wire.Gateways_FollowServer) error {
	if _, err := p.peerOf(stream.Context()); err != nil {
		return rpc.ToStatus(err)
	}
	next := max(req.GetFrom(), 1)
	for {
		changed := p.opt.Log.Changed()
		if next < p.opt.Log.First() {
			index, err := p.sendSnapshot(stream, next)
			if err != nil {
				return err
			}
			next = index + 1
		}
		blocks, err := p.opt.Log.Blocks(next, followBatch)
		if err != nil {
			return rpc.ToStatus(err)
		}
		for _, b := range blocks {
			if err := stream.Send(&wire.FollowReply{Decided: b, Newest: p.opt.Log.Index()}); err != nil {
				return err
			}
			next++
		}
		if len(blocks) == followBatch {
			continue
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// Newest asks every peer for its newest log index; a peer that does not answer
// is missing from the map.
func (p *Peers) Newest(ctx context.Context) map[string]uint64 {
	out := map[string]uint64{}
	for name, ping := range p.standings(ctx, func(*link) bool { return true }, false) {
		out[name] = ping.GetPing()
	}
	return out
}

// ProposeWait bounds how long a proposal may take, where PeersOptions says nothing
// else.
const ProposeWait = 5 * time.Second

// Propose implements wire.GatewaysServer.
func (p *Peers) Propose(ctx context.Context, req *wire.ProposeRequest) (*wire.ProposeReply, error) {
	if _, err := p.peerOf(ctx); err != nil {
		return nil, rpc.ToStatus(err)
	}
	r, err := rpc.DecodeRequest(req.GetRequest())
	if err != nil {
		return nil, rpc.ToStatus(err)
	}
	b, err := p.opt.Log.Propose(ctx, *r)
	if err != nil {
		return nil, rpc.ToStatus(err)
	}
	return &wire.ProposeReply{Decided: b.Raw}, nil
}

// ProposeTo has a request decided by a voter, this gateway or a peer. What was
// decided is in the own log when it returns.
func (p *Peers) ProposeTo(ctx context.Context, r signalbox.Request) error {
	ctx, cancel := context.WithTimeout(ctx, p.opt.ProposeWait)
	defer cancel()
	if p.selfVotes() {
		_, err := p.opt.Log.Propose(ctx, r)
		return err
	}
	raw, err := rpc.EncodeRequest(&r)
	if err != nil {
		return err
	}
	decided, err := p.proposeToVoters(ctx, raw)
	if err != nil {
		return err
	}
	return p.catchUp(ctx, decided)
}

// proposeNext is after what time another voter is asked as well: equal requests
// are decided once.
const proposeNext = 500 * time.Millisecond

// proposeToVoters asks one voter after the other, without waiting long for any,
// until one answers; that a voter cannot is no answer.
func (p *Peers) proposeToVoters(ctx context.Context, raw []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the calls that are still under way
	type answer struct {
		decided []byte
		err     error
	}
	var voters []*link
	for _, l := range p.links {
		if p.votes(l) {
			voters = append(voters, l)
		}
	}
	answers := make(chan answer, len(voters))
	last := fmt.Errorf("%w: no voter is configured", signalbox.ErrUnavailable)
	for asked, answered := 0, 0; answered < len(voters); {
		if asked < len(voters) {
			l := voters[asked]
			asked++
			go func() { // ends with ctx
				reply, err := wire.NewGatewaysClient(l.conn).Propose(ctx, &wire.ProposeRequest{Request: raw})
				if err != nil {
					err = fmt.Errorf("voter %s: %w", l.peer.Name, rpc.FromStatus(err))
				}
				answers <- answer{reply.GetDecided(), err}
			}()
		}
		next := time.NewTimer(proposeNext)
		select {
		case <-ctx.Done():
			next.Stop()
			return nil, fmt.Errorf("%w: %w", last, ctx.Err())
		case a := <-answers:
			answered++
			if a.err == nil || !errors.Is(a.err, signalbox.ErrUnavailable) {
				next.Stop()
				return a.decided, a.err
			}
			last = a.err
		case <-next.C:
		}
		next.Stop()
	}
	return nil, last
}

// catchUp takes the decided block in, waiting for the blocks before it.
func (p *Peers) catchUp(ctx context.Context, raw []byte) error {
	for {
		changed := p.opt.Log.Changed()
		err := p.opt.Log.Append(raw)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-changed:
		}
	}
}

// Ask implements wire.GatewaysServer.
func (p *Peers) Ask(ctx context.Context, q *wire.Question) (*wire.AskReply, error) {
	if _, err := p.peerOf(ctx); err != nil {
		return nil, rpc.ToStatus(err)
	}
	answer, err := p.answer(q)
	if err != nil {
		return nil, rpc.ToStatus(err)
	}
	return &wire.AskReply{Answer: answer}, nil
}

func (p *Peers) answer(q *wire.Question) ([]byte, error) {
	id, err := rpc.IdentityFromBytes(q.GetIdentity())
	if err != nil {
		return nil, err
	}
	return p.opt.Log.Answer(signalbox.Service(q.GetService()), id, q.GetNonce())
}

// AskVoters has every voter answer a question.
func (p *Peers) AskVoters(ctx context.Context, q *wire.Question, deliver func([]byte)) {
	var wg sync.WaitGroup
	if p.selfVotes() {
		if answer, err := p.answer(q); err == nil {
			deliver(answer)
		}
	}
	for _, l := range p.links {
		if !p.votes(l) {
			continue
		}
		wg.Go(func() {
			reply, err := wire.NewGatewaysClient(l.conn).Ask(ctx, q)
			if err != nil {
				p.opt.Logger.Debug().Err(err).Str("voter", l.peer.Name).Msg("voter did not answer")
				return
			}
			deliver(reply.GetAnswer())
		})
	}
	wg.Wait()
}
