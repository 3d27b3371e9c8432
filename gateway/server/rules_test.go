package server

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

const ada, bob = "operator/ada", "operator/bob"

// withRules gives the site's service safety rules.
func withRules(r policy.Rules) func(*site) {
	return func(s *site) { s.services[0].Rules = r }
}

// signs signs a mandate as an operator does, with the bundle of the name.
func (s *site) signs(name string, m signalbox.Mandate) []byte {
	s.t.Helper()
	b, err := identity.Load(s.bundle(rpc.Principal{Role: rpc.RoleOperator, Name: name}))
	must(s.t, err)
	pair, err := tls.LoadX509KeyPair(b.Files().Certificate, b.Files().Key)
	must(s.t, err)
	m.Operator, m.Service, m.At = name, orders, time.Now()
	raw, err := rpc.SealMandate(testCluster, m, b.Operator, pair)
	must(s.t, err)
	return raw
}

// signed is an order as an operator signs it; it breaks the glass of these rules.
func (s *site) signed(name string, verb signalbox.Verb, o api.Order, overrides ...signalbox.SafetyRule) api.Order {
	s.t.Helper()
	v := s.service("east-1")
	m := signalbox.Mandate{
		Verb: verb, ID: o.ID, From: signalbox.DataCenter(v.Master), To: signalbox.DataCenter(o.To), Term: signalbox.Term(v.Term),
		HoldBudget: o.HoldBudget, AllowLateProxies: o.AllowLateProxies, Reason: o.Reason,
	}
	if o.BreakGlass != "" {
		m.BreakGlass = &signalbox.BreakGlass{Reason: o.BreakGlass, Overrides: overrides}
	}
	o.By, o.Mandate = "operator/"+name, s.signs(name, m)
	return o
}

// pauses is an operator's word to pause, or to end it.
func (s *site) pauses(name string, until time.Time, reason string) api.Word {
	m := signalbox.Mandate{Verb: signalbox.VerbPause, Until: until, Reason: reason}
	if until.IsZero() {
		m.Verb = signalbox.VerbResume
	}
	return api.Word{By: "operator/" + name, Reason: reason, Mandate: s.signs(name, m)}
}

// approves is an operator's approval of the order that waits at a gateway.
func (s *site) approves(gateway, name, id, reason string) api.Word {
	s.t.Helper()
	rules, err := s.gateways[gateway].coordinator.Rules(context.Background(), "orders")
	must(s.t, err)
	m := signalbox.Mandate{Verb: signalbox.VerbApprove, ID: id, Of: signalbox.Digest{1}, Reason: reason}
	for _, w := range rules.Waiting {
		if w.ID == id {
			m.Of = rpc.MandateDigest(w.Mandate)
		}
	}
	return api.Word{By: "operator/" + name, Reason: reason, Mandate: s.signs(name, m)}
}

// lie has a handover decided without asking the gateway's own coordinator, as a
// gateway would that knows no rules.
func (s *site) lie(gateway string, to signalbox.DataCenter) error {
	s.t.Helper()
	g := s.gateways[gateway]
	h := &signalbox.Handover{ID: "lie", Service: orders, To: to, Allowed: signalbox.AckOnly, HoldBudget: time.Second, By: "operator/mallory"}
	g.journal.View(func(l *handover.Ledger) {
		st := l.Service(orders)
		h.From, h.Term, h.Fallback, h.Roster = st.Master(), st.Last+1, st.Last+2, l.Roster(orders, to)
		for _, in := range l.Instances(orders) {
			if in.DataCenter == to {
				h.Incoming = append(h.Incoming, in.Identity)
			}
		}
	})
	return g.peers.ProposeTo(context.Background(), signalbox.Request{Handover: h})
}

// service returns a gateway's view of the service.
func (s *site) service(gateway string) api.Service {
	s.t.Helper()
	list, err := s.gateways[gateway].coordinator.Services(context.Background())
	must(s.t, err)
	return list[0]
}

