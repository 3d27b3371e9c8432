package server

import (
	"sync/atomic"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// filter keeps statements from the coordinator that came directly.
type filter struct {
	session.Handler
	drop func(signalbox.Statement) bool
}

func (f filter) AgentFrame(id signalbox.Identity, frame *wire.AgentFrame) {
	if k, ok := frame.GetKind().(*wire.AgentFrame_Statement); ok {
		if st, err := rpc.InspectStatement(k.Statement); err == nil && f.drop(st) {
			return
		}
	}
	f.Handler.AgentFrame(id, frame)
}

func (f filter) PeerFrame(gateway string, frame *wire.PeerFrame) {
	if k, ok := frame.GetKind().(*wire.PeerFrame_Statement); ok {
		if st, err := rpc.InspectStatement(k.Statement); err == nil && f.drop(st) {
			return
		}
	}
	f.Handler.PeerFrame(gateway, frame)
}

// dropping makes every gateway deaf to direct statements of a kind while on.
func dropping(on *atomic.Bool, kinds ...signalbox.StatementKind) func(*site) {
	return func(s *site) {
		s.wrap = func(_ string, h session.Handler) session.Handler {
			return filter{h, func(st signalbox.Statement) bool {
				for _, k := range kinds {
					if st.Kind == k && on.Load() {
						return true
					}
				}
				return false
			}}
		}
	}
}

// TestStatementsByGossip: with the direct way cut, orders still reach the
// agents and what they sign comes by gossip (section 5).
func TestStatementsByGossip(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	cut.Store(true)
	s := newSite(t, dropping(&cut, signalbox.SaysDrained, signalbox.SaysAck, signalbox.SaysRefuse, signalbox.SaysLeave, signalbox.SaysServing)).run()
	o := s.order(west)
	s.begin("east-1", o)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if cert := s.verify(h); len(cert.Evidence) != 2 {
		t.Fatalf("certificate with %d pieces of evidence", len(cert.Evidence))
	}
	s.awaitServing(west, 2)
	s.converged()
}

// TestStatementsDirectly: with gossip cut, what agents sign comes directly.
func TestStatementsDirectly(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	for _, g := range s.gateways {
		g.closePools()
	}
	o := s.order(west)
	s.begin("west-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
	s.converged()
}
