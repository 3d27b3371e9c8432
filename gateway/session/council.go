package session

import (
	"context"
	"sync"

	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// A Council is this gateway as a voter among several. Its methods do not wait.
type Council interface {
	// Receive takes a message of the agreement from another voter's gateway.
	Receive(from string, raw []byte)
	// Standing says what this voter knows of its votes: whether it forgot none,
	// and the newest slot that it voted in.
	Standing() (begun bool, voted uint64)
}

// agreement takes a message between voters.
func (p *Peers) agreement(from string, raw []byte) {
	switch {
	case p.opt.Council == nil:
		p.opt.Refused("agreement-not-here")
	case len(raw) > agreement.MaxMessage:
		p.opt.Refused("agreement-oversized")
	default:
		p.opt.Council.Receive(from, raw)
	}
}

// standing is the first frame that this gateway answers to a peer's stream.
func (p *Peers) standing(offer bool) *wire.Ping {
	out := &wire.Ping{Ping: p.opt.Log.Index()}
	if p.opt.Council != nil {
		out.Begun, out.Voted = p.opt.Council.Standing()
	}
	if offer && p.opt.Offer != nil {
		out.Candidate = p.opt.Offer()
	}
	return out
}

// Offers asks all other gateways how new their logs are, and with which keys they
// would vote; those that do not answer are missing.
func (p *Peers) Offers(ctx context.Context) map[string]*wire.Ping {
	return p.standings(ctx, func(*link) bool { return true }, true)
}

// Standings asks the other voters what they say of themselves; those that do not
// answer are missing.
func (p *Peers) Standings(ctx context.Context) map[string]*wire.Ping {
	return p.standings(ctx, p.votes, false)
}

func (p *Peers) standings(ctx context.Context, which func(*link) bool, offer bool) map[string]*wire.Ping {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]*wire.Ping{}
	for name, l := range p.links {
		if !which(l) {
			continue
		}
		wg.Go(func() {
			ping, err := p.askStanding(ctx, l, offer)
			if err != nil {
				return
			}
			mu.Lock()
			out[name] = ping
			mu.Unlock()
		})
	}
	wg.Wait()
	return out
}

// askStanding opens a stream for its first answer.
func (p *Peers) askStanding(ctx context.Context, l *link, offer bool) (*wire.Ping, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := wire.NewGatewaysClient(l.conn).Exchange(ctx)
	if err != nil {
		return nil, err
	}
	hello := &wire.PeerHello{Gateway: p.opt.Gateway, DataCenter: string(p.opt.DataCenter), Offer: offer}
	if err := stream.Send(&wire.PeerFrame{Kind: &wire.PeerFrame_Hello{Hello: hello}}); err != nil {
		return nil, err
	}
	reply, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return reply.GetPing(), nil
}