// TestPauseHoldsEverywhere: a pause at one gateway holds at all, also where a
// gateway does not ask; break-glass overrides it and stays visible.
func TestPauseHoldsEverywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting("east-1", "west-1", "west-2")).run()
	s.ready("west-2", s.order(west))
	until := time.Now().Add(time.Hour)
	rules, err := s.gateways["east-2"].coordinator.Pause(t.Context(), "orders", until, s.pauses("bob", until, "schema migration"))
	must(t, err)
	if rules.Pause == nil || rules.Pause.By != bob {
		t.Fatalf("rules say %+v", rules.Pause)
	}
	for _, name := range gatewayNames {
		eventually(t, name+" to show the pause", func() bool {
			v := s.service(name)
			return v.Paused != nil && v.Paused.Reason == "schema migration"
		})
	}
	s.sameAgain()
	o := s.order(west)
	_, err = s.gateways["west-1"].coordinator.Switch(t.Context(), o)
	if !errors.Is(err, signalbox.ErrRefused) || !strings.Contains(err.Error(), bob) || !strings.Contains(err.Error(), until.UTC().Format(time.RFC3339)) {
		t.Errorf("switch while paused: %v", err)
	}
	if err := s.lie("west-2", west); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("the voter took a handover of a paused service: %v", err)
	}
	if v := s.service("west-1"); v.DataCenters[1].Target {
		t.Error("a paused service can be moved, says the status")
	}
	o.BreakGlass = "east burns"
	if _, err := s.gateways["west-1"].coordinator.Switch(t.Context(), o); !errors.Is(err, signalbox.ErrUnsigned) {
		t.Errorf("broken glass that nobody signed: %v", err)
	}
	o = s.signed("test", signalbox.VerbSwitch, o, signalbox.RulePause)
	s.begin("west-1", o)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if h.BreakGlass == nil || h.BreakGlass.Reason != "east burns" || h.BreakGlass.Overrides[0] != "pause" {
		t.Errorf("the record says %+v", h.BreakGlass)
	}
	for _, name := range gatewayNames {
		if v := s.service(name); v.BreakGlass == nil || v.BreakGlass.By != "operator/test" || v.BreakGlass.Handover != o.ID {
			t.Errorf("%s: the status says %+v", name, v.BreakGlass)
		}
	}
	if _, err = s.gateways["west-2"].coordinator.Pause(t.Context(), "orders", time.Time{}, api.Word{By: ada}); !errors.Is(err, signalbox.ErrUnsigned) {
		t.Errorf("the end of a pause that nobody signed: %v", err)
	}
	_, err = s.gateways["west-2"].coordinator.Pause(t.Context(), "orders", time.Time{}, s.pauses("ada", time.Time{}, ""))
	must(t, err)
	if _, err = s.gateways["west-2"].coordinator.Pause(t.Context(), "orders", time.Time{}, s.pauses("ada", time.Time{}, "")); !errors.Is(err, signalbox.ErrConflict) {
		t.Errorf("the end of no pause: %v", err)
	}
	back := s.order(east)
	s.begin("east-1", back)
	s.wantOutcome(back.ID, api.OutcomeForward, 4)
}

// sameAgain has every gateway ask for the newest decision again, as one does whose
// first voter is slow: all are told that it is decided, and it is not decided again.
func (s *site) sameAgain() {
	s.t.Helper()
	s.sameLog()
	j := s.gateways["west-1"].journal
	before := j.Index()
	b, err := j.Block(before)
	must(s.t, err)
	for _, name := range gatewayNames {
		if err := s.gateways[name].peers.ProposeTo(s.t.Context(), b.Requests[0]); err != nil {
			s.t.Errorf("%s: what was decided is asked for again: %v", name, err)
		}
	}
	if now := j.Index(); now != before {
		s.t.Errorf("decided again: block %d, then %d", before, now)
	}
}

