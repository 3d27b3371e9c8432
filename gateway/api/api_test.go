package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
	"github.com/signalbox-io/signalbox/rpc"
)

// caller speaks to gateways with one certificate.
type caller struct {
	t    *testing.T
	http *http.Client
}

func newCaller(t *testing.T, c *apitest.Cluster, role rpc.Role, name string) *caller {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c.Keeper(t, c.Bundle(t, role, name)).Client(rpc.RoleGateway)}
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{t, &http.Client{Transport: transport}}
}

// do sends a request; headers are "Name: value".
func (c *caller) do(method string, gw *apitest.Gateway, path, body string, headers ...string) (*http.Response, []byte) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, "https://"+gw.Address+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response, data
}

// refused expects a problem with this status and code, with something to do.
func (c *caller) refused(status int, code string, method string, gw *apitest.Gateway, path, body string, headers ...string) api.Problem {
	c.t.Helper()
	response, data := c.do(method, gw, path, body, headers...)
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, data)
	}
	if response.StatusCode != status || p.Code != code || p.Status != status || p.Do == "" || p.Detail == "" ||
		p.Type != "urn:signalbox:problem:"+code || response.Header.Get("Content-Type") != "application/problem+json" {
		c.t.Errorf("%s %s: %d %s, want %d %s: %s", method, path, response.StatusCode, p.Code, status, code, data)
	}
	return p
}

// accepted expects a 2xx and reads it into out.
func (c *caller) accepted(status int, out any, method string, gw *apitest.Gateway, path, body string, headers ...string) *http.Response {
	c.t.Helper()
	response, data := c.do(method, gw, path, body, headers...)
	if response.StatusCode != status {
		c.t.Fatalf("%s %s: %d, want %d: %s", method, path, response.StatusCode, status, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, data)
	}
	return response
}

func orders() *apitest.Fake {
	fake := &apitest.Fake{}
	fake.Edit(func(s *apitest.State) {
		s.Services = []api.Service{{Name: "orders", Protocol: "http", State: api.StateSteady, Master: "east", Term: 7, HoldBudgetMS: 5000}}
	})
	return fake
}

const toWest = `{"service":"orders","to":"west"}`

// A switch is accepted with its Location; the order says who asked and why.
func TestSwitchIsAccepted(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 1, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	var reply api.SwitchReply
	response := alice.accepted(http.StatusAccepted, &reply, "POST", c.Gateways[0], "/v1/handovers",
		`{"service":"orders","to":"west","reason":"power work","hold_budget_ms":3000,"allow_late_proxies":true}`)
	if reply.Handover == nil || response.Header.Get("Location") != "/v1/handovers/"+reply.Handover.ID {
		t.Fatalf("no handover at its location: %v", reply)
	}
	got := fake.Orders()
	if len(got) != 1 || got[0].By != "operator/alice" || got[0].Reason != "power work" || got[0].HoldBudget.Milliseconds() != 3000 || !got[0].AllowLateProxies {
		t.Errorf("the order was %+v", got)
	}
	var record api.Handover
	alice.accepted(http.StatusOK, &record, "GET", c.Gateways[0], response.Header.Get("Location"), "")
	if record.To != "west" || record.Phases == nil {
		t.Errorf("the record was %+v", record)
	}
}

// The same key at another gateway gives the same handover and starts nothing
// twice, also when both requests are under way at once.
func TestKeyMakesASwitchHappenOnce(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 2, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	const key = "Idempotency-Key: 7f3a"
	ids := make(chan string, 8)
	for i := range cap(ids) {
		go func() {
			var reply api.SwitchReply
			_, data := alice.do("POST", c.Gateways[i%2], "/v1/handovers", toWest, key)
			_ = json.Unmarshal(data, &reply)
			if reply.Handover == nil {
				reply.Handover = &api.Handover{ID: string(data)}
			}
			ids <- reply.Handover.ID
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Errorf("got handover %s and %s", first, id)
		}
	}
	if n := len(fake.Orders()); n != 1 {
		t.Errorf("%d handovers were started", n)
	}
	alice.refused(422, api.CodeKeyReused, "POST", c.Gateways[0], "/v1/handovers", `{"service":"orders","to":"east"}`, key)
	// A gateway that has not seen the key knows the handover.
	fresh := newCaller(t, c, rpc.RoleOperator, "bob")
	fresh.refused(409, api.CodeConflict, "POST", c.Gateways[0], "/v1/handovers", toWest, key)
}

