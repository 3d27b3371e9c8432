package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// A Peer is another gateway.
type Peer struct {
	Name       string
	DataCenter signalbox.DataCenter
	Address    string
	Voter      bool
}

// PeersOptions are what the gateways' side needs.
type PeersOptions struct {
	Cluster    string
	DataCenter signalbox.DataCenter
	Gateway    string
	Peers      []Peer
	Credential credentials.TransportCredentials
	Handler    Handler
	Log        Log
	// ProposeWait bounds how long agreeing on a block may take; 0: ProposeWait.
	ProposeWait time.Duration
	// Voter says that this gateway votes. Votes, when it is not nil, says it of every
	// gateway and in its place: voters change.
	Voter bool
	Votes func(gateway string) bool
	// Offer is a key that this gateway would vote with after a change of voters.
	// Optional.
	Offer func() *wire.VoterKey
	// Council votes together with other voters; nil where this gateway is no
	// voter, or the only one.
	Council Council
	// Linked is told when the stream to a peer begins and when it ended, or could not
	// be made, as often as that happens. Optional; it must not wait.
	Linked func(gateway string, up bool)
	// Lessor grants leases here; nil where this gateway is no voter. Leased is
	// told what voters said to an instance's request; it must not block.
	Lessor Lessor
	Leased func(id signalbox.Identity, reply *wire.LeaseReply)
	Logger zerolog.Logger
	// Refused counts what was refused, by reason. Optional.
	Refused func(reason string)
}

// Peers keeps a stream to every other gateway, and serves theirs.
type Peers struct {
	wire.UnimplementedGatewaysServer
	opt   PeersOptions
	links map[string]*link
	// working holds who works on leases; see MaxLeases.
	working chan struct{}
	// installing is held while a snapshot is received.
	installing sync.Mutex
}

type link struct {
	peer Peer
	conn *grpc.ClientConn

	mu  sync.Mutex
	out chan *wire.PeerFrame // nil while there is no stream
	end context.CancelFunc   // of the stream
}

// How soon a peer that does not answer counts as out of reach, and how soon it
// is tried again.
const (
	keepaliveTime = 2 * time.Second
	keepaliveWait = 2 * time.Second
	retryFirst    = 50 * time.Millisecond
	// retryMost is short, so that a gateway that was started again takes part in
	// a hold that is under way. (ClientConn.ResetConnectBackoff would do it at
	// once; in gRPC 1.85 it reads a map while others write it.)
	retryMost   = 300 * time.Millisecond
	followBatch = 64
)

// ClientOptions are the gRPC options of connections between Signalbox's
// processes.
func ClientOptions(creds credentials.TransportCredentials) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: keepaliveWait, PermitWithoutStream: false}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(rpc.MaxMessage), grpc.MaxCallSendMsgSize(rpc.MaxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: retryFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: retryMost},
			MinConnectTimeout: 2 * time.Second,
		}),
	}
}

// NewPeers returns the peers; register it with wire.RegisterGatewaysServer and
// Run it.
func NewPeers(opt PeersOptions) (*Peers, error) {
	if opt.ProposeWait == 0 {
		opt.ProposeWait = ProposeWait
	}
	if opt.Refused == nil {
		opt.Refused = func(string) {}
	}
	if opt.Linked == nil {
		opt.Linked = func(string, bool) {}
	}
	p := &Peers{opt: opt, links: map[string]*link{}, working: make(chan struct{}, MaxLeases)}
	for _, peer := range opt.Peers {
		conn, err := grpc.NewClient("passthrough:///"+peer.Address, ClientOptions(opt.Credential)...)
		if err != nil {
			return nil, fmt.Errorf("connect to gateway %s: %w", peer.Name, err)
		}
		p.links[peer.Name] = &link{peer: peer, conn: conn}
	}
	return p, nil
}

// votes reports whether a peer is a voter now.
func (p *Peers) votes(l *link) bool {
	if p.opt.Votes != nil {
		return p.opt.Votes(l.peer.Name)
	}
	return l.peer.Voter
}

// selfVotes reports whether this gateway is a voter now.
func (p *Peers) selfVotes() bool {
	if p.opt.Votes != nil {
		return p.opt.Votes(p.opt.Gateway)
	}
	return p.opt.Voter
}

// Run keeps the streams until ctx ends.
func (p *Peers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range p.links {
		wg.Go(func() { p.retry(ctx, l, p.exchange) })
		wg.Go(func() { p.retry(ctx, l, p.follow) })
	}
	wg.Wait()
	for _, l := range p.links {
		_ = l.conn.Close()
	}
	return nil
}

func (p *Peers) retry(ctx context.Context, l *link, once func(context.Context, *link) error) {
	wait := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := once(ctx, l)
		if time.Since(began) > retryMost {
			wait = retryFirst
		}
		p.opt.Logger.Debug().Err(err).Str("peer", l.peer.Name).Msg("stream ended")
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(wait*2, retryMost)
	}
}