// TestApprovalBegins: an order waits in the log, at every gateway, until another
// person approves it at any of them; then it begins as it was ordered.
func TestApprovalBegins(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting("east-1", "west-1", "west-2"), withRules(policy.Rules{Approvals: 1})).run()
	o := s.order(west)
	o.By = ada
	s.ready("east-1", o)
	if _, err := s.gateways["east-1"].coordinator.Switch(t.Context(), o); !errors.Is(err, signalbox.ErrUnsigned) {
		t.Errorf("an order that ada did not sign: %v", err)
	}
	o = s.signed("ada", signalbox.VerbSwitch, o)
	var f *api.Fault
	_, err := s.gateways["east-1"].coordinator.Switch(t.Context(), o)
	if !errors.As(err, &f) || f.Code != api.CodeApproval || f.Handover != o.ID || !errors.Is(err, signalbox.ErrRefused) {
		t.Fatalf("an order without approval: %v", err)
	}
	if err := s.lie("west-2", west); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("the voter took a handover that nobody approved: %v", err)
	}
	eventually(t, "west-2 to show the order", func() bool {
		v := s.service("west-2")
		return len(v.Approvals) == 1 && v.Approvals[0] == o.ID
	})
	other := s.gateways["west-2"].coordinator
	if _, err := other.Approve(t.Context(), o.ID, s.approves("west-2", "ada", o.ID, "")); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("one's own approval: %v", err)
	}
	if _, err := other.Approve(t.Context(), o.ID, api.Word{By: "gateway/west/west-2"}); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("a gateway's approval: %v", err)
	}
	if _, err := other.Approve(t.Context(), o.ID, api.Word{By: bob}); !errors.Is(err, signalbox.ErrUnsigned) {
		t.Errorf("an approval that a gateway claims to be bob's: %v", err)
	}
	claimed := s.approves("west-2", "carl", o.ID, "")
	claimed.By = bob
	if _, err := other.Approve(t.Context(), o.ID, claimed); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("carl's signature as bob's: %v", err)
	}
	s.ready("west-2", o)
	reply, err := other.Approve(t.Context(), o.ID, s.approves("west-2", "bob", o.ID, "looked"))
	must(t, err)
	if reply.Handover == nil || reply.Handover.By != ada || reply.Order.Approved[0].By != bob {
		t.Fatalf("approved: %+v", reply)
	}
	if h := s.wantOutcome(o.ID, api.OutcomeForward, 2); !h.Signed {
		t.Error("the record does not say that ada signed it")
	}
	again, err := s.gateways["east-1"].coordinator.Switch(t.Context(), o)
	if err != nil || again.ID != o.ID {
		t.Errorf("the same order again: %v, %v", again.ID, err)
	}
	if reply, err := other.Approve(t.Context(), o.ID, api.Word{By: bob}); err != nil || reply.Handover == nil {
		t.Errorf("the same approval again: %v", err)
	}
}

// TestIntervalComesFromTheLog: the interval holds at gateways that were not
// asked for the first move, after a restart too; one way back is allowed.
func TestIntervalComesFromTheLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, withRules(policy.Rules{MinInterval: time.Hour, MinStanding: 2})).run()
	there := s.order(west)
	s.begin("east-1", there)
	s.wantOutcome(there.ID, api.OutcomeForward, 2)
	s.restart("west-2")
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	back := s.order(east)
	s.begin("west-2", back)
	s.wantOutcome(back.ID, api.OutcomeForward, 4)
	s.converged()
	o := s.order(west)
	if _, err := s.gateways["west-1"].coordinator.Switch(t.Context(), o); !errors.Is(err, signalbox.ErrRefused) || !strings.Contains(err.Error(), "1h0m0s have to lie between two moves") {
		t.Errorf("there again: %v", err)
	}
	if err := s.lie("west-1", west); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("the voter: %v", err)
	}
}

// TestRevert: what is done is switched back, what is open is given up, and what
// cannot be taken back says why. Failback goes where the service was.
func TestRevert(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	g := s.gateways["west-1"].coordinator
	if _, err := g.Home(t.Context(), "orders"); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("home of a service that never moved: %v", err)
	}
	first := s.order(west)
	s.begin("east-1", first)
	s.wantOutcome(first.ID, api.OutcomeForward, 2)
	s.converged()
	home, err := g.Home(t.Context(), "orders")
	if err != nil || home != "east" {
		t.Errorf("home %q, %v", home, err)
	}
	o := s.order(east)
	o.Failback = true
	p, err := g.Plan(t.Context(), o)
	must(t, err)
	if check := p.Checks[len(p.Checks)-1]; check.Name != "old-side-back" || !check.OK {
		t.Errorf("failback's check: %+v", check)
	}
	s.ready("west-1", o)
	reply, err := g.Revert(t.Context(), first.ID, api.Order{ID: "revert-1", By: ada, Reason: "errors", HoldBudget: signalbox.MaxHoldBudget, AllowLateProxies: true})
	must(t, err)
	if reply.How != api.RevertSwitched || reply.Handover.To != "east" || !strings.Contains(reply.Handover.Reason, first.ID) {
		t.Errorf("reverted: %+v", reply)
	}
	s.wantOutcome("revert-1", api.OutcomeForward, 4)
	s.converged()
	if _, err := g.Revert(t.Context(), first.ID, api.Order{ID: "revert-2", By: ada}); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("an older handover: %v", err)
	}
	if _, err := g.Revert(t.Context(), "adopt-1", api.Order{ID: "revert-3", By: ada}); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("an adoption: %v", err)
	}
	if _, err := g.Revert(t.Context(), "nobody", api.Order{ID: "revert-4", By: ada}); !errors.Is(err, signalbox.ErrUnknown) {
		t.Errorf("none: %v", err)
	}
	s.agents["e1"].in.set(func(i *instance) { i.inFlight = 1 })
	open := s.order(west)
	s.begin("east-2", open)
	eventually(t, "west-1 to know of it", func() bool { _, err := g.Handover(t.Context(), open.ID); return err == nil })
	reply, err = g.Revert(t.Context(), open.ID, api.Order{ID: "revert-5", By: ada, Reason: "stuck"})
	if err != nil || reply.How != api.RevertGivenUp {
		t.Errorf("an open one: %+v, %v", reply, err)
	}
	s.wantOutcome(open.ID, api.OutcomeFallback, 7)
}