// A key that failed decides nothing: the repeated order may succeed.
func TestKeyOfARefusalIsForgotten(t *testing.T) {
	fake := orders()
	fake.Edit(func(s *apitest.State) {
		s.Fail = fmt.Errorf("switch: %w: 1 of 3 voters answers", signalbox.ErrUnavailable)
	})
	c := apitest.Start(t, 1, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	alice.refused(503, api.CodeUnavailable, "POST", c.Gateways[0], "/v1/handovers", toWest, "Idempotency-Key: k1")
	fake.Edit(func(s *apitest.State) { s.Fail = nil })
	var reply api.SwitchReply
	alice.accepted(202, &reply, "POST", c.Gateways[0], "/v1/handovers", toWest, "Idempotency-Key: k1")
	response := alice.accepted(202, &reply, "POST", c.Gateways[0], "/v1/handovers", toWest, "Idempotency-Key: k1")
	if response.Header.Get("Idempotent-Replayed") != "true" {
		t.Error("the answer was given anew")
	}
}

// Of two clients one wins; the other's conflict names the winner.
func TestConflictNamesTheOtherHandover(t *testing.T) {
	c := apitest.Start(t, 1, orders())
	var reply api.SwitchReply
	newCaller(t, c, rpc.RoleOperator, "alice").accepted(202, &reply, "POST", c.Gateways[0], "/v1/handovers", toWest)
	p := newCaller(t, c, rpc.RoleOperator, "bob").refused(409, api.CodeConflict, "POST", c.Gateways[0], "/v1/handovers", toWest)
	if p.Handover != reply.Handover.ID {
		t.Errorf("the conflict names %q, not %q", p.Handover, reply.Handover.ID)
	}
}

// If-Match that does not hold moves nothing and says what is current.
func TestIfMatch(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 1, fake)
	gw, alice := c.Gateways[0], newCaller(t, c, rpc.RoleOperator, "alice")
	p := alice.refused(412, api.CodeExpectation, "POST", gw, "/v1/handovers", toWest, `If-Match: "west@6"`)
	if p.Current != "east@7" {
		t.Errorf("current is %q", p.Current)
	}
	alice.refused(422, api.CodeInvalid, "POST", gw, "/v1/handovers", toWest, `If-Match: east@7`)
	alice.refused(422, api.CodeInvalid, "POST", gw, "/v1/handovers", toWest, `If-Match: "east@7", "west@8"`)
	alice.refused(422, api.CodeInvalid, "POST", gw, "/v1/handovers", `{"service":"orders","to":"west","expect":"east@6"}`, `If-Match: "east@7"`)
	if len(fake.Orders()) != 0 {
		t.Fatal("something was moved")
	}
	var service api.Service
	etag := alice.accepted(200, &service, "GET", gw, "/v1/services/orders", "").Header.Get("ETag")
	alice.accepted(202, &api.SwitchReply{}, "POST", gw, "/v1/handovers", toWest, "If-Match: "+etag)
}

