package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// awaitReady waits until every running gateway has heard from that many ready
// instances and reaches all peers.
func (s *site) awaitReady(want map[signalbox.DataCenter]int) {
	s.t.Helper()
	for _, g := range s.gateways {
		eventually(s.t, fmt.Sprintf("%s to know the instances %v", g.name, want), func() bool {
			all, err := g.coordinator.Instances(context.Background(), "")
			must(s.t, err)
			have := map[signalbox.DataCenter]int{}
			for _, in := range all {
				if in.Ready {
					have[signalbox.DataCenter(in.DataCenter)]++
				}
			}
			enrolled := 0
			g.journal.View(func(l *handover.Ledger) { enrolled = len(l.Instances(orders)) })
			return have[east] >= want[east] && have[west] >= want[west] && enrolled >= want[east]+want[west] && g.connected()
		})
	}
}

// connected reports whether the gateway reaches all its peers.
func (n *node) connected() bool {
	for _, check := range n.coordinator.Health(context.Background()).Checks {
		if !check.OK {
			return false
		}
	}
	return true
}

func (s *site) adopt() {
	s.t.Helper()
	eventually(s.t, "the adoption", func() bool {
		_, err := s.gateways["east-1"].coordinator.Adopt(context.Background(), api.Order{ID: "adopt-1", Service: string(orders), To: string(east), By: "operator/test"})
		if err != nil && !errors.Is(err, signalbox.ErrUnavailable) { // a new voter first asks every other gateway
			s.t.Fatal(err)
		}
		return err == nil
	})
	s.awaitServing(east, 1)
	s.converged() // a gateway that lags behind would be asked about what it has not heard of
}

// order makes an order with an id of its own. Where a test is not about being
// late, a busy machine is no reason to give up.
func (s *site) order(to signalbox.DataCenter) api.Order {
	return api.Order{ID: fmt.Sprintf("switch-%d", s.switches.Add(1)), Service: string(orders), To: string(to), By: "operator/test", Reason: "test",
		HoldBudget: signalbox.MaxHoldBudget, AllowLateProxies: true}
}

// ready waits until a gateway would start the switch.
func (s *site) ready(gateway string, o api.Order) {
	s.t.Helper()
	var last api.Plan
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%s: %v", gateway, last.Blocks)
		}
	}()
	eventually(s.t, gateway+" to be ready for the switch", func() bool {
		var err error
		last, err = s.gateways[gateway].coordinator.Plan(context.Background(), o)
		if err != nil {
			last.Blocks = []string{err.Error()}
		}
		return err == nil && last.Ready
	})
}

// begin starts a switch at a gateway. On a busy machine who was ready may be late
// with its next word, and the log may move on while it is planned (an instance is
// admitted again); such an order begins nothing and is given again.
func (s *site) begin(gateway string, o api.Order) {
	s.t.Helper()
	for begun := false; !begun; {
		s.ready(gateway, o)
		_, err := s.gateways[gateway].coordinator.Switch(context.Background(), o)
		if begun = !beginsNothing(err); begun {
			must(s.t, err)
		}
	}
}

// beginsNothing is whether an order is refused because of what passes by itself: no
// other handover is in its way.
func beginsNothing(err error) bool {
	var f *api.Fault
	another := errors.As(err, &f) && f.Handover != ""
	return errors.Is(err, signalbox.ErrNotReady) || errors.Is(err, signalbox.ErrConflict) && !another
}

// knows waits until the log has brought a handover to a gateway.
func (s *site) knows(gateway, id string) {
	s.t.Helper()
	eventually(s.t, gateway+" to know of "+id, func() bool {
		_, err := s.gateways[gateway].coordinator.Handover(context.Background(), id)
		return err == nil
	})
}

// finished waits for the record of a handover at a gateway.
func (s *site) finished(gateway, id string) api.Handover {
	s.t.Helper()
	var h api.Handover
	eventually(s.t, fmt.Sprintf("%s to be over at %s", id, gateway), func() bool {
		var err error
		h, err = s.gateways[gateway].coordinator.Handover(context.Background(), id)
		return err == nil && h.Done()
	})
	return h
}

// wantOutcome waits for a handover's end at every gateway and checks it.
func (s *site) wantOutcome(id, outcome string, term signalbox.Term) api.Handover {
	s.t.Helper()
	var first api.Handover
	for i, name := range gatewayNames {
		h := s.finished(name, id)
		if h.Outcome != outcome || h.CertifiedTerm != uint64(term) {
			s.t.Fatalf("%s at %s: outcome %s, term %d (%s); want %s, term %d", id, name, h.Outcome, h.CertifiedTerm, h.GivenUp, outcome, term)
		}
		checkPhases(s.t, &h)
		if i == 0 {
			first = h
		}
	}
	return first
}

// awaitServing waits until all instances of a data center serve a term and
// nobody else does.
func (s *site) awaitServing(dc signalbox.DataCenter, term signalbox.Term) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the instances of %s to serve term %d", dc, term), func() bool {
		for _, a := range s.agents {
			at, serves := a.in.serves()
			if serves != (a.in.dc == dc) || serves && at != term {
				return false
			}
		}
		return true
	})
}

// converged waits until all gateways have the same log and certificate, and
// nothing is open.
func (s *site) converged() *signalbox.Certificate {
	s.t.Helper()
	var cert *signalbox.Certificate
	eventually(s.t, "all gateways to have the same log and certificate", func() bool {
		var seen []string
		for _, g := range s.gateways {
			g.journal.View(func(l *handover.Ledger) {
				st := l.Service(orders)
				if st == nil || st.Certificate == nil {
					return
				}
				cert = st.Certificate
				seen = append(seen, fmt.Sprintf("%d %s %d %x", l.Index(), l.Digest(), len(st.Open), st.Certificate.Raw))
			})
		}
		slices.Sort(seen)
		return len(seen) == len(s.gateways) && len(slices.Compact(seen)) == 1 && strings.Contains(seen[0], " 0 ")
	})
	return cert
}

// verify opens a record's certificate with the cluster's public description
// alone.
func (s *site) verify(h api.Handover) *signalbox.Certificate {
	s.t.Helper()
	if h.Certificate == nil {
		s.t.Fatalf("the record of %s has no certificate", h.ID)
	}
	trust, err := signature.Trust(s.cluster)
	must(s.t, err)
	cert, err := rpc.OpenCertificate(trust, h.Certificate.Raw)
	must(s.t, err)
	return cert
}

// checkPhases: phases follow one another and none is negative.
func checkPhases(t interface{ Errorf(string, ...any) }, h *api.Handover) {
	at := 0.0
	for _, p := range h.Phases {
		if p.BeginMS < at || p.EndMS != nil && *p.EndMS < p.BeginMS {
			t.Errorf("%s: phase %s from %v to %v begins before %v or ends before it begins: %+v", h.ID, p.Name, p.BeginMS, p.EndMS, at, h.Phases)
		}
		at = p.BeginMS
		if p.EndMS != nil {
			at = *p.EndMS
		}
	}
}
