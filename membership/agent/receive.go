package agent

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// read takes what the gateway sends until the stream ends or falls silent.
func (s *session) read(ctx context.Context, cancel context.CancelFunc, stream wire.Agents_SessionClient) error {
	var silent *time.Timer
	for {
		frame, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("read session: %w", err)
		}
		if _, ping := frame.GetKind().(*wire.GatewayFrame_Ping); ping && silent == nil {
			silent = time.AfterFunc(silence, cancel)
			defer silent.Stop()
		}
		if silent != nil {
			silent.Reset(silence)
		}
		s.receive(ctx, frame)
	}
}

// receive hands one frame to the instances it is about. Nothing in it is
// believed here; the core verifies.
func (s *session) receive(ctx context.Context, frame *wire.GatewayFrame) {
	switch k := frame.GetKind().(type) {
	case *wire.GatewayFrame_Welcome:
		s.log.Info().Str("event", "welcome").Str("name", k.Welcome.GetGateway()).Msg("welcomed")
	case *wire.GatewayFrame_Order:
		s.toService(ctx, k.Order.GetService(), ordered{gateway: s.address, kind: k.Order.GetKind(), decided: k.Order.GetDecided()})
	case *wire.GatewayFrame_Grant:
		s.toService(ctx, k.Grant.GetService(), granted{gateway: s.address,
			certificate: k.Grant.GetCertificate(), admission: k.Grant.GetAdmission(), serving: k.Grant.GetServing(),
		})
	case *wire.GatewayFrame_Voters:
		s.toldVoters(ctx, k.Voters)
	case *wire.GatewayFrame_Prepare:
		s.toService(ctx, k.Prepare.GetService(), preparing{prepare: k.Prepare})
	case *wire.GatewayFrame_Answer:
		s.toIdentity(ctx, answeredIdentity(k.Answer), answered{raw: k.Answer})
	case *wire.GatewayFrame_Ping:
		s.send(&wire.AgentFrame{Kind: &wire.AgentFrame_Pong{Pong: &wire.Pong{Ping: k.Ping.GetPing()}}})
		for _, r := range s.agent.runners {
			r.post(ctx, pinged{gateway: s.address, ping: k.Ping.GetPing()})
		}
	case *wire.GatewayFrame_Refusal:
		problem := k.Refusal.GetProblem()
		if len(problem) > maxProblem {
			problem = problem[:maxProblem]
		}
		s.toIdentity(ctx, k.Refusal.GetIdentity(), disowned{gateway: s.address, problem: problem, newKey: k.Refusal.GetNewKey()})
	case *wire.GatewayFrame_AttestedStart:
		if m, err := rpc.InspectMandate(k.AttestedStart); err == nil {
			s.toIdentity(ctx, rpc.IdentityToBytes(signalbox.Identity(m.ID)), startAttested{raw: k.AttestedStart})
		}
	case *wire.GatewayFrame_LeaseGrant:
		s.toIdentity(ctx, k.LeaseGrant.GetIdentity(), leaseReplied{reply: k.LeaseGrant})
	default:
		s.agent.metrics.rejected.WithLabelValues("").Inc()
		s.log.Warn().Str("event", "unknown_frame").Msg("the gateway sent a frame that this agent does not know")
	}
}

func (s *session) toService(ctx context.Context, service string, ev event) {
	for _, r := range s.agent.runners {
		if string(r.in.Service) == service {
			r.post(ctx, ev)
		}
	}
}

func (s *session) toIdentity(ctx context.Context, id []byte, ev event) {
	want, err := rpc.IdentityFromBytes(id)
	if err != nil {
		s.agent.metrics.rejected.WithLabelValues("").Inc()
		return
	}
	for _, r := range s.agent.runners {
		if r.identity() == want {
			r.post(ctx, ev)
		}
	}
}

func (r *runner) identity() signalbox.Identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.self.instance.Identity
}

// answeredIdentity reads, unverified, whom an answer is for.
func answeredIdentity(raw []byte) []byte {
	var env wire.Envelope
	var a wire.Answer
	if len(raw) > rpc.MaxEnrollment || proto.Unmarshal(raw, &env) != nil || proto.Unmarshal(env.GetPayload(), &a) != nil {
		return nil
	}
	return a.GetIdentity()
}
