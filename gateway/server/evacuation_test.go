package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/agent"
)

// wave are the services that an evacuation moves at the same time.
var wave = []signalbox.Service{orders, "billing", "catalog", "payments", "users"}

// manyServices gives a site the services of the wave, and one that has no master.
func manyServices(s *site) {
	for _, name := range append(wave[1:], "unmanaged") {
		more := s.services[0]
		more.Name = name
		s.services = append(s.services, more)
	}
}

// runMany starts all gateways and, in each data center, an agent beside an instance
// of each service, and adopts the services in the east.
func (s *site) runMany() {
	s.t.Helper()
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	judges := map[signalbox.Service]*judge{}
	for _, name := range []string{"e1", "w1"} {
		s.startAgent(name, func(o *agent.Options) {
			for _, service := range wave[1:] {
				if judges[service] == nil {
					judges[service] = &judge{t: s.t, open: map[string]opening{}}
				}
				in := newInstance(judges[service], name, dataCenterOf(name))
				o.Instances = append(o.Instances, agent.Instance{Service: service, Name: name + "-" + string(service), Address: in.address, Driver: in, DriverName: "fake"})
			}
		})
	}
	s.awaitReady(map[signalbox.DataCenter]int{east: 1, west: 1})
	for _, g := range s.gateways {
		eventually(s.t, g.name+" to have all instances in its log", func() bool {
			enrolled := 0
			g.journal.View(func(l *handover.Ledger) {
				for _, service := range wave {
					enrolled += len(l.Instances(service))
				}
			})
			return enrolled == 2*len(wave)
		})
	}
	s.adopt()
	for _, service := range wave[1:] {
		o := api.Order{ID: "adopt-" + string(service), Service: string(service), To: string(east), By: "operator/test"}
		eventually(s.t, "the adoption of "+string(service), func() bool {
			_, err := s.gateways["east-1"].coordinator.Adopt(context.Background(), o)
			return err == nil
		})
	}
}

// decider is the gateway that builds the next block.
func (s *site) decider() *node {
	s.t.Helper()
	s.converged()
	n := s.gateways["east-1"]
	b, err := n.journal.Block(n.journal.Index())
	must(s.t, err)
	set := n.office.Voters()
	return s.gateways[set.Names()[b.Proposer]]
}

// holdDisk has nothing be written to the gateway's journal until release is called.
func (n *node) holdDisk() (release func()) {
	n.s.t.Helper()
	must(n.s.t, n.journal.PutNote(journal.KindEndpoints, "held", nil))
	held, let, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	hold := sync.OnceFunc(func() { close(held); <-let })
	go func() { // ends with release
		ended <- n.journal.DropNotes(journal.KindEndpoints, func(key string) bool { hold(); return key == "held" })
	}()
	<-held
	return sync.OnceFunc(func() {
		close(let)
		if err := <-ended; err != nil {
			n.s.t.Error(err)
		}
	})
}

// TestEvacuationSharesBlocks guards that handovers of an evacuation which are ordered
// at the same time are decided together, with one voter and with several: what
// waits while a block is being written or agreed on stands in the next one. An
// order that is refused meanwhile takes no other down with it.
func TestEvacuationSharesBlocks(t *testing.T) {
	for name, set := range map[string]func(*site){"one": func(*site) {}, "three": voting(three...), "four": voting(four...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, set, manyServices, func(s *site) { s.viewTimeout = 3 * time.Second }) // longer than a disk is held
			s.runMany()
			at := s.decider()
			plan, err := at.coordinator.Evacuation(t.Context(), string(east), "")
			must(t, err)
			if len(plan.Legs) != len(wave) {
				t.Fatalf("%d legs: %+v", len(plan.Legs), plan.Legs)
			}
			ids := s.evacuate(at, plan)
			blocks := map[uint64]bool{}
			for _, id := range ids {
				s.wantOutcome(id, api.OutcomeForward, 2)
				at.journal.View(func(l *handover.Ledger) {
					decided, _ := l.Decided(id)
					blocks[decided.Index] = true
				})
			}
			if len(blocks) == len(ids) || name == "one" && len(blocks) > 2 { // what was being written when the others came, and those
				t.Errorf("%d handovers that were ordered at the same time stand in %d blocks", len(ids), len(blocks))
			}
		})
	}
}

// evacuate orders all legs of a plan at a gateway whose disk is held back until all
// wait to be decided, with one among them that is refused.
func (s *site) evacuate(at *node, plan api.Evacuation) (ids []string) {
	s.t.Helper()
	var ordered []api.Order
	for _, leg := range plan.Legs {
		o := s.order(signalbox.DataCenter(leg.To))
		o.Service, o.Expect = leg.Service, leg.Current
		s.ready(at.name, o)
		ordered, ids = append(ordered, o), append(ids, o.ID)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	release := at.holdDisk()
	defer release()
	results, refused := make(chan error, len(ordered)), make(chan error, 1)
	for i, o := range ordered {
		go func() { // ends with its decision, or with the gateway
			_, err := at.coordinator.Switch(ctx, o)
			for errors.Is(err, signalbox.ErrNotReady) { // somebody was not heard from just now; such an order begins nothing
				_, err = at.coordinator.Switch(ctx, o)
			}
			results <- err
		}()
		if i == 1 {
			go func() {
				h := &signalbox.Handover{
					ID: "refused", Service: "unmanaged", From: east, To: west, Term: 2, Fallback: 3, Allowed: signalbox.AckOnly, HoldBudget: signalbox.MaxHoldBudget,
				}
				refused <- at.peers.ProposeTo(ctx, signalbox.Request{Handover: h})
			}()
		}
	}
	eventually(s.t, fmt.Sprintf("%d orders to wait at %s", len(ordered), at.name), func() bool {
		if len(results) > 0 {
			s.t.Fatalf("an order does not wait: %v", <-results)
		}
		return at.office.Waiting() >= int64(len(ordered)+1-len(refused))
	})
	release()
	for range ordered {
		must(s.t, <-results)
	}
	if err := <-refused; !errors.Is(err, signalbox.ErrRefused) {
		s.t.Errorf("the handover of a service without a master: %v", err)
	}
	return ids
}
