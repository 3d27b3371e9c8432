package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
	"github.com/signalbox-io/signalbox/rpc"
)

// governed is a world in which people said something of everything.
func governed() *apitest.Fake {
	fake := world()
	glass := api.BrokenGlass{Handover: "orders-aaaaaaaaaaaa", Term: 7, By: "operator/bob", Reason: "west burns", Overrides: []string{"pause", "freeze"}, At: ptr(apitest.Epoch)}
	pause := &api.Pause{Until: apitest.Epoch.Add(2 * time.Hour), Since: apitest.Epoch, By: "operator/carol", Reason: "schema migration"}
	fake.Edit(func(s *apitest.State) {
		o := &s.Services[1]
		o.Paused, o.Approvals, o.BreakGlass = pause, []string{"orders-cccccccccccc"}, &glass
		s.Handovers[0].BreakGlass = &glass
	})
	fake.EditPeople(func(p *apitest.People) {
		p.Rules = map[string]api.ServiceRules{"orders": {
			MinStanding: 2, MinIntervalMS: 600000, Approvals: 1, DependsOn: []string{"ledger"}, Pause: pause,
			Freezes:    []api.FreezeWindow{{Name: "weekend", Active: true, Until: ptr(apitest.Epoch.Add(20 * time.Hour))}, {Name: "holidays", Next: ptr(apitest.Epoch.Add(700 * time.Hour))}},
			LastMove:   &api.Move{Handover: "orders-aaaaaaaaaaaa", From: "west", To: "east", Term: 7, By: "operator/bob", At: apitest.Epoch},
			BreakGlass: []api.BrokenGlass{glass}, BreakGlassTotal: 3,
			Now: []api.RuleState{
				{Rule: "pause", To: "west", Blocks: true, Detail: "operator/carol paused orders", Do: "signalbox service resume orders ends it"},
				{Rule: "min-standing", To: "west", Detail: "3 instances stand ready in west, and there have to be 2"}},
		}}
		p.Waiting = []api.WaitingOrder{{ID: "orders-cccccccccccc", Service: "orders", From: "east", To: "west", Current: "east@7", By: "operator/dave", Reason: "power work", Asked: apitest.Epoch, Until: apitest.Epoch.Add(time.Hour), Needed: 2,
			Approved: []api.Approved{{By: "operator/erin", At: apitest.Epoch}}}}
		p.Readiness = api.Readiness{Gateway: "gw-east-1", At: apitest.Epoch,
			Checks: []api.Check{{Name: "voters", OK: true, Detail: "3 of 3"}, {Name: "certificates", Detail: "expires soon: agent/east/app (in 6 days)", Do: "signalbox keys rotate"}},
			Services: []api.ServiceReadiness{{Service: "orders", State: "steady", Master: "east", Term: 7, Serving: 3, Instances: 3, Targets: []api.TargetReadiness{
				{DataCenter: "west", Standing: 1, Instances: 3, LagBytes: 4096, LagMS: 250, Checks: []api.Check{{Name: "target-ready", Blocking: true, Detail: "orders-west-2 lags", Do: "wait"}, {Name: "managed", OK: true, Blocking: true, Detail: "it is"}}}}}}}
		p.Evacuation = api.Evacuation{Legs: []api.Leg{
			{Service: "ledger", From: "east", To: "west", Current: "east@3", Ready: true, PredictedHoldMS: 12.5},
			{Service: "orders", From: "east", To: "west", Current: "east@7", After: []string{"ledger"}, Blocks: []string{"operator/carol paused orders; ask"}}}}
	})
	return fake
}

