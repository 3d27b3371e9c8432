package server

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// withProxies starts a proxy in each data center that follow.
func withProxies(s *site) (e, w *proxy) {
	s.t.Helper()
	e, w = s.startProxy("e1", "east-1"), s.startProxy("w1", "west-2")
	e.released(1, east)
	w.released(1, east)
	s.knowProxies("east-1", e.id, w.id)
	return e, w
}

// knowProxies waits until a gateway has heard of the proxies.
func (s *site) knowProxies(gateway string, ids ...string) {
	s.t.Helper()
	eventually(s.t, gateway+" to know the proxies", func() bool {
		all, err := s.gateways[gateway].coordinator.Proxies(context.Background())
		must(s.t, err)
		known := 0
		for _, p := range all {
			if slices.Contains(ids, p.ID) && len(p.Routes) > 0 && p.Routes[0].Term > 0 {
				known++
			}
		}
		return known == len(ids)
	})
}

// TestLateProxy: a connected proxy that does not acknowledge the hold has the
// handover given up before anyone steps down; the fallback is certified, the
// proxy is named, and what was parked flows to the old master (section 3, hold).
func TestLateProxy(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, w := withProxies(s)
	w.set(func(p *proxy) { p.late = true })
	drained := 0
	for _, name := range []string{"e1", "e2"} {
		s.agents[name].in.set(func(i *instance) { i.inFlight = 1 }) // it could not drain either
	}
	o := s.order(west)
	o.AllowLateProxies = false
	s.begin("east-2", o)
	e.routed(2)
	for _, name := range []string{"e1", "e2"} {
		if s.agents[name].in.draining() {
			drained++
		}
	}
	h := s.wantOutcome(o.ID, api.OutcomeFallback, 3)
	for _, name := range []string{"e1", "e2"} {
		s.agents[name].in.set(func(i *instance) { i.inFlight = 0 })
	}
	if cert := s.verify(h); !cert.IsFallback() || cert.DataCenter() != east {
		t.Fatalf("certificate: term %d of %s", cert.Term, cert.DataCenter())
	}
	// On a busy machine a whole gateway may be late as well.
	if !slices.Contains(h.LateProxies, w.id) || !strings.Contains(h.GivenUp, w.id) && !strings.Contains(h.GivenUp, "did not say within") {
		t.Errorf("late proxies %v, given up %q: want %s named", h.LateProxies, h.GivenUp, w.id)
	}
	for _, ack := range h.Acks {
		if ack.DrainedMS != nil {
			t.Errorf("%s stepped down for a hold that was not complete", ack.Instance)
		}
	}
	e.released(2, east)
	e.released(3, east)
	s.awaitServing(east, 3)

	t.Run("allowed", func(t *testing.T) {
		o := s.order(west)
		w.awaitOffer(3)
		w.set(func(p *proxy) { p.answerAll() })
		s.knowProxies("west-1", w.id)
		s.begin("west-1", o)
		h := s.wantOutcome(o.ID, api.OutcomeForward, 4)
		if !slices.Contains(h.LateProxies, w.id) {
			t.Errorf("late proxies %v: want %s named", h.LateProxies, w.id)
		}
		e.released(4, west)
		s.awaitServing(west, 4)
	})
}

// TestProxyVanishes: a proxy that is gone before the second is over is not
// waited for.
func TestProxyVanishes(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, w := withProxies(s)
	w.set(func(p *proxy) { p.late = true })
	o := s.order(west)
	s.begin("east-1", o)
	e.routed(2)
	w.stop()
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	e.released(2, west)
}

// TestRejectedRoute: a proxy's own words about what it rejects stand in the
// record, in the list of proxies and in the reason for giving up.
func TestRejectedRoute(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, w := withProxies(s)
	words := "route: unknown header formatter " + strings.Repeat("é", signalbox.MaxReason)
	w.set(func(p *proxy) { p.nack = words })
	o := s.order(west)
	o.AllowLateProxies = false
	s.begin("east-1", o)
	e.routed(2)
	eventually(t, "east-1 to know the words", func() bool {
		all, err := s.gateways["east-1"].coordinator.Proxies(context.Background())
		must(t, err)
		return slices.ContainsFunc(all, func(p api.Proxy) bool {
			return p.ID == w.id && strings.HasPrefix(p.Routes[0].Problem, "route: unknown header formatter")
		})
	})
	s.wantOutcome(o.ID, api.OutcomeFallback, 3)
	for _, gateway := range gatewayNames {
		h := s.finished(gateway, o.ID)
		if !strings.Contains(proxyRow(&h, w.id).Problem, "unknown header formatter") || !proxyRow(&h, w.id).Late {
			t.Errorf("%s: the record has of %s: %+v", gateway, w.id, proxyRow(&h, w.id))
		}
	}
}

func proxyRow(h *api.Handover, id string) (row api.ProxyHold) {
	for _, p := range h.Proxies {
		if p.ID == id {
			row = p
		}
	}
	return row
}

// TestNothingIsReleasedUncertified: while nobody is certified for the term, the
// name that holds leads nowhere, at any gateway (rule 7).
func TestNothingIsReleasedUncertified(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e, w := withProxies(s)
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	s.begin("east-1", o)
	e.routed(2)
	w.routed(2)
	eventually(t, "e1 to drain", s.agents["e1"].in.draining)
	began := time.Now()
	for _, p := range []*proxy{e, w} {
		if !p.held(2) {
			t.Errorf("%s has orders@2 %v before its certificate", p.id, time.Since(began))
		}
	}
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 0 })
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	e.released(2, west)
	w.released(2, west)
}

// TestOldEndpointsAreNotNew: a gateway that was away during a handover knows
// where the old master was. It does not give that to proxies under the new
// term's name; they are held until it hears of the new master (rule 7).
func TestOldEndpointsAreNotNew(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	s.startProxy("e1", "east-2").released(1, east)
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 })
	o := s.order(west)
	s.begin("east-1", o)
	s.reached("drain", o.ID, west)
	s.gateways["east-2"].stop()
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 0 })
	s.finished("east-1", o.ID)
	s.awaitServing(west, 2)
	s.gateways["west-1"].stop()
	s.gateways["west-2"].stop()
	has := func() {
		eventually(t, "east-2 to have the new certificate", func() bool {
			services, err := s.gateways["east-2"].coordinator.Services(t.Context())
			return err == nil && len(services) == 1 && services[0].Term == 2
		})
	}
	s.startGateway("east-2")
	has()
	s.restart("east-2") // now from its own log
	has()
	p := s.startProxy("e2", "east-2")
	s.finished("east-2", o.ID)
	over := time.Now()
	eventually(t, "the housekeeping of east-2 after that", func() bool {
		in := s.seen("east-2", "e1")
		return len(in) == 1 && in[0].LastHeard != nil && in[0].LastHeard.After(over.Add(time.Second)) // it asks twice a second
	})
	s.startGateway("west-1")
	s.startGateway("west-2")
	p.released(2, west)
	p.set(func(p *proxy) {
		for _, e := range p.led[2] {
			if s.siteOf(e) != west {
				t.Errorf("orders@2 led to %s in %s", e, s.siteOf(e))
			}
		}
	})
}
