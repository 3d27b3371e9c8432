package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestApprovalOverREST: who asks and who approves are the client certificates';
// an order that waits is a problem of its own code, and the same request gives
// the handover once somebody else approved it.
func TestApprovalOverREST(t *testing.T) {
	fake := orders()
	fake.EditPeople(func(p *apitest.People) { p.NeedApproval = 1 })
	c := apitest.Start(t, 2, fake)
	alice, bob := newCaller(t, c, rpc.RoleOperator, "alice"), newCaller(t, c, rpc.RoleOperator, "bob")
	const key = "Idempotency-Key: 7f3a"
	p := alice.refused(http.StatusForbidden, api.CodeApproval, "POST", c.Gateways[0], "/v1/handovers", toWest, key)
	if p.Handover == "" || !strings.Contains(p.Do, "signalbox cutover approve "+p.Handover) {
		t.Fatalf("the problem does not say how to approve: %+v", p)
	}
	approve := "/v1/handovers/" + p.Handover + "/approve"
	if again := alice.refused(http.StatusForbidden, api.CodeApproval, "POST", c.Gateways[1], "/v1/handovers", toWest, key); again.Handover != p.Handover {
		t.Errorf("the same order waits as %s and as %s", p.Handover, again.Handover)
	}
	alice.refused(http.StatusForbidden, api.CodeRefused, "POST", c.Gateways[1], approve, `{}`)
	bob.refused(http.StatusNotFound, api.CodeUnknown, "POST", c.Gateways[1], "/v1/handovers/orders-nothing/approve", `{}`)
	var reply api.ApproveReply
	bob.accepted(http.StatusOK, &reply, "POST", c.Gateways[1], approve, `{"reason":"looked"}`)
	if reply.Handover == nil || reply.Handover.By != "operator/alice" || reply.Order.Approved[0].By != "operator/bob" {
		t.Errorf("approved: %+v", reply)
	}
	var begun api.SwitchReply
	alice.accepted(http.StatusAccepted, &begun, "POST", c.Gateways[0], "/v1/handovers", toWest, key)
	if begun.Handover == nil || begun.Handover.ID != p.Handover {
		t.Errorf("the order repeated: %+v", begun)
	}
}

// TestPauseOverREST: a pause has an end and a reason, and says who paused.
func TestPauseOverREST(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 1, fake)
	alice, gw := newCaller(t, c, rpc.RoleOperator, "alice"), c.Gateways[0]
	for _, body := range []string{`{}`, `{"for_ms":60000}`, `{"for_ms":60000,"reason":""}`, `{"for_ms":0,"reason":"r"}`, `{"for_ms":2592000001,"reason":"r"}`, `{"reason":"r"}`} {
		alice.refused(http.StatusUnprocessableEntity, api.CodeInvalid, "POST", gw, "/v1/services/orders/pause", body)
	}
	alice.refused(http.StatusNotFound, api.CodeUnknown, "POST", gw, "/v1/services/nothing/pause", `{"for_ms":60000,"reason":"r"}`)
	alice.refused(http.StatusConflict, api.CodeConflict, "POST", gw, "/v1/services/orders/resume", `{}`)
	var rules api.ServiceRules
	before := time.Now()
	alice.accepted(http.StatusOK, &rules, "POST", gw, "/v1/services/orders/pause", `{"for_ms":60000,"reason":"migration"}`)
	if p := rules.Pause; p == nil || p.By != "operator/alice" || p.Until.Before(before.Add(time.Minute).Truncate(time.Millisecond)) || rules.Waiting == nil || rules.Now == nil {
		t.Errorf("paused: %+v", rules)
	}
	agent := newCaller(t, c, rpc.RoleAgent, "app")
	agent.refused(http.StatusForbidden, api.CodeUntrusted, "POST", gw, "/v1/services/orders/resume", `{}`)
	rules = api.ServiceRules{}
	alice.accepted(http.StatusOK, &rules, "POST", gw, "/v1/services/orders/resume", `{}`)
	if rules.Pause != nil {
		t.Errorf("resumed: %+v", rules.Pause)
	}
}

// TestWaysBackOverREST: a revert carries who asked and why, once for each key; a
// failback goes to where the service was, and plans it in a dry run.
func TestWaysBackOverREST(t *testing.T) {
	fake := orders()
	fake.Edit(func(s *apitest.State) {
		s.Handovers = []api.Handover{{ID: "orders-aaaaaaaaaaaa", Service: "orders", From: "west", To: "east", Term: 7, CertifiedTerm: 7, Outcome: api.OutcomeForward}}
	})
	c := apitest.Start(t, 2, fake)
	alice, gw := newCaller(t, c, rpc.RoleOperator, "alice"), c.Gateways[0]
	alice.refused(http.StatusForbidden, api.CodeRefused, "POST", gw, "/v1/services/orders/failback", `{}`)
	fake.EditPeople(func(p *apitest.People) { p.Homes = map[string]string{"orders": "west"} })
	var reply api.SwitchReply
	alice.accepted(http.StatusOK, &reply, "POST", gw, "/v1/services/orders/failback", `{"dry_run":true}`)
	if reply.Plan == nil || reply.Plan.To != "west" || len(fake.Orders()) != 0 {
		t.Errorf("a failback's plan: %+v", reply)
	}
	alice.refused(http.StatusNotFound, api.CodeUnknown, "POST", gw, "/v1/handovers/nothing/revert", `{}`)
	var first, second api.RevertReply
	const key = "Idempotency-Key: r1"
	response := alice.accepted(http.StatusAccepted, &first, "POST", gw, "/v1/handovers/orders-aaaaaaaaaaaa/revert", `{"reason":"errors","break_glass":"now"}`, key)
	if first.How != api.RevertSwitched || first.Handover.To != "west" || response.Header.Get("Location") != "/v1/handovers/"+first.Handover.ID {
		t.Errorf("reverted: %+v", first)
	}
	alice.accepted(http.StatusAccepted, &second, "POST", c.Gateways[1], "/v1/handovers/orders-aaaaaaaaaaaa/revert", `{"reason":"errors","break_glass":"now"}`, key)
	if second.Handover.ID != first.Handover.ID || len(fake.Orders()) != 1 {
		t.Errorf("the same revert again: %s and %s, %d orders", first.Handover.ID, second.Handover.ID, len(fake.Orders()))
	}
	if o := fake.Orders()[0]; o.By != "operator/alice" || o.BreakGlass != "now" {
		t.Errorf("ordered %+v", o)
	}
}

// TestSurveysOverREST: lists are lists also where there is nothing.
func TestSurveysOverREST(t *testing.T) {
	c := apitest.Start(t, 1, orders())
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	for _, path := range []string{"/v1/readiness", "/v1/data-centers/east/evacuation", "/v1/services/orders/rules"} {
		response, data := alice.do("GET", c.Gateways[0], path, "")
		if response.StatusCode != http.StatusOK || strings.Contains(string(data), "null") {
			t.Errorf("%s: %d %s", path, response.StatusCode, data)
		}
	}
	alice.refused(http.StatusNotFound, api.CodeUnknown, "GET", c.Gateways[0], "/v1/services/nothing/rules", "")
}
