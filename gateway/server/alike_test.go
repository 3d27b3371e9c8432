package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// health returns a check of a gateway's own health.
func (n *node) health(name string) api.Check {
	for _, c := range n.coordinator.Health(context.Background()).Checks {
		if c.Name == name {
			return c
		}
	}
	return api.Check{Detail: "no such check"}
}

// TestConfiguredDifferently: a gateway that has a service configured otherwise
// than another says so, and nothing is moved until they agree.
func TestConfiguredDifferently(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	if check := s.gateways["east-1"].health("services-alike"); !check.OK {
		t.Fatalf("all are configured alike: %+v", check)
	}
	alike := s.services
	other := alike[0]
	configure := func(change func(*coordinator.Service)) {
		other = alike[0]
		change(&other)
		s.services = append(s.services[:0:0], other)
		s.restart("west-2")
	}
	// Where proxies listen is a data center's own.
	configure(func(c *coordinator.Service) { c.Listener = &resource.Listener{Address: "127.0.0.1", Port: 1} })
	eventually(t, "west-1 to see the difference", func() bool { return !s.gateways["west-1"].health("services-alike").OK })
	if check := s.gateways["east-1"].health("services-alike"); !check.OK {
		t.Errorf("another listener in another data center: %+v", check)
	}
	configure(func(c *coordinator.Service) { c.HoldTimeout += time.Second })
	for _, name := range []string{"east-1", "west-2"} {
		g := s.gateways[name]
		eventually(t, name+" to see the difference", func() bool {
			check := g.health("services-alike")
			return !check.OK && strings.Contains(check.Detail, "west-2") && check.Do != ""
		})
		var f *api.Fault
		if _, err := g.coordinator.Switch(t.Context(), s.order(west)); !errors.Is(err, signalbox.ErrNotReady) || !errors.As(err, &f) ||
			!strings.Contains(err.Error(), "configured otherwise") {
			t.Errorf("a switch at %s: %v", name, err)
		}
	}
	s.services = alike
	s.restart("west-2")
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	o := s.order(west)
	s.begin("east-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
}

// TestFirstStart: a new cluster says what it waits for, and an adoption is listed
// as soon as it is answered.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range gatewayNames[:3] {
		s.startGateway(name)
	}
	eventually(t, "the voter to name who is missing", func() bool {
		check := s.gateways["east-1"].health("log")
		return !check.OK && strings.Contains(check.Detail, "west-2") && !strings.Contains(check.Detail, "west-1")
	})
	eventually(t, "the log to name who is missing", func() bool { return strings.Contains(s.logs.String(), `"missing":["west-2"]`) })
	s.startGateway("west-2")
	for _, name := range []string{"e1", "w1"} {
		s.startAgent(name)
	}
	s.awaitReady(map[signalbox.DataCenter]int{east: 1, west: 1})
	eventually(t, "the voter to decide", func() bool { return s.gateways["east-1"].health("log").OK })
	c := s.gateways["east-1"].coordinator
	_, err := c.Adopt(t.Context(), api.Order{ID: "adopt-1", Service: string(orders), To: string(east), By: "operator/test"})
	must(t, err)
	if list, err := c.Handovers(t.Context(), api.Page{Service: string(orders), Limit: 1}); err != nil || len(list) != 1 || list[0].ID != "adopt-1" {
		t.Errorf("listed after the adoption: %+v, %v", list, err)
	}
}