// TestReadiness: it names what blocks, for a service and for all, and an
// evacuation plans what it says.
func TestReadiness(t *testing.T) {
	t.Parallel()
	s := newSite(t, withRules(policy.Rules{MinStanding: 2})).run()
	g := s.gateways["east-1"].coordinator
	s.ready("east-1", s.order(west))
	eventually(t, "two to serve and two to stand", func() bool {
		r, err := g.Readiness(t.Context(), "orders")
		must(t, err)
		return r.Ready && len(r.Services) == 1 && len(r.Services[0].Targets) == 1 && r.Services[0].Targets[0].Standing == 2 && r.Services[0].Serving == 2
	})
	named := 0
	for _, e := range (&expiries{keeper: s.gateways["east-1"].keeper, dir: s.gateways["east-1"].opt.Bundle.Dir}).list() {
		if e.What == "agent/east/e1" || e.What == "gateway/west/west-2" || e.What == "the CA" || e.What == "this gateway" {
			named++
		}
	}
	if named < 3 {
		t.Errorf("%d of the certificates that end are known", named)
	}
	e, err := g.Evacuation(t.Context(), "east", "")
	if err != nil || !e.Ready || len(e.Legs) != 1 || e.Legs[0].To != "west" || e.Legs[0].Current != "east@1" {
		t.Errorf("evacuation: %+v, %v", e, err)
	}
	if _, err := g.Evacuation(t.Context(), "north", ""); !errors.Is(err, signalbox.ErrUnknown) {
		t.Errorf("evacuation of nowhere: %v", err)
	}
	s.agents["w2"].kill()
	eventually(t, "readiness to say that one instance is too few", func() bool {
		r, err := g.Readiness(t.Context(), "")
		must(t, err)
		for _, c := range r.Services[0].Targets[0].Checks {
			if c.Name == "min-standing" && !c.OK {
				return !r.Ready
			}
		}
		return false
	})
	if e, err = g.Evacuation(t.Context(), "east", "west"); err != nil || e.Ready || len(e.Legs[0].Blocks) == 0 {
		t.Errorf("evacuation: %+v, %v", e, err)
	}
}

// TestRulesOfFailovers: a pause holds a failover up, a freeze does not, and one
// that was approved begins as the failover that it was ordered as.
func TestRulesOfFailovers(t *testing.T) {
	t.Parallel()
	always := []policy.Freeze{{Name: "always", Begin: time.Now().Add(-time.Hour), End: time.Now().Add(time.Hour)}}
	s := newSite(t, counting(signalbox.Attest), withRules(policy.Rules{Approvals: 1, Freezes: always})).run()
	c := s.gateways["east-1"].coordinator
	o := s.failover(west)
	o.By, o.HoldBudget = ada, signalbox.MaxHoldBudget
	until := time.Now().Add(time.Hour)
	_, err := c.Pause(t.Context(), "orders", until, s.pauses("bob", until, "migration"))
	must(t, err)
	if _, err := c.Failover(t.Context(), o); !errors.Is(err, signalbox.ErrRefused) || !strings.Contains(err.Error(), "paused") {
		t.Errorf("a failover while paused: %v", err)
	}
	_, err = c.Pause(t.Context(), "orders", time.Time{}, s.pauses("bob", time.Time{}, ""))
	must(t, err)
	if p, err := c.Plan(t.Context(), o.Order); err != nil || p.Ready {
		t.Errorf("a switch while frozen: %+v, %v", p.Blocks, err)
	}
	eventually(t, "the failover to be ready", func() bool {
		p, err := c.FailoverPlan(t.Context(), o)
		return err == nil && p.Ready
	})
	var f *api.Fault
	o.Order = s.signed("ada", signalbox.VerbFailover, o.Order)
	if _, err := c.Failover(t.Context(), o); !errors.As(err, &f) || f.Code != api.CodeApproval {
		t.Fatalf("a failover that nobody approved: %v", err)
	}
	reply, err := c.Approve(t.Context(), o.ID, s.approves("east-1", "bob", o.ID, ""))
	must(t, err)
	if reply.Handover == nil || !strings.Contains(reply.Handover.Allowed, "attest") {
		t.Errorf("approved: %+v", reply.Handover)
	}
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if h.By != ada {
		t.Errorf("by %s", h.By)
	}
}