// exchange runs one outgoing stream: hello, everything the peer has to know,
// then what is queued.
func (p *Peers) exchange(ctx context.Context, l *link) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer p.opt.Linked(l.peer.Name, false)
	stream, err := wire.NewGatewaysClient(l.conn).Exchange(ctx)
	if err != nil {
		return err
	}
	hello := &wire.PeerHello{Gateway: p.opt.Gateway, DataCenter: string(p.opt.DataCenter), LogIndex: p.opt.Log.Index()}
	if err := stream.Send(&wire.PeerFrame{Kind: &wire.PeerFrame_Hello{Hello: hello}}); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil { // the peer accepted us
		return err
	}
	out := make(chan *wire.PeerFrame, MaxQueue)
	l.set(out, cancel)
	defer p.opt.Handler.PeerDown(l.peer.Name)
	defer l.set(nil, nil)
	p.opt.Linked(l.peer.Name, true)
	for _, f := range p.opt.Handler.PeerUp(l.peer.Name) {
		if err := stream.Send(f); err != nil {
			return err
		}
	}
	go func() { // ends with the stream
		for {
			if _, err := stream.Recv(); err != nil {
				cancel()
				return
			}
		}
	}()
	ping := time.NewTicker(keepaliveTime)
	defer ping.Stop()
	for {
		var f *wire.PeerFrame
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f = <-out:
		case <-ping.C:
			f = &wire.PeerFrame{Kind: &wire.PeerFrame_Ping{Ping: &wire.Ping{}}}
		}
		if err := stream.Send(f); err != nil {
			return err
		}
	}
}

func (l *link) set(out chan *wire.PeerFrame, end context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out, l.end = out, end
}

// Broadcast queues a frame for every peer that can be reached.
func (p *Peers) Broadcast(f *wire.PeerFrame) {
	for _, l := range p.links {
		p.queue(l, f)
	}
}

// Tell queues a frame for those of the named peers that can be reached.
func (p *Peers) Tell(gateways []string, f *wire.PeerFrame) {
	for _, name := range gateways {
		if l := p.links[name]; l != nil {
			p.queue(l, f)
		}
	}
}

func (p *Peers) queue(l *link, f *wire.PeerFrame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return
	}
	select {
	case l.out <- f:
	default: // it starts over with everything it needs
		p.opt.Logger.Warn().Str("peer", l.peer.Name).Msg("the gateway does not keep up: its stream ends")
		l.end() // sending may hang
		l.out = nil
	}
}

// Exchange implements wire.GatewaysServer.
func (p *Peers) Exchange(stream wire.Gateways_ExchangeServer) error {
	l, err := p.peerOf(stream.Context())
	if err != nil {
		return rpc.ToStatus(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetHello().GetGateway() != l.peer.Name {
		p.opt.Refused("wrong-name")
		p.opt.Logger.Warn().Str("peer", l.peer.Name).Str("claims", clip(first.GetHello().GetGateway())).Msg("refused gateway")
		return rpc.ToStatus(fmt.Errorf("%w: hello of %q from %s", signalbox.ErrUntrusted, clip(first.GetHello().GetGateway()), l.peer.Name))
	}
	// The first reply says how new our log is, and what a voter knows of its votes.
	if err := stream.Send(&wire.PeerFrame{Kind: &wire.PeerFrame_Ping{Ping: p.standing(first.GetHello().GetOffer())}}); err != nil {
		return err
	}
	for {
		f, err := stream.Recv()
		if status.Code(err) == codes.ResourceExhausted {
			p.opt.Refused("oversized")
			p.opt.Logger.Warn().Err(err).Str("peer", l.peer.Name).Msg("refused frame")
		}
		if err != nil {
			return err
		}
		if !p.received(l.peer.Name, f) {
			p.opt.Handler.PeerFrame(l.peer.Name, f)
		}
	}
}

// peerOf returns the configured peer behind a call.
func (p *Peers) peerOf(ctx context.Context) (*link, error) {
	who, err := rpc.PrincipalFrom(ctx)
	if err != nil {
		p.opt.Refused("no-certificate")
		return nil, err
	}
	l := p.links[who.Name]
	if who.Role != rpc.RoleGateway || l == nil || l.peer.DataCenter != who.DataCenter {
		p.opt.Refused("wrong-role")
		p.opt.Logger.Warn().Str("peer", who.String()).Msg("refused gateway")
		return nil, fmt.Errorf("%w: %s is no gateway of the configuration", signalbox.ErrUntrusted, who)
	}
	return l, nil
}

// clip keeps what somebody else says short enough to be repeated.
func clip(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), signalbox.MaxName)], "?")
}
