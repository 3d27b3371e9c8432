package server

import (
	"sync/atomic"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestRestartInEachPhase: a gateway that is stopped and started again with the
// same state in any phase, the voter or a follower, leaves the handover its id
// and one outcome: it goes on where it was (section 3, resumed by itself or
// another).
func TestRestartInEachPhase(t *testing.T) {
	for _, phase := range []string{"hold", "drain", "ack", "promote"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			var deaf atomic.Bool
			s := newSite(t, func(s *site) { s.noGossip = true }, dropping(&deaf, signalbox.SaysAck)).run()
			e := s.startProxy("e1", "east-2")
			w := s.startProxy("w1", "west-1")
			e.released(1, east)
			w.released(1, east)
			s.knowProxies("east-2", e.id, w.id)
			freeze := map[string]func(bool){
				"hold":    func(on bool) { w.set(func(p *proxy) { p.late = on; p.thaw() }) },
				"drain":   func(on bool) { s.agents["e1"].in.set(func(i *instance) { i.inFlight = one(on) }) },
				"ack":     deaf.Store,
				"promote": func(on bool) { s.refusePromotions(west, on) },
			}[phase]
			there := s.order(west)
			freeze(true)
			s.begin("east-2", there)
			s.reached(phase, there.ID, west)
			s.restart("east-1", "west-2") // the voter and a follower
			s.reached(phase, there.ID, west)
			freeze(false)
			s.wantOutcome(there.ID, api.OutcomeForward, 2)
			s.awaitServing(west, 2)
			e.released(2, west)
			w.released(2, west)
			s.converged()
		})
	}
}

func one(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

// thaw answers what was left when the proxy is not late any more.
func (p *proxy) thaw() {
	if !p.late {
		p.answerAll()
	}
}

func (s *site) refusePromotions(dc signalbox.DataCenter, on bool) {
	for _, a := range s.agents {
		if a.in.dc == dc {
			a.in.set(func(i *instance) { i.refuses = on })
		}
	}
}

// reached waits until a handover is in a phase, or past it, at every gateway of
// the old master.
func (s *site) reached(phase, id string, to signalbox.DataCenter) {
	s.t.Helper()
	for _, name := range []string{"east-1", "east-2"} {
		eventually(s.t, name+" to be in phase "+phase, func() bool {
			h, err := s.gateways[name].coordinator.Handover(s.t.Context(), id)
			if err != nil {
				return false
			}
			switch phase {
			case "hold":
				return h.State == api.StateHolding || h.State == api.StateDraining
			case "drain":
				return h.State == api.StateDraining && s.agents["e1"].in.draining()
			case "ack":
				return h.State == api.StateSealing
			}
			return h.State == api.StatePromoting
		})
	}
}

// TestAllRestartMidHold: all gateways are stopped during a hold and started
// again; the requests are held meanwhile, and the handover ends under its id.
func TestAllRestartMidHold(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, _ := withProxies(s)
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	s.begin("west-1", o)
	e.routed(2)
	s.reached("drain", o.ID, west)
	s.restart(gatewayNames...)
	if !e.held(2) {
		t.Error("orders@2 was released without a certificate")
	}
	s.reached("drain", o.ID, west)
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 0 })
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
	again := s.startProxy("e2", "east-1")
	again.released(2, west)
	s.converged()
}
