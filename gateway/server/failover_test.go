package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// counting has the service's failovers count others' evidence.
func counting(kinds ...signalbox.EvidenceKind) func(*site) {
	return func(s *site) {
		for _, k := range kinds {
			s.services[0].Evidence |= signalbox.EvidenceKinds(k)
		}
	}
}

// failover makes the order; the budget is short, since the dead do not answer.
func (s *site) failover(to signalbox.DataCenter) api.FailoverOrder {
	o := s.order(to)
	o.ID, o.HoldBudget = fmt.Sprintf("failover-%d", s.switches.Add(1)), time.Second
	return api.FailoverOrder{Order: o}
}

// dies ends a data center as a whole: gateways, agents and instances.
func (s *site) dies(dc signalbox.DataCenter) {
	for _, a := range s.agents {
		if a.in.dc == dc {
			a.kill()
			a.in.crash()
		}
	}
	for _, name := range gatewayNames {
		if strings.HasPrefix(name, string(dc)) {
			s.gateways[name].stop()
		}
	}
}

// moved is a site whose master is west, away from the voter.
func moved(t *testing.T, change ...func(*site)) *site {
	s := newSite(t, change...).run()
	o := s.order(west)
	s.begin("east-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
	s.converged()
	return s
}

// attests has the operator sign for an instance, as `instance attest` does.
func (s *site) attests(m api.Missing, reason string) []byte {
	s.t.Helper()
	b, err := identity.Load(bundle(s.t, rpc.Principal{Role: rpc.RoleOperator, Name: "ada"}))
	must(s.t, err)
	block, err := hex.DecodeString(m.Block)
	must(s.t, err)
	raw, err := rpc.SealAttest(testCluster, rpc.Testimony{
		Statement: signalbox.Statement{
			Kind: signalbox.SaysAttest, Service: signalbox.Service(m.Service), Identity: signalbox.Identity(m.Identity),
			Admission: m.Admission, Block: signalbox.Digest(block), Term: signalbox.Term(m.Below),
		},
		Witness: signalbox.Witness{By: []string{"ada"}, Reason: reason, At: time.Now()},
	}, b.Operator)
	must(s.t, err)
	return raw
}

func (s *site) missing(gateway, id string, want ...string) []api.Missing {
	s.t.Helper()
	var list []api.Missing
	eventually(s.t, fmt.Sprintf("%s to miss the evidence of %v", id, want), func() bool {
		var err error
		list, err = s.gateways[gateway].coordinator.Missing(context.Background(), id)
		if errors.Is(err, signalbox.ErrUnknown) {
			return false // the log has not brought it here yet
		}
		must(s.t, err)
		var names []string
		for _, m := range list {
			names = append(names, m.Instance)
		}
		slices.Sort(names)
		return slices.Equal(names, want)
	})
	return list
}

// TestFailoverByAttest: a data center dies as a whole; with a person's word for
// each of its instances the other one serves, the certificate says so offline,
// and the old side comes back closed (rules 2, 3, 5 and 6).
func TestFailoverByAttest(t *testing.T) {
	t.Parallel()
	s := moved(t, counting(signalbox.Attest))
	e := s.startProxy("e1", "east-1")
	e.released(2, west)
	s.dies(west)
	c := s.gateways["east-1"].coordinator
	o := s.failover(east)
	plan, err := c.FailoverPlan(t.Context(), o)
	must(t, err)
	if !plan.Ready || len(plan.Waits) != 2 || !plan.Waits[0].Silent || !slices.Equal(plan.Waits[0].Evidence, []string{"attest"}) || plan.Term != 4 {
		t.Errorf("plan: %+v", plan)
	}
	_, err = c.Failover(t.Context(), o)
	must(t, err)
	list := s.missing("east-1", o.ID, "w1", "w2")
	e.routed(4)
	if _, err := c.Submit(t.Context(), s.attests(list[0], "the power is off")); err != nil {
		t.Fatal(err)
	}
	s.missing("east-1", o.ID, "w2")
	if !e.held(4) {
		t.Error("released with the evidence of one")
	}
	other := list[0]
	other.Block = strings.Repeat("00", 31) + "01"
	if _, err := c.Submit(t.Context(), s.attests(other, "another block")); !errors.Is(err, signalbox.ErrConflict) {
		t.Errorf("an attest for another block: %v", err)
	}
	_, err = c.Submit(t.Context(), s.attests(list[1], "seen with my own eyes"))
	must(t, err)
	s.awaitServing(east, 4)
	e.released(4, east)
	h := s.finished("east-1", o.ID)
	cert := s.verify(h)
	if h.Outcome != api.OutcomeForward || cert.Term != 4 || len(cert.Evidence) != 2 || cert.Evidence[0].Kind != signalbox.SaysAttest {
		t.Errorf("outcome %s, certificate of %d with %+v", h.Outcome, cert.Term, cert.Evidence)
	}
	for _, a := range h.Acks {
		if a.Evidence != "attest" || !strings.Contains(a.Witness, "operator ada") {
			t.Errorf("the record of %s says %q, %q", a.Instance, a.Evidence, a.Witness)
		}
	}
	s.comeBack(east, 4)
}

// comeBack starts west again: its instances stay closed, and take over only by a
// handover of their own.
func (s *site) comeBack(master signalbox.DataCenter, term signalbox.Term) {
	s.t.Helper()
	for _, name := range gatewayNames {
		if strings.HasPrefix(name, "west") {
			s.startGateway(name)
		}
	}
	s.startAgent("w1")
	s.startAgent("w2")
	s.converged()
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	s.awaitServing(master, term)
	o := s.order(west)
	s.begin("west-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, term+1)
	s.awaitServing(west, term+1)
}

// plugin fences instances of the site by ending them.
type plugin struct {
	s    *site
	mu   sync.Mutex
	fail int // how often it fails first
	runs int
}

func (p *plugin) Name() string { return "power" }

func (p *plugin) Longest() time.Duration { return patience }

func (p *plugin) Fence(_ context.Context, in signalbox.Instance, _ string) ([]byte, error) {
	p.mu.Lock()
	p.runs++
	failed := p.runs <= p.fail
	p.mu.Unlock()
	if failed {
		return []byte("no route to the power switch"), errors.New("exit status 1")
	}
	p.s.agents[in.Name].in.crash()
	return []byte(in.Name + " is off"), nil
}

// TestFailoverByFence: the plugin is run for who cannot be reached, again when it
// failed, and its confirmation, signed by the gateways, certifies; the record has
// what it said.
func TestFailoverByFence(t *testing.T) {
	t.Parallel()
	var p *plugin
	s := moved(t, counting(signalbox.Fence), func(s *site) {
		p = &plugin{s: s, fail: 1}
		s.services[0].Fences = map[signalbox.DataCenter]coordinator.Fencer{west: p}
	})
	for _, name := range []string{"w1", "w2"} {
		s.agents[name].kill() // the instances serve on
	}
	for _, name := range []string{"west-1", "west-2"} {
		s.gateways[name].stop()
	}
	o := s.failover(east)
	_, err := s.gateways["east-2"].coordinator.Failover(t.Context(), o)
	must(t, err)
	s.awaitServing(east, 4)
	h := s.finished("east-1", o.ID)
	cert := s.verify(h)
	for _, e := range cert.Evidence {
		if e.Kind != signalbox.SaysFence || e.Witness == nil || e.Witness.Plugin != "power" || !slices.Equal(e.Witness.By, []string{"east-1"}) {
			t.Errorf("evidence %+v, %+v", e.Statement, e.Witness)
		}
	}
	for _, want := range []string{"could not be fenced: exit status 1", "no route to the power switch", "w1 is off", "w2 is off"} {
		if !slices.ContainsFunc(h.Events, func(e api.Event) bool { return strings.Contains(e.Detail, want) }) {
			t.Errorf("the record does not say %q", want)
		}
	}
	s.comeBack(east, 4)
}

// TestFailoverAsksAcksFirst: who can be reached acks, and only for the dead one
// others' evidence is taken.
func TestFailoverAsksAcksFirst(t *testing.T) {
	t.Parallel()
	s := moved(t, counting(signalbox.Attest))
	s.agents["w2"].kill()
	s.agents["w2"].in.crash()
	o := s.failover(east)
	_, err := s.gateways["west-1"].coordinator.Failover(t.Context(), o)
	must(t, err)
	list := s.missing("east-2", o.ID, "w2")
	_, err = s.gateways["east-2"].coordinator.Submit(t.Context(), s.attests(list[0], "it burned"))
	must(t, err)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 4)
	got := map[string]string{}
	for _, a := range h.Acks {
		got[a.Instance] = a.Evidence
	}
	if got["w1"] != "ack" || got["w2"] != "attest" {
		t.Errorf("evidence %v", got)
	}
	s.awaitServing(east, 4)
}

// TestFailoverOnwards: a switchover hangs because the old side died within it; a
// failover supersedes it in the same direction.
func TestFailoverOnwards(t *testing.T) {
	t.Parallel()
	s := moved(t, counting(signalbox.Attest))
	for _, name := range []string{"w1", "w2"} {
		s.agents[name].in.set(func(i *instance) { i.inFlight = 1 })
	}
	there := s.order(east)
	s.begin("east-1", there)
	s.dies(west)
	c := s.gateways["east-1"].coordinator
	o := s.failover(east)
	_, err := c.Failover(t.Context(), o)
	must(t, err)
	for _, m := range s.missing("east-1", o.ID, "w1", "w2") {
		_, err = c.Submit(t.Context(), s.attests(m, "west is gone"))
		must(t, err)
	}
	s.awaitServing(east, 6)
	if h := s.finished("east-1", there.ID); h.Outcome != api.OutcomeSuperseded || h.SupersededBy != o.ID {
		t.Errorf("the switchover: %s by %q", h.Outcome, h.SupersededBy)
	}
}

// TestRemovalByAttest: an instance that died holds a switchover up until somebody
// takes responsibility; when it comes back it stays closed until it is admitted
// again (ADR 0009).
func TestRemovalByAttest(t *testing.T) {
	t.Parallel()
	s := newSite(t, counting(signalbox.Attest)).run()
	s.agents["e2"].kill()
	s.agents["e2"].in.crash()
	c := s.gateways["west-1"].coordinator
	m, err := c.Announce(t.Context(), api.RemovalOrder{Service: string(orders), Instance: "e2", By: "operator/ada", Reason: "its host burned"})
	must(t, err)
	again, err := c.Announce(t.Context(), api.RemovalOrder{Service: string(orders), Instance: m.Identity, By: "operator/ada", Reason: "once more"})
	if err != nil || again != m {
		t.Errorf("announced twice: %+v, then %+v, %v", m, again, err)
	}
	out, err := c.Submit(t.Context(), s.attests(m, "its host burned"))
	if err != nil || !out.Removed {
		t.Fatalf("submitted: %+v, %v", out, err)
	}
	outstanding := func() (n int) {
		s.gateways["west-1"].journal.View(func(l *handover.Ledger) { n = len(l.Service(orders).Outstanding) })
		return n
	}
	eventually(t, "e2 to be outstanding no more", func() bool { return outstanding() == 1 })
	if _, err := c.Announce(t.Context(), api.RemovalOrder{Service: string(orders), Instance: "e2", Reason: "again"}); !errors.Is(err, signalbox.ErrUnknown) {
		t.Errorf("the removal of who is not outstanding: %v", err)
	}
	s.startAgent("e2")
	s.awaitServing(east, 1)
	eventually(t, "e2 to be admitted again", func() bool { return outstanding() == 2 })
	o := s.order(west)
	s.begin("east-2", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
}

// TestFailoverNeedsEvidence: without evidence configured nothing begins, and the
// refusal says what to do.
func TestFailoverNeedsEvidence(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	c := s.gateways["west-1"].coordinator
	var fault *api.Fault
	if _, err := c.Failover(t.Context(), s.failover(west)); !errors.Is(err, signalbox.ErrNotConfigured) || !errors.As(err, &fault) || fault.Do == "" {
		t.Errorf("no evidence configured: %v", err)
	}
	o := s.failover(west)
	o.Evidence = "fence"
	if _, err := c.Failover(t.Context(), o); !errors.Is(err, signalbox.ErrNotConfigured) {
		t.Errorf("evidence that the service does not allow: %v", err)
	}
	o.Evidence = "hope"
	if _, err := c.Failover(t.Context(), o); !errors.Is(err, signalbox.ErrInvalid) {
		t.Errorf("evidence that does not exist: %v", err)
	}
}

// TestSingletonMoves: of a singleton one instance serves; it moves to one, fails
// back to none but the previous master, and its term admits no other.
func TestSingletonMoves(t *testing.T) {
	t.Parallel()
	s := newSite(t, counting(signalbox.Attest), func(s *site) { s.services[0].Singleton = true })
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	for _, name := range []string{"e1", "e2", "w1", "w2"} {
		s.startAgent(name)
	}
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	eventually(t, "the adoption", func() bool {
		_, err := s.gateways["east-1"].coordinator.Adopt(t.Context(), api.Order{ID: "adopt-1", Service: string(orders), To: string(east), By: "operator/test"})
		if err != nil && !errors.Is(err, signalbox.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	s.oneServes(east, 1)
	there := s.order(west)
	s.begin("east-1", there)
	s.wantOutcome(there.ID, api.OutcomeForward, 2)
	s.oneServes(west, 2)
	// Given up, the previous master and nobody else serves on.
	var master string
	for name, a := range s.agents {
		if _, serves := a.in.serves(); serves {
			master = name
			a.in.set(func(i *instance) { i.inFlight = 1 })
		}
	}
	back := s.order(east)
	back.HoldBudget = time.Second
	s.begin("east-1", back)
	s.wantOutcome(back.ID, api.OutcomeFallback, 5)
	s.oneServes(west, 5)
	if _, serves := s.agents[master].in.serves(); !serves {
		t.Errorf("%s does not serve on", master)
	}
	s.converged()
}

// oneServes waits until exactly one instance serves, in a data center.
func (s *site) oneServes(dc signalbox.DataCenter, term signalbox.Term) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("one instance of %s to serve term %d", dc, term), func() bool {
		var serving []string
		for name, a := range s.agents {
			if at, serves := a.in.serves(); serves && a.in.dc == dc && at == term {
				serving = append(serving, name)
			} else if serves {
				return false
			}
		}
		return len(serving) == 1
	})
}

// TestAutomaticFailover: when a quorum of voters has heard of nobody in the
// master's data center for long enough, the service is failed over without anybody
// asking; the evidence is as due as ever.
func TestAutomaticFailover(t *testing.T) {
	t.Parallel()
	s := moved(t, counting(signalbox.Fence), func(s *site) {
		s.services[0].Fences = map[signalbox.DataCenter]coordinator.Fencer{west: &plugin{s: s}}
		s.services[0].Automatic = 5 * time.Second // a busy machine is not silence
	})
	for _, name := range []string{"w1", "w2"} {
		s.agents[name].kill()
	}
	for _, name := range []string{"west-1", "west-2"} {
		s.gateways[name].stop()
	}
	s.awaitServing(east, 4)
	h := s.finished("east-1", "orders-auto-2")
	if h.By != "signalbox" || !strings.Contains(h.Reason, "1 of 1 voters have heard of no agent in west for 5s") {
		t.Errorf("begun by %q: %q", h.By, h.Reason)
	}
	if cert := s.verify(h); cert.Evidence[0].Kind != signalbox.SaysFence {
		t.Errorf("evidence %s", cert.Evidence[0].Kind)
	}
	s.comeBack(east, 4)
}

// TestSilentIsLapsedBeforeASwitch: with leases a silent instance of the old side
// holds a planned switchover up for a lapse only: it is announced, lapsed and
// removed before the block.
func TestSilentIsLapsedBeforeASwitch(t *testing.T) {
	t.Parallel()
	s := newSite(t, leasing(time.Second)).run()
	s.agents["e2"].kill() // the instance closes by itself
	eventually(t, "e2 to be silent at west-1", func() bool {
		p, err := s.gateways["west-1"].coordinator.Plan(t.Context(), s.order(west))
		must(t, err)
		return slices.ContainsFunc(p.Checks, func(c api.Check) bool { return c.Name == "roster-heard" && !c.OK && !c.Blocking })
	})
	o := s.order(west)
	s.begin("west-1", o)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if len(h.Acks) != 1 || h.Acks[0].Instance != "e1" {
		t.Errorf("the roster: %+v", h.Acks)
	}
	s.awaitServing(west, 2)
}
