package session

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// AgentsOptions are what the agents' side needs.
type AgentsOptions struct {
	Cluster    string
	DataCenter signalbox.DataCenter
	Gateway    string
	Roots      func() *x509.CertPool
	Handler    Handler
	// Ask has the voters answer an instance's question; each answer goes to
	// deliver.
	Ask func(ctx context.Context, q *wire.Question, deliver func(answer []byte))
	// Voters returns the blocks that changed the voters so far, for an agent that
	// comes. Optional.
	Voters func() [][]byte
	// Lease has the voters grant an instance's lease request. It only queues.
	Lease  func(request []byte)
	Logger zerolog.Logger
	// Refused counts what was refused, by reason. Optional.
	Refused func(reason string)
}

// Agents serves the sessions of this data center's agents.
type Agents struct {
	wire.UnimplementedAgentsServer
	opt AgentsOptions

	mu       sync.Mutex
	count    int
	sessions map[signalbox.Identity]*agentSession
}

type agentSession struct {
	name string
	out  chan *wire.GatewayFrame
	stop context.CancelFunc
	asks chan struct{}

	// handling is held while a frame is handled; after closed none is. It is
	// taken before Agents.mu.
	handling sync.Mutex
	closed   bool
	ended    bool // guarded by Agents.mu: it gets no instance any more
	known    map[signalbox.Identity]signalbox.Instance
}

// NewAgents returns the server; register it with wire.RegisterAgentsServer.
func NewAgents(opt AgentsOptions) *Agents {
	if opt.Refused == nil {
		opt.Refused = func(string) {}
	}
	return &Agents{opt: opt, sessions: map[signalbox.Identity]*agentSession{}}
}

// Send queues a frame for an instance's agent. It reports false when there is
// no session. A session that does not keep up is ended.
func (a *Agents) Send(id signalbox.Identity, frame *wire.GatewayFrame) bool {
	a.mu.Lock()
	s := a.sessions[id]
	a.mu.Unlock()
	if s == nil {
		return false
	}
	return s.send(frame)
}

// SendAll queues a frame for every session, once each.
func (a *Agents) SendAll(frame *wire.GatewayFrame) {
	a.mu.Lock()
	all := map[*agentSession]bool{}
	for _, s := range a.sessions {
		all[s] = true
	}
	a.mu.Unlock()
	for s := range all {
		s.send(frame)
	}
}

func (s *agentSession) send(frame *wire.GatewayFrame) bool {
	select {
	case s.out <- frame:
		return true
	default:
		s.stop()
		return false
	}
}

// VotersFrame tells an agent who votes.
func VotersFrame(chain [][]byte) *wire.GatewayFrame {
	return &wire.GatewayFrame{Kind: &wire.GatewayFrame_Voters{Voters: &wire.VoterChain{Decided: chain}}}
}

// Session implements wire.AgentsServer.
func (a *Agents) Session(stream wire.Agents_SessionServer) error {
	who, err := rpc.PrincipalFrom(stream.Context())
	if err != nil {
		a.opt.Refused("no-certificate")
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if who.Role != rpc.RoleAgent || who.DataCenter != a.opt.DataCenter {
		a.opt.Refused("wrong-role")
		return status.Errorf(codes.PermissionDenied, "%s is no agent of data center %s", who, a.opt.DataCenter)
	}
	ctx, stop := context.WithCancel(stream.Context())
	defer stop()
	s := &agentSession{
		name: who.Name, out: make(chan *wire.GatewayFrame, MaxQueue), stop: stop,
		asks: make(chan struct{}, MaxQuestions), known: map[signalbox.Identity]signalbox.Instance{},
	}
	if !a.enter() {
		a.opt.Refused("too-many")
		return status.Errorf(codes.ResourceExhausted, "more than %d agents", MaxAgents)
	}
	defer a.leave(s)
	s.out <- &wire.GatewayFrame{Kind: &wire.GatewayFrame_Welcome{Welcome: &wire.Welcome{
		Gateway: a.opt.Gateway, Cluster: a.opt.Cluster, DataCenter: string(a.opt.DataCenter),
	}}}
	if a.opt.Voters != nil {
		if chain := a.opt.Voters(); len(chain) > 0 { // before anything that they signed
			s.out <- VotersFrame(chain)
		}
	}
	received := make(chan error, 1)
	go func() { // ends with the stream, which ends with this method
		received <- a.receive(ctx, stream, s, who)
		stop()
	}()
	// Sending may hang on an agent that does not read: this method must not.
	go func() { // ends with the stream
		defer stop()
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-s.out:
				if stream.Send(f) != nil {
					return
				}
			}
		}
	}()
	<-ctx.Done()
	return firstError(ctx, received)
}

