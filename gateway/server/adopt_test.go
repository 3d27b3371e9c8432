package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/membership/agent"
)

// TestAdoptWhereItServes guards that an adoption makes no second master: it takes
// no evidence from anybody (rule 1), so a service that one data center serves is
// adopted there or not at all, without an interruption.
func TestAdoptWhereItServes(t *testing.T) {
	s := newSite(t)
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	live := newInstance(s.judge, "e1", east)
	live.set(func(i *instance) { i.master = true }) // at term 0: it served before Signalbox came
	s.judge.opened("e1", east, 0)
	s.agents["e1"] = &agentNode{s: s, name: "e1", in: live}
	s.startAgent("e1")
	s.startAgent("w1")
	s.awaitReady(map[signalbox.DataCenter]int{east: 1, west: 1})
	for _, gateway := range []string{"east-1", "west-1"} {
		c := s.gateways[gateway].coordinator
		eventually(t, gateway+" to see who serves", func() bool {
			all, err := c.Instances(context.Background(), string(orders))
			if err != nil {
				return false
			}
			for _, i := range all {
				if i.Name == "e1" && i.State == agent.StateServing {
					return true
				}
			}
			return false
		})
		_, err := c.Adopt(context.Background(), api.Order{ID: "wrong-" + gateway, Service: string(orders), To: string(west), By: "operator/test"})
		if !errors.Is(err, signalbox.ErrRefused) || !strings.Contains(err.Error(), "e1 (east) says that it serves orders") {
			t.Fatalf("adopt in west by %s: %v", gateway, err)
		}
	}
	s.adopt()
	if live.draining() {
		t.Error("the adoption stepped the live instance down")
	}
	if term, master := live.serves(); !master || term != 1 {
		t.Errorf("the live instance serves: %v, at term %d", master, term)
	}
}
