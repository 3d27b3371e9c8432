package server

import (
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestDrainNeverEnds: an instance that hangs in its drain refuses when the
// budget has run out; its refuse certifies the fallback, and what was parked
// goes to the old master (rules 4, 5 and 7).
func TestDrainNeverEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, w := withProxies(s)
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	o.HoldBudget = 3 * time.Second // e2 drains meanwhile, also on a busy machine
	s.begin("west-1", o)
	h := s.wantOutcome(o.ID, api.OutcomeFallback, 3)
	if cert := s.verify(h); !cert.IsFallback() || len(cert.Evidence) != 1 {
		t.Fatalf("certificate with %d pieces of evidence", len(cert.Evidence))
	}
	if !strings.Contains(h.GivenUp, "e1") {
		t.Errorf("given up %q: want e1 named", h.GivenUp)
	}
	for _, p := range []*proxy{e, w} {
		p.released(2, east)
		p.released(3, east)
	}
	s.awaitServing(east, 3)
	s.converged()
}

// TestGiveUpOnRequest: a person gives an open handover up.
func TestGiveUpOnRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	s.begin("east-1", o)
	eventually(t, "e1 to drain", s.agents["e1"].in.draining)
	s.knows("west-2", o.ID)
	if _, err := s.gateways["west-2"].coordinator.GiveUp(t.Context(), o.ID, "operator/anna", "wrong day"); err != nil {
		t.Fatal(err)
	}
	h := s.wantOutcome(o.ID, api.OutcomeFallback, 3)
	if !strings.Contains(h.GivenUp, "anna") {
		t.Errorf("given up %q", h.GivenUp)
	}
	s.awaitServing(east, 3)
}

// TestDiesBetweenDrainAndAck: an instance's agent that drained and is gone for
// good has the way back decided; the superseding handover is certified without
// it ever having refused (rules 1 and 5).
func TestDiesBetweenDrainAndAck(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, _ := withProxies(s)
	s.agents["e2"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	s.begin("east-1", o)
	e1 := s.agents["e1"]
	eventually(t, "e1 to be drained", func() bool { _, serves := e1.in.serves(); return !serves })
	eventually(t, "e1's drained to be known", func() bool {
		h, err := s.gateways["east-1"].coordinator.Handover(t.Context(), o.ID)
		return err == nil && ackRow(&h, "e1").DrainedMS != nil
	})
	e1.kill()
	s.agents["e2"].in.set(func(i *instance) { i.inFlight = 0 })
	back := s.finished("east-1", o.ID+"-back")
	if back.Outcome != api.OutcomeForward || back.CertifiedTerm != 4 || back.Supersedes != o.ID {
		t.Fatalf("the way back: %s, term %d, supersedes %q", back.Outcome, back.CertifiedTerm, back.Supersedes)
	}
	for _, name := range gatewayNames {
		if h := s.finished(name, o.ID); h.Outcome != api.OutcomeSuperseded || h.SupersededBy != o.ID+"-back" || h.HoldMS == nil {
			t.Errorf("%s: outcome %s, superseded by %q, held %v ms", name, h.Outcome, h.SupersededBy, h.HoldMS)
		}
	}
	e.released(2, east)
	e.released(4, east)
	eventually(t, "e2 to serve again", func() bool { term, serves := s.agents["e2"].in.serves(); return serves && term == 4 })
	s.startAgent("e1") // a new agent of the same instance
	s.awaitServing(east, 4)
	s.converged()
}

func ackRow(h *api.Handover, name string) (row api.Ack) {
	for _, a := range h.Acks {
		if a.Instance == name {
			row = a
		}
	}
	return row
}

// TestComesBackWithinBudget: an agent that dies after it drained and is back in
// time costs nothing but that time.
func TestComesBackWithinBudget(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	s.agents["e2"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	s.begin("east-1", o)
	e1 := s.agents["e1"]
	eventually(t, "e1 to be drained", func() bool { _, serves := e1.in.serves(); return !serves })
	e1.kill()
	s.agents["e2"].in.set(func(i *instance) { i.inFlight = 0 })
	s.startAgent("e1")
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
	s.converged()
}

// TestNewSideCannotPromote: when nobody of the new master serves within the
// budget, the way back is decided and certified (section 3).
func TestNewSideCannotPromote(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, w := withProxies(s)
	for _, name := range []string{"w1", "w2"} {
		s.agents[name].in.set(func(i *instance) { i.refuses = true })
	}
	o := s.order(west)
	o.HoldBudget = 6 * time.Second // for the drain, on a busy machine
	s.begin("west-1", o)
	s.wantOutcome(o.ID+"-back", api.OutcomeForward, 4)
	for _, p := range []*proxy{e, w} {
		p.released(2, east)
		p.released(4, east)
	}
	s.awaitServing(east, 4)
	s.converged()
	h := s.finished("west-1", o.ID)
	if h.GivenUp == "" || h.SupersededBy == "" {
		t.Errorf("the record does not say why: %+v", h)
	}
}
