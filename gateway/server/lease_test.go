package server

import (
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// leasing has the service use leases, and its failovers count their lapse.
func leasing(ttl time.Duration) func(*site) {
	return func(s *site) {
		counting(signalbox.Lapse)(s)
		s.services[0].Leases = signalbox.Leases{TTL: ttl, Drift: 10_000}
	}
}

// isolated ends all of a data center but its instances: nobody tells them anything.
func (s *site) isolated(dc signalbox.DataCenter) {
	for _, a := range s.agents {
		if a.in.dc == dc {
			a.kill()
		}
	}
	for _, name := range gatewayNames {
		if strings.HasPrefix(name, string(dc)) {
			s.gateways[name].stop()
		}
	}
}

// TestFailoverByLapse: a data center is cut off while its instances go on. They
// end by themselves; with a lapse for each, signed by the voters when that is sure,
// the other side serves (rules 2, 3 and 6). The judge sees no two masters.
func TestFailoverByLapse(t *testing.T) {
	t.Run("one voter", func(t *testing.T) {
		t.Parallel()
		failoverByLapse(t)
	})
	t.Run("three voters, one of them lost", func(t *testing.T) {
		t.Parallel()
		failoverByLapse(t, voting("east-1", "east-2", "west-1"))
	})
}

func failoverByLapse(t *testing.T, change ...func(*site)) {
	s := moved(t, append(change, leasing(2*time.Second))...)
	e := s.startProxy("e1", "east-1")
	e.released(2, west)
	s.isolated(west)
	c := s.gateways["east-1"].coordinator
	o := s.failover(east)
	plan, err := c.FailoverPlan(t.Context(), o)
	must(t, err)
	if !plan.Ready || len(plan.Waits) != 2 || strings.Join(plan.Waits[0].Evidence, "+") != "lapse" {
		t.Errorf("plan: %+v", plan)
	}
	_, err = c.Failover(t.Context(), o)
	must(t, err)
	s.awaitServing(east, 4)
	e.released(4, east)
	h := s.finished("east-1", o.ID)
	cert := s.verify(h)
	if h.Outcome != api.OutcomeForward || cert.Term != 4 || len(cert.Evidence) != 2 {
		t.Fatalf("outcome %s, certificate of %d with %+v", h.Outcome, cert.Term, cert.Evidence)
	}
	for _, ev := range cert.Evidence {
		if ev.Kind != signalbox.SaysLapse || len(ev.Witness.By) == 0 {
			t.Errorf("evidence %+v", ev)
		}
	}
	for _, name := range []string{"w1", "w2"} {
		if _, master := s.agents[name].in.serves(); master {
			t.Errorf("%s serves on", name)
		}
	}
	s.comeBack(east, 4)
}

// TestLeasesLastAsLongAsVoters: while the voters can be reached instances go on for
// as long as they are asked; when they cannot, all of them close by themselves, and
// open again when they can, in the same term.
func TestLeasesLastAsLongAsVoters(t *testing.T) {
	t.Parallel()
	s := newSite(t, leasing(time.Second)).run()
	s.awaitServing(east, 1)
	s.gateways["east-1"].stop() // the voter
	eventually(t, "the instances to close by themselves", func() bool {
		_, first := s.agents["e1"].in.serves()
		_, second := s.agents["e2"].in.serves()
		return !first && !second
	})
	s.startGateway("east-1")
	s.awaitServing(east, 1)
	o := s.order(west)
	s.converged()
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	s.begin("east-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
}