// TestRulesTables: what people said is shown in every place where somebody looks
// at three in the morning; broken glass for ever.
func TestRulesTables(t *testing.T) {
	alice := newPerson(t, apitest.Start(t, 1, governed()))
	for name, c := range map[string]struct {
		code int
		args []string
	}{
		"rules": {exitOK, []string{"service", "rules", "orders"}}, "rules-status": {exitOK, []string{"status"}},
		"rules-history": {exitOK, []string{"history"}}, "rules-report": {exitOK, []string{"cutover", "report", "orders-aaaaaaaaaaaa"}},
		"readiness": {exitRefused, []string{"readiness"}}, "readiness-wide": {exitRefused, []string{"readiness", "-o", "wide"}},
		"evacuate-plan": {exitRefused, []string{"evacuate", "east", "--dry-run"}},
	} {
		out, _ := alice.expect(c.code, c.args...)
		path := filepath.Join("testdata", "client", name+".golden")
		if *updateClient {
			if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || string(want) != out {
			t.Errorf("%s differs (%v); with -update-client it is written anew:\n%s", path, err, out)
		}
	}
	for _, verb := range [][]string{{"service", "rules", "orders"}, {"readiness"}, {"evacuate", "east", "--dry-run"}} {
		_, out, _ := alice.run(append(verb, "-o", "json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%v -o json: %s", verb, out)
		}
	}
}

// TestPauseAndResume: both say what holds now.
func TestPauseAndResume(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	out, _ := alice.expect(exitOK, "service", "pause", "orders", "--for", "2h", "--reason", "migration")
	contains(t, out, "orders: paused by operator/alice until ", ": migration")
	out, _ = alice.expect(exitOK, "service", "resume", "orders")
	contains(t, out, "orders: not paused")
	_, err := alice.expect(exitConflict, "service", "resume", "orders")
	contains(t, err, "it is not paused")
	alice.expect(exitFailure, "service", "pause", "nothing", "--reason", "r")
}

// TestApproveWhileOneWaits: a switch that needs approval says whom it waits for,
// and goes on when another operator approves; nobody approves for themselves.
func TestApproveWhileOneWaits(t *testing.T) {
	fake := world()
	c := apitest.Start(t, 1, fake)
	alice, bob := newPerson(t, c), &person{t, c.Bundle(t, rpc.RoleOperator, "bob")}
	fake.EditPeople(func(p *apitest.People) { p.NeedApproval = 1 })
	play(fake, func(id string) { end(fake, id, api.OutcomeForward, 8) })

	_, err := alice.expect(exitRefused, "switch", "orders", "--to", "west", "--wait=false")
	contains(t, err, "other people have to approve", "signalbox cutover approve orders-")
	longer(t, time.Second, func(timeout string) bool {
		_, err = alice.expect(exitTimeout, "switch", "orders", "--to", "west", "--timeout", timeout)
		if !strings.Contains(err, "order orders-") {
			return false // it was over before the order was answered
		}
		contains(t, err, "timed out: order orders-", "still waits for approval, and begins with the last one", "signalbox watch --handover orders-")
		return true
	})

	var mine string
	fake.EditPeople(func(p *apitest.People) {
		p.Waiting = nil
	})
	done := make(chan string)
	var stdout, stderr buffer
	go func() {
		code := run([]string{"switch", "orders", "--to", "west", "--timeout", "30s", "--bundle", alice.bundle}, stdio{strings.NewReader(""), &stdout, &stderr})
		done <- map[bool]string{true: "moved"}[code == exitOK]
	}()
	deadline := time.After(30 * time.Second)
	for mine == "" {
		fake.EditPeople(func(p *apitest.People) {
			if len(p.Waiting) > 0 {
				mine = p.Waiting[0].ID
			}
		})
		select {
		case <-deadline:
			t.Fatal("no order waits")
		case <-time.After(5 * time.Millisecond):
		}
	}
	_, err = alice.expect(exitRefused, "cutover", "approve", mine)
	contains(t, err, "somebody else has to approve")
	out, saw := bob.expect(exitOK, "cutover", "approve", mine, "--wait=false")
	contains(t, saw, "approves what operator/alice signed: switch orders from east@7 to west")
	contains(t, out, mine+" is accepted")
	end(fake, mine, api.OutcomeForward, 8)
	if result := <-done; result != "moved" {
		t.Errorf("the one who waited: %q\n%s", result, stderr.String())
	}
	contains(t, stderr.String(), "waiting; it begins without this command too")
	contains(t, stdout.String(), "orders: west is master (west@8)")
	bob.expect(exitFailure, "cutover", "approve", "orders-nothing")
}

// TestApproveOneOfTwo: while others have to approve too, it says so.
func TestApproveOneOfTwo(t *testing.T) {
	fake := governed()
	fake.EditPeople(func(p *apitest.People) { p.Waiting[0].Approved = nil })
	alice := newPerson(t, apitest.Start(t, 1, fake))
	out, _ := alice.expect(exitOK, "cutover", "approve", "orders-cccccccccccc")
	contains(t, out, "1 of 2 approved by operator/alice", "waits until")
}

// TestRevertVerb: done is switched back, open is given up; both are exit code 0
// when the data center before is master.
func TestRevertVerb(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	play(fake, func(id string) { end(fake, id, api.OutcomeForward, 8) })
	fake.Edit(func(s *apitest.State) {
		s.Handovers = s.Handovers[:1] // west to east, done
	})
	out := make(chan string)
	go func() {
		o, _ := alice.expect(exitOK, "cutover", "revert", "orders", "--reason", "errors")
		out <- o
	}()
	id := awaitOrder(t, fake)
	end(fake, id, api.OutcomeForward, 8)
	contains(t, <-out, "orders: west is master (west@8)")
	if o := fake.Orders()[0]; o.To != "west" {
		t.Errorf("ordered to %s", o.To)
	}
	signedAs(t, fake.Orders()[0], "operator/alice", "east", 7)
	alice.expect(exitUsage, "cutover", "revert", "orders", "--break-glass", "")
}

// signedAs wants the order that a gateway got to be signed, as exactly what it is.
func signedAs(t *testing.T, o api.Order, by string, from signalbox.DataCenter, term signalbox.Term) {
	t.Helper()
	m, err := rpc.InspectMandate(o.Mandate)
	if err != nil {
		t.Fatalf("the order of %s: %v", o.Service, err)
	}
	if m.By() != by || m.ID != o.ID || string(m.To) != o.To || m.From != from || m.Term != term || string(m.Service) != o.Service || m.HoldBudget != o.HoldBudget {
		t.Errorf("signed %+v, ordered %+v", m, o)
	}
}

// awaitOrder returns the id of the first order.
func awaitOrder(t *testing.T, fake *apitest.Fake) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		if o := fake.Orders(); len(o) > 0 {
			return o[0].ID
		}
		select {
		case <-deadline:
			t.Fatal("no order came")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestFailbackVerb: it goes where the service was before, and its plan says what
// that side has to do.
func TestFailbackVerb(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	_, err := alice.expect(exitRefused, "failback", "orders")
	contains(t, err, "never moved since it was adopted")
	fake.EditPeople(func(p *apitest.People) { p.Homes = map[string]string{"orders": "west"} })
	play(fake, func(id string) { end(fake, id, api.OutcomeForward, 8) })
	out, _ := alice.expect(exitOK, "failback", "orders", "--dry-run")
	contains(t, out, "orders: east@7 -> west, term 8")
	out, _ = alice.expect(exitOK, "failback", "orders", "--reason", "west is back", "--break-glass", "now")
	contains(t, out, "orders: west is master (west@8)")
	if o := fake.Orders()[0]; !o.Failback || o.To != "west" || o.BreakGlass != "now" || o.Reason != "west is back" {
		t.Errorf("ordered %+v", o)
	}
	signedAs(t, fake.Orders()[0], "operator/alice", "east", 7)
}

// TestEvacuate: services move in dependency order, at most so many at once; one
// that fails stops what depends on it and nothing else.
func TestEvacuate(t *testing.T) {
	fake := &apitest.Fake{}
	names := []string{"ledger", "orders", "web", "basket", "cart"}
	fake.Edit(func(s *apitest.State) {
		for _, n := range names {
			s.Services = append(s.Services, api.Service{Name: n, State: api.StateSteady, Master: "east", Term: 7})
		}
	})
	fake.EditPeople(func(p *apitest.People) {
		for _, n := range names {
			after := map[string][]string{"orders": {"ledger"}, "web": {"ledger", "orders"}, "cart": {"basket"}}[n]
			p.Evacuation.Legs = append(p.Evacuation.Legs, api.Leg{Service: n, From: "east", To: "west", Current: "east@7", After: after, Ready: true})
		}
	})
	var mu sync.Mutex
	var log []string
	open, most := 0, 0
	fake.Edit(func(s *apitest.State) {
		s.OnSwitch = func(o api.Order) {
			mu.Lock()
			log = append(log, o.Service)
			open++
			most = max(most, open)
			mu.Unlock()
			go func() {
				outcome := api.OutcomeForward
				if o.Service == "basket" {
					outcome = api.OutcomeFallback
				}
				mu.Lock()
				open--
				mu.Unlock()
				fake.Update(o.ID, func(h *api.Handover) { h.Outcome, h.GivenUp, h.HoldMS = outcome, "a proxy was late", ptr(5.0) })
			}()
		}
	})
	alice := newPerson(t, apitest.Start(t, 1, fake))
	out, progress := alice.expect(exitReverted, "evacuate", "east", "--reason", "power", "--parallel", "2")
	contains(t, out, "2 of 5 services are left: basket, cart", "signalbox evacuate east", "not begun: it depends on basket, which did not move")
	contains(t, progress, "ledger: moved (west)", "basket: reverted (west): a proxy was late")
	place := func(name string) int { return strings.Index(strings.Join(log, " ")+" ", name+" ") }
	if len(log) != 4 || place("ledger") > place("orders") || place("orders") > place("web") || place("cart") >= 0 {
		t.Errorf("moved in the order %v", log)
	}
	if most > 2 {
		t.Errorf("%d at once", most)
	}
	if o := fake.Orders()[0]; o.Expect != "east@7" || o.Reason != "evacuation of east: power" {
		t.Errorf("ordered %+v", o)
	}
	for _, o := range fake.Orders() {
		signedAs(t, o, "operator/alice", "east", 7)
	}
	fake.EditPeople(func(p *apitest.People) { p.Evacuation.Legs = nil })
	out, _ = alice.expect(exitOK, "evacuate", "east")
	contains(t, out, "no service has its master here")
}

// TestEvacuateExitCode: what is still going is told before what failed.
func TestEvacuateExitCode(t *testing.T) {
	for results, want := range map[string]int{
		"moved": exitOK, "moved refused stopped": exitRefused, "reverted refused": exitReverted, "timed-out reverted": exitTimeout,
		"conflict refused": exitConflict, "failed": exitFailure, "": exitOK,
	} {
		e := &evacuated{}
		for _, r := range strings.Fields(results) {
			e.Legs = append(e.Legs, legEnd{Result: r})
		}
		if got := e.exitCode(); got != want {
			t.Errorf("%q: %d, want %d", results, got, want)
		}
	}
}