// A dry run answers with the plan and moves nothing; the plan alone is a GET.
func TestDryRun(t *testing.T) {
	fake := orders()
	fake.Edit(func(s *apitest.State) {
		s.Plan = api.Plan{Term: 8, Checks: []api.Check{{Name: "target-ready", Detail: "no instance", Do: "start one"}}}
	})
	c := apitest.Start(t, 1, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	var reply api.SwitchReply
	alice.accepted(200, &reply, "POST", c.Gateways[0], "/v1/handovers", `{"service":"orders","to":"west","dry_run":true}`)
	var plan api.Plan
	alice.accepted(200, &plan, "GET", c.Gateways[0], "/v1/services/orders/plan?to=west", "")
	if reply.Plan == nil || reply.Plan.Term != 8 || plan.Term != 8 || plan.Roster == nil || len(fake.Orders()) != 0 {
		t.Errorf("plan %+v, orders %v", reply.Plan, fake.Orders())
	}
	alice.refused(422, api.CodeInvalid, "GET", c.Gateways[0], "/v1/services/orders/plan", "")
}

// Every sentinel keeps its kind across the wire.
func TestProblemsKeepTheirKind(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 1, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	for sentinel, want := range map[error]struct {
		status int
		code   string
	}{
		signalbox.ErrConflict:      {409, api.CodeConflict},
		signalbox.ErrExpectation:   {412, api.CodeExpectation},
		signalbox.ErrRefused:       {403, api.CodeRefused},
		signalbox.ErrNotReady:      {409, api.CodeNotReady},
		signalbox.ErrUnknown:       {404, api.CodeUnknown},
		signalbox.ErrInvalid:       {422, api.CodeInvalid},
		signalbox.ErrUntrusted:     {403, api.CodeUntrusted},
		signalbox.ErrNotConfigured: {501, api.CodeNotConfigured},
		signalbox.ErrUnavailable:   {503, api.CodeUnavailable},
		fmt.Errorf("disk is full"): {500, api.CodeInternal},
		context.DeadlineExceeded:   {503, api.CodeUnavailable},
	} {
		fake.Edit(func(s *apitest.State) {
			s.Fail = &api.Fault{Err: fmt.Errorf("switch: %w: because", sentinel), Do: "this", Checks: []api.Check{{Name: "lag"}}}
		})
		p := alice.refused(want.status, want.code, "POST", c.Gateways[0], "/v1/handovers", toWest)
		if p.Do != "this" || len(p.Checks) != 1 {
			t.Errorf("%s: lost what to do: %+v", want.code, p)
		}
		if root := api.SentinelOf(p.Code); root != nil && !errors.Is(sentinel, root) && !errors.Is(sentinel, context.DeadlineExceeded) {
			t.Errorf("%s stands for %v, not %v", p.Code, api.SentinelOf(p.Code), sentinel)
		}
	}
}

// Malformed requests are refused before anything is asked of the gateway.
func TestBadRequests(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 1, fake)
	gw, alice := c.Gateways[0], newCaller(t, c, rpc.RoleOperator, "alice")
	large := `{"service":"orders","to":"west","reason":"` + strings.Repeat("x", api.MaxBody) + `"}`
	alice.refused(413, api.CodeTooLarge, "POST", gw, "/v1/handovers", large)
	alice.refused(413, api.CodeTooLarge, "POST", gw, "/v1/handovers", large, "Idempotency-Key: big")
	for _, body := range []string{``, `{`, `[]`, `{"service":"orders"}`, `{"service":"orders","to":"west","unknown":1}`,
		`{"service":"Orders","to":"west"}`, `{"service":"orders","to":"west","expect":"east"}`,
		`{"service":"orders","to":"west","hold_budget_ms":15001}`, `{"service":"orders","to":7}`} {
		response, data := alice.do("POST", gw, "/v1/handovers", body)
		if response.StatusCode != 422 && response.StatusCode != 400 || !bytes.Contains(data, []byte(`"code":"invalid"`)) {
			t.Errorf("%s: %d %s", body, response.StatusCode, data)
		}
	}
	alice.refused(422, api.CodeInvalid, "POST", gw, "/v1/handovers", toWest, "Idempotency-Key: "+strings.Repeat("k", api.MaxKey+1))
	alice.refused(422, api.CodeInvalid, "POST", gw, "/v1/handovers", toWest, "Idempotency-Key: a key")
	alice.refused(422, api.CodeInvalid, "GET", gw, "/v1/handovers?limit=201", "")
	alice.refused(422, api.CodeInvalid, "GET", gw, "/v1/services?state=steady", "")
	alice.refused(404, api.CodeUnknown, "GET", gw, "/v1/nothing", "")
	alice.refused(404, api.CodeUnknown, "GET", gw, "/v1/services/nothing", "")
	alice.refused(404, api.CodeUnknown, "GET", gw, "/v1/handovers/nothing", "")
	if p := alice.refused(405, api.CodeUnknown, "DELETE", gw, "/v1/handovers", ""); !strings.Contains(p.Detail, "GET and POST") {
		t.Errorf("405 does not say what is allowed: %s", p.Detail)
	}
	if len(fake.Orders()) != 0 {
		t.Errorf("orders came through: %v", fake.Orders())
	}
}

// endless is a body that counts what is read of it.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.read.Add(int64(len(p)))
	return len(p), nil
}

// A body without end is not taken in: the gateway stops reading at its maximum.
func TestEndlessBodyIsCutOff(t *testing.T) {
	c := apitest.Start(t, 1, orders())
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	body := &endless{}
	response, err := alice.http.Post("https://"+c.Gateways[0].Address+"/v1/handovers", "application/json", io.LimitReader(body, 256<<20))
	if err == nil {
		response.Body.Close()
		if response.StatusCode != 413 {
			t.Errorf("answered %d", response.StatusCode)
		}
	}
	if n := body.read.Load(); n > 32<<20 {
		t.Errorf("%d MiB were taken", n>>20)
	}
}

// Who may what: operators and gateways everything, agents and proxies health
// only, nobody anything without a certificate of this cluster.
func TestAccess(t *testing.T) {
	c := apitest.Start(t, 1, orders())
	gw := c.Gateways[0]
	other := apitest.Start(t, 1, orders())
	for _, role := range []rpc.Role{rpc.RoleAgent, rpc.RoleProxy} {
		who := newCaller(t, c, role, "x")
		who.refused(403, api.CodeUntrusted, "GET", gw, "/v1/services", "")
		who.refused(403, api.CodeUntrusted, "POST", gw, "/v1/handovers", toWest)
		who.accepted(200, &api.Health{}, "GET", gw, "/v1/readyz", "")
	}
	newCaller(t, c, rpc.RoleOperator, "alice").accepted(200, &api.ServiceList{}, "GET", gw, "/v1/services", "")
	stranger := newCaller(t, other, rpc.RoleOperator, "alice")
	stranger.http.Transport.(*http.Transport).TLSClientConfig.VerifyConnection = nil
	naked := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, client := range []*http.Client{stranger.http, naked} {
		if response, err := client.Get("https://" + gw.Address + "/v1/healthz"); err == nil {
			response.Body.Close()
			t.Errorf("let in: %d", response.StatusCode)
		}
	}
}