func firstError(ctx context.Context, received <-chan error) error {
	select {
	case err := <-received:
		if errors.Is(err, io.EOF) {
			return nil // the agent ended it in an orderly way
		}
		return err
	default:
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (a *Agents) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count >= MaxAgents {
		return false
	}
	a.count++
	return true
}

// leave forgets a session. Its stream may have frames left: a hello among them
// would bring the instance back without a session.
func (a *Agents) leave(s *agentSession) {
	s.handling.Lock()
	s.closed = true
	s.handling.Unlock()
	a.mu.Lock()
	a.count--
	s.ended = true
	var gone []signalbox.Identity
	for id, have := range a.sessions {
		if have == s {
			delete(a.sessions, id)
			gone = append(gone, id)
		}
	}
	a.mu.Unlock()
	for _, id := range gone {
		a.opt.Handler.AgentGone(id)
	}
}

func (a *Agents) receive(ctx context.Context, stream wire.Agents_SessionServer, s *agentSession, who rpc.Principal) error {
	for {
		f, err := stream.Recv()
		if status.Code(err) == codes.ResourceExhausted {
			a.opt.Refused("oversized")
			a.opt.Logger.Warn().Err(err).Str("agent", who.String()).Msg("refused frame")
		}
		if err != nil {
			return err
		}
		if !a.handle(ctx, s, who, f) {
			return status.Error(codes.Canceled, "the session has ended")
		}
	}
}

func (a *Agents) handle(ctx context.Context, s *agentSession, who rpc.Principal, f *wire.AgentFrame) bool {
	s.handling.Lock()
	defer s.handling.Unlock()
	if s.closed {
		return false
	}
	switch k := f.Kind.(type) {
	case *wire.AgentFrame_Hello:
		a.hello(s, who, k.Hello)
	case *wire.AgentFrame_Question:
		a.question(ctx, s, k.Question)
	case *wire.AgentFrame_LeaseRequest:
		a.lease(s, k.LeaseRequest)
	default:
		if id, ok := s.speaksFor(f); ok {
			a.opt.Handler.AgentFrame(id, f)
		} else {
			a.opt.Refused("not-enrolled")
		}
	}
	return true
}

// hello verifies an enrollment and takes the instance into the session.
func (a *Agents) hello(s *agentSession, who rpc.Principal, h *wire.Hello) {
	in, by, err := rpc.OpenEnrollment(a.opt.Cluster, a.opt.Roots(), h.GetEnrollment())
	switch {
	case err != nil:
	case by != who:
		err = fmt.Errorf("%w: the enrollment was made by %s", signalbox.ErrUntrusted, by)
	case len(h.GetAddress()) > signalbox.MaxAddress || len(h.GetVersion()) > signalbox.MaxName || len(h.GetDriver()) > signalbox.MaxName:
		err = fmt.Errorf("%w: address, version or driver is too long", signalbox.ErrInvalid)
	case len(s.known) >= MaxInstances && s.known[in.Identity].Identity == "":
		err = fmt.Errorf("%w: one agent speaks for at most %d instances", signalbox.ErrRefused, MaxInstances)
	default:
		err = a.take(s, in, h)
	}
	if err == nil {
		return
	}
	a.opt.Refused("enrollment")
	a.opt.Logger.Warn().Err(err).Str("agent", who.String()).Str("instance", in.Name).Msg("refused instance")
	s.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Refusal{Refusal: &wire.Refusal{
		Identity: rpc.IdentityToBytes(in.Identity), Problem: err.Error(), NewKey: errors.Is(err, ErrRolledBack),
	}}})
}

// take makes the session the instance's, unless the handler refuses it: what
// the handler sends while it says hello has to arrive.
func (a *Agents) take(s *agentSession, in signalbox.Instance, h *wire.Hello) error {
	a.mu.Lock()
	before := a.sessions[in.Identity]
	a.sessions[in.Identity] = s
	a.mu.Unlock()
	s.known[in.Identity] = in
	err := a.opt.Handler.AgentHello(in, h)
	if err == nil {
		if before != nil && before != s {
			before.stop() // the agent connected again before the old stream broke
		}
		return nil
	}
	delete(s.known, in.Identity)
	if a.giveBack(s, before, in.Identity) {
		a.opt.Handler.AgentGone(in.Identity)
	}
	return err
}

// giveBack undoes take: an old copy of an agent does not take the place of the
// newer one. It reports whether nobody speaks for the instance any more who did
// before.
func (a *Agents) giveBack(s, before *agentSession, id signalbox.Identity) (gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sessions[id] != s {
		return false
	}
	delete(a.sessions, id)
	if before == nil {
		return false
	}
	if before != s && !before.ended {
		a.sessions[id] = before
		return false
	}
	return true
}

// speaksFor returns the instance that a frame is of, when it is one of the
// session's. Statements carry their own proof, so any of the session's will do.
func (s *agentSession) speaksFor(f *wire.AgentFrame) (signalbox.Identity, bool) {
	var raw []byte
	switch k := f.Kind.(type) {
	case *wire.AgentFrame_Status:
		raw = k.Status.GetIdentity()
	case *wire.AgentFrame_Want:
		raw = k.Want.GetIdentity()
	default:
		for id := range s.known {
			return id, true
		}
		return "", false
	}
	id, err := rpc.IdentityFromBytes(raw)
	if err != nil {
		return "", false
	}
	_, ok := s.known[id]
	return id, ok
}

// answerWait bounds how long voters may take to answer.
const answerWait = 2 * time.Second

func (a *Agents) question(ctx context.Context, s *agentSession, q *wire.Question) {
	id, err := rpc.IdentityFromBytes(q.GetIdentity())
	if _, ok := s.known[id]; err != nil || !ok || len(q.GetNonce()) != rpc.NonceSize {
		a.opt.Refused("question")
		return
	}
	select {
	case s.asks <- struct{}{}:
	default:
		return // it asks again
	}
	go func() { // ends after answerWait at the latest
		defer func() { <-s.asks }()
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		a.opt.Ask(ctx, q, func(answer []byte) {
			s.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Answer{Answer: answer}})
		})
	}()
}
