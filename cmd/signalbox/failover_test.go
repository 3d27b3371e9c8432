package main

import (
	"testing"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
)

// An attest is signed here, with the operator's own key; a reason is mandatory.
func TestClientAttest(t *testing.T) {
	fake := world()
	c := apitest.Start(t, 1, fake)
	alice := newPerson(t, c)
	out, _ := alice.expect(exitOK, "instance", "attest", "orders-east-1", "--service", "orders", "--reason", "its host burned")
	contains(t, out, "attested for orders-east-1 (east)")
	_, err := alice.expect(exitUsage, "instance", "attest", "orders-east-1", "--service", "orders", "--reason", "")
	contains(t, err, "--reason")
	_, err = alice.expect(exitFailure, "instance", "attest", "orders-east-9", "--service", "orders", "--reason", "gone")
	contains(t, err, "no outstanding instance")
}

// While a failover is open an attest counts for that; for who does not stand in its roster it is refused.
func TestClientAttestForAHandover(t *testing.T) {
	fake := world()
	fake.Edit(func(s *apitest.State) {
		for i := range s.Services {
			if s.Services[i].Name == "orders" {
				s.Services[i].Handover = "orders-cccccccccccc"
			}
		}
		s.Handovers = append(s.Handovers, api.Handover{
			ID: "orders-cccccccccccc", Service: "orders", From: "east", To: "west", Term: 8, Outcome: api.OutcomeOpen, Started: apitest.Epoch,
			Acks: []api.Ack{{Instance: "orders-east-1", DataCenter: "east", Identity: "00112233445566778899aabbccddeeff", Admission: 12}},
		})
	})
	alice := newPerson(t, apitest.Start(t, 1, fake))
	out, _ := alice.expect(exitOK, "instance", "attest", "orders-east-1", "--service", "orders", "--reason", "its host burned")
	contains(t, out, "it counts for handover")
	_, err := alice.expect(exitConflict, "instance", "attest", "orders-west-1", "--service", "orders", "--reason", "its host burned")
	contains(t, err, "does not wait for orders-west-1")
}
