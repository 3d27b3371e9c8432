package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

const (
	// reconnectMin and reconnectMax bound the wait before a session is tried
	// again, with jitter.
	reconnectMin = 50 * time.Millisecond
	reconnectMax = 2 * time.Second
	// openWithin is how long a session may take to open before the reason is
	// logged and it is tried anew.
	openWithin = 5 * time.Second
	// silence is how long a gateway that has pinged may say nothing before the
	// session is given up; gateways ping every second.
	silence = 3 * time.Second
	// maxQueue is how many frames wait for a gateway that does not read.
	maxQueue = 1024
	// flushTimeout bounds the wait for a gateway to have read everything at the
	// end.
	flushTimeout = 500 * time.Millisecond
)

// session keeps a connection to one gateway as long as the agent runs.
type session struct {
	agent   *Agent
	address string
	conn    *grpc.ClientConn
	log     zerolog.Logger
	up      atomic.Bool
	out     chan outgoing

	mu     sync.Mutex
	cancel context.CancelFunc // of the stream, nil without one
}

// outgoing is a frame to send, or the wish to be told that all before are sent.
type outgoing struct {
	frame *wire.AgentFrame
	sent  chan struct{}
}

func newSession(a *Agent, address string) (*session, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(a.opts.Keeper.Client(rpc.RoleGateway))),
		grpc.WithContextDialer(dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(rpc.MaxMessage), grpc.MaxCallSendMsgSize(rpc.MaxMessage)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return &session{
		agent: a, address: address, conn: conn, out: make(chan outgoing, maxQueue),
		log: a.opts.Log.With().Str("gateway", address).Logger(),
	}, nil
}

// run keeps a stream to the gateway until ctx ends.
func (s *session) run(ctx context.Context) {
	defer s.conn.Close()
	wait := reconnectMin
	for ctx.Err() == nil {
		began := time.Now()
		err := s.talk(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > reconnectMax {
			wait = reconnectMin
		}
		s.log.Warn().Err(err).Str("event", "disconnected").Dur("retry_in", wait).Msg("no session with the gateway")
		timer := time.NewTimer(time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64())))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, reconnectMax)
	}
}

// talk holds one stream until it ends.
func (s *session) talk(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The wait is cut short now and then, so that somebody hears why it lasts.
	opening := time.AfterFunc(openWithin, cancel)
	stream, err := wire.NewAgentsClient(s.conn).Session(ctx, grpc.WaitForReady(true))
	opening.Stop()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	for _, r := range s.agent.runners {
		hello, err := r.hello(time.Now())
		if err != nil {
			return err
		}
		if err := stream.Send(hello); err != nil {
			return fmt.Errorf("send hello: %w", err)
		}
	}
	s.begin(cancel)
	defer s.end()
	for _, r := range s.agent.runners {
		r.post(ctx, connected{gateway: s.address})
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() {
		if err := s.write(ctx, stream); err != nil {
			cancel()
		}
	})
	return s.read(ctx, cancel, stream)
}

// begin drops what was queued for an earlier stream and takes frames from now on.
func (s *session) begin(cancel context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	for len(s.out) > 0 {
		s.drop(<-s.out)
	}
	s.up.Store(true)
	s.agent.metrics.sessions.WithLabelValues(s.address).Set(1)
	s.log.Info().Str("event", "connected").Msg("session with the gateway")
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up.Store(false)
	s.cancel = nil
	s.agent.metrics.sessions.WithLabelValues(s.address).Set(0)
}

func (s *session) drop(o outgoing) {
	if o.sent != nil {
		close(o.sent)
	}
}

// kick ends the stream; a new one follows.
func (s *session) kick(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.log.Info().Str("event", "kicked").Str("reason", why).Msg("opening the session anew")
		s.cancel()
	}
}

// send queues a frame and reports whether the gateway is connected. It never
// blocks: a gateway that does not read loses its session, and is told everything
// again in the next.
func (s *session) send(frame *wire.AgentFrame) bool {
	if !s.up.Load() {
		return false
	}
	select {
	case s.out <- outgoing{frame: frame}:
		return true
	default:
		s.kick("the gateway does not read")
		return false
	}
}

// flush waits until the gateway has been sent everything that was queued.
func (s *session) flush(ctx context.Context) {
	if !s.up.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	sent := make(chan struct{})
	select {
	case s.out <- outgoing{sent: sent}:
	case <-ctx.Done():
		return
	}
	select {
	case <-sent:
	case <-ctx.Done():
	}
}

func (s *session) write(ctx context.Context, stream wire.Agents_SessionClient) error {
	for {
		select {
		case o := <-s.out:
			if o.frame == nil {
				return s.finish(ctx, stream, o)
			}
			if err := stream.Send(o.frame); err != nil {
				return err // read sees why
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// finish ends the sending side; the gateway ends the stream when it has read all.
func (s *session) finish(ctx context.Context, stream wire.Agents_SessionClient, o outgoing) error {
	err := stream.CloseSend()
	select {
	case <-stream.Context().Done():
	case <-ctx.Done():
	case <-time.After(flushTimeout):
	}
	close(o.sent)
	return err
}
