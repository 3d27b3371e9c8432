package server

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// TestTwoSwitchesAtOnce: one wins; the other gets a conflict that names it.
func TestTwoSwitchesAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 }) // the winner stays open
	orders := []api.Order{s.order(west), s.order(west)}
	s.ready("east-1", orders[0])
	s.ready("west-1", orders[1])
	type result struct {
		id  string
		err error
	}
	results := make(chan result, 2)
	for i, gateway := range []string{"east-1", "west-1"} {
		go func() {
			_, err := s.gateways[gateway].coordinator.Switch(t.Context(), orders[i])
			results <- result{orders[i].ID, err}
		}()
	}
	a, b := <-results, <-results
	if a.err != nil {
		a, b = b, a
	}
	var f *api.Fault
	if a.err != nil || !errors.Is(b.err, signalbox.ErrConflict) || !errors.As(b.err, &f) || f.Handover != a.id {
		t.Fatalf("%s: %v; %s: %v (names %+v)", a.id, a.err, b.id, b.err, f)
	}
	third := s.order(west)
	_, err := s.gateways["west-2"].coordinator.Switch(t.Context(), third)
	if !errors.Is(err, signalbox.ErrConflict) || !errors.As(err, &f) || f.Handover != a.id {
		t.Fatalf("a third switch: %v", err)
	}
	if again, err := s.gateways["east-2"].coordinator.Switch(t.Context(), api.Order{ID: a.id, Service: "orders", To: "west"}); err != nil || again.ID != a.id {
		t.Errorf("the same order once more: %v, %v", again.ID, err)
	}
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 0 })
	s.wantOutcome(a.id, api.OutcomeForward, 2)
	s.converged()
}

// TestRefusedOrders: what is refused moves nothing and says which rule.
func TestRefusedOrders(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	g := s.gateways["west-1"]
	moves := func() (out string) { // the log itself may grow: an instance that was slow to hear is admitted again
		g.journal.View(func(l *handover.Ledger) {
			st := l.Service(orders)
			out = fmt.Sprintf("%s, last term %d, %d open", st.Newest.Digest, st.Last, len(st.Open))
		})
		return out
	}
	before := moves()
	expect := s.order(west)
	expect.Expect = "west@1"
	var f *api.Fault
	_, err := g.coordinator.Switch(t.Context(), expect)
	if !errors.Is(err, signalbox.ErrExpectation) || !errors.As(err, &f) || f.Current != "east@1" {
		t.Errorf("expectation: %v", err)
	}
	for _, c := range []struct {
		name        string
		service, to string
		sentinel    error
	}{
		{"unknown service", "payments", "west", signalbox.ErrUnknown},
		{"unknown data center", "orders", "north", signalbox.ErrUnknown},
		{"master already", "orders", "east", signalbox.ErrRefused},
	} {
		o := s.order(west)
		o.Service, o.To = c.service, c.to
		if _, err := g.coordinator.Switch(t.Context(), o); !errors.Is(err, c.sentinel) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	again := api.Order{ID: "adopt-1", Service: "orders", To: "east"}
	if h, err := g.coordinator.Adopt(t.Context(), again); err != nil || h.ID != "adopt-1" {
		t.Errorf("the same adoption: %v, %v", h.ID, err)
	}
	again.ID, again.To = "adopt-2", "west"
	if _, err := g.coordinator.Adopt(t.Context(), again); !errors.Is(err, signalbox.ErrConflict) {
		t.Errorf("another adoption: %v", err)
	}
	s.agents["w1"].in.set(func(i *instance) { i.notReady = true })
	eventually(t, "w1 not to be ready", func() bool {
		p, err := g.coordinator.Plan(t.Context(), s.order(west))
		return err == nil && !p.Ready && slices.ContainsFunc(p.Checks, targetNotReady)
	})
	_, err = g.coordinator.Switch(t.Context(), s.order(west))
	if !errors.Is(err, signalbox.ErrNotReady) || !errors.As(err, &f) || !slices.ContainsFunc(f.Checks, targetNotReady) || slices.ContainsFunc(f.Checks, passed) {
		t.Errorf("not ready: %v, %+v", err, f)
	}
	if now := moves(); now != before {
		t.Errorf("the log went from %s to %s", before, now)
	}
}

func passed(c api.Check) bool { return c.OK }

func targetNotReady(c api.Check) bool { return c.Name == "target-ready" && !c.OK }

// TestObserve: an observed service is watched and nothing is moved.
func TestObserve(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(s *site) { s.services[0].Observe = true })
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	for _, name := range []string{"e1", "w1"} {
		s.startAgent(name)
	}
	s.awaitReady(map[signalbox.DataCenter]int{east: 1, west: 1})
	g := s.gateways["east-2"]
	if _, err := g.coordinator.Adopt(t.Context(), api.Order{ID: "adopt-1", Service: "orders", To: "east"}); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("adoption: %v", err)
	}
	if _, err := g.coordinator.Switch(t.Context(), s.order(west)); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("switch: %v", err)
	}
	services, err := g.coordinator.Services(t.Context())
	must(t, err)
	if services[0].State != api.StateObserved {
		t.Errorf("state %q", services[0].State)
	}
	g.journal.View(func(l *handover.Ledger) {
		if st := l.Service(orders); st != nil && st.Newest != nil {
			t.Error("something was decided for it")
		}
	})
}