// Readiness is 503 with the whole answer while orders would fail.
func TestReadiness(t *testing.T) {
	fake := orders()
	c := apitest.Start(t, 1, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	alice.accepted(200, &api.Health{}, "GET", c.Gateways[0], "/v1/readyz", "")
	fake.Edit(func(s *apitest.State) { s.Fail = signalbox.ErrUnavailable })
	alice.accepted(503, &api.Health{}, "GET", c.Gateways[0], "/v1/readyz", "")
	alice.accepted(200, &api.Health{}, "GET", c.Gateways[0], "/v1/healthz", "")
}

// History comes in pages, newest first, without details.
func TestHistoryPages(t *testing.T) {
	fake := orders()
	fake.Edit(func(s *apitest.State) {
		for i := range 5 {
			s.Handovers = append(s.Handovers, api.Handover{ID: fmt.Sprintf("h%d", i), Service: "orders", Acks: []api.Ack{{}}})
		}
	})
	c := apitest.Start(t, 1, fake)
	alice := newCaller(t, c, rpc.RoleOperator, "alice")
	var seen []string
	for next := ""; ; {
		var page api.HandoverList
		alice.accepted(200, &page, "GET", c.Gateways[0], "/v1/handovers?limit=2&before="+next, "")
		for _, h := range page.Handovers {
			seen = append(seen, h.ID)
			if h.Acks != nil {
				t.Error("a list has details")
			}
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if got := strings.Join(seen, " "); got != "h4 h3 h2 h1 h0" {
		t.Errorf("pages had %s", got)
	}
}

// Giving up, adopting and the certificate keep their rules' answers.
func TestOtherOrders(t *testing.T) {
	fake := orders()
	fake.Edit(func(s *apitest.State) {
		s.Services = append(s.Services, api.Service{Name: "carts", State: api.StateObserved})
		s.Handovers = []api.Handover{
			{ID: "done", Service: "orders", Outcome: api.OutcomeForward, Certificate: &api.Certificate{Service: "orders", Term: 7, Document: []byte(`{"a": 1}`)}},
			{ID: "open", Service: "orders", Outcome: api.OutcomeOpen},
		}
	})
	c := apitest.Start(t, 1, fake)
	gw, alice := c.Gateways[0], newCaller(t, c, rpc.RoleOperator, "alice")
	var h api.Handover
	alice.accepted(202, &h, "POST", gw, "/v1/handovers/open/give-up", `{"reason":"too slow"}`)
	if h.GivenUp != "operator/alice: too slow" {
		t.Errorf("given up: %q", h.GivenUp)
	}
	alice.refused(403, api.CodeRefused, "POST", gw, "/v1/handovers/done/give-up", `{}`)
	alice.refused(404, api.CodeUnknown, "POST", gw, "/v1/handovers/none/give-up", `{}`)
	alice.accepted(202, &h, "POST", gw, "/v1/services/carts/adopt", `{"data_center":"east"}`)
	alice.refused(409, api.CodeConflict, "POST", gw, "/v1/services/orders/adopt", `{"data_center":"east"}`)
	if _, data := alice.do("GET", gw, "/v1/handovers/done/certificate", ""); string(data) != `{"a": 1}` {
		t.Errorf("the certificate is not verbatim: %s", data)
	}
	alice.refused(409, api.CodeNotReady, "GET", gw, "/v1/handovers/open/certificate", "")
}

// A backup that breaks off is an error to the reader, never half a journal.
func TestBackup(t *testing.T) {
	fake := orders()
	journal := bytes.Repeat([]byte("journal "), 100_000)
	fake.Edit(func(s *apitest.State) { s.Backup = journal })
	c := apitest.Start(t, 1, fake)
	gw, alice := c.Gateways[0], newCaller(t, c, rpc.RoleOperator, "alice")
	if response, data := alice.do("GET", gw, "/v1/journal/backup", ""); response.StatusCode != 200 || !bytes.Equal(data, journal) {
		t.Errorf("%d with %d bytes", response.StatusCode, len(data))
	}
	fake.Edit(func(s *apitest.State) { s.BackupErr = apitest.ErrBackup })
	response, err := alice.http.Get("https://" + gw.Address + "/v1/journal/backup")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("half a journal was taken for a whole one")
	}
	fake.Edit(func(s *apitest.State) { s.Backup = nil })
	alice.refused(500, api.CodeInternal, "GET", gw, "/v1/journal/backup", "")
}
