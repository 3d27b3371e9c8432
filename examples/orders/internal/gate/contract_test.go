package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func contract() *Contract { return NewContract("orders", zerolog.Nop()) }

func call(t *testing.T, h http.Handler, method, path, body string, headers ...string) (int, http.Header, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var members map[string]any
	if strings.Contains(w.Header().Get("Content-Type"), "json") {
		if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
			t.Fatalf("%s %s answered %q: %v", method, path, w.Body, err)
		}
	}
	return w.Code, w.Header(), members
}

// Rule: the HTTP driver contract, from a start as not master to the way back.
func TestContractWalk(t *testing.T) {
	c := contract()
	h := c.Handler()
	business := c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, Term(r))
	}))
	refused := func(asked, own string) {
		t.Helper()
		status, head, _ := call(t, business, "GET", "/", "", HeaderTerm, asked)
		if status != 503 || head.Get(HeaderNotMaster) != own {
			t.Errorf("asked for %s: %d, not master %q, want 503 and %q", asked, status, head.Get(HeaderNotMaster), own)
		}
	}
	expect := func(method, path, body string, want int, member string, value any) {
		t.Helper()
		status, _, members := call(t, h, method, path, body)
		if status != want || members[member] != value {
			t.Errorf("%s %s %s: %d %v", method, path, body, status, members)
		}
	}
	soon := time.Now().Add(time.Minute).Format(time.RFC3339Nano)

	refused("1", "0")
	expect("GET", "/signalbox/ready", "", 200, "ready", true)
	expect("GET", "/signalbox/mastership", "", 200, "master", false)
	expect("POST", "/signalbox/promote", `{"service":"orders","term":7,"deadline":"`+soon+`"}`, 200, "master", true)
	expect("GET", "/signalbox/mastership", "", 200, "term", 7.0)
	if status, _, _ := call(t, business, "GET", "/", "", HeaderTerm, "7"); status != 200 {
		t.Errorf("a master answered %d", status)
	}
	refused("8", "7")
	expect("POST", "/signalbox/lease", `{"term":7,"deadline":"`+soon+`"}`, 200, "term", 7.0)
	expect("POST", "/signalbox/step-down", `{"service":"orders","term":8,"deadline":"`+soon+`"}`, 200, "drained", true)
	refused("7", "7")
	expect("POST", "/signalbox/promote", `{"term":7}`, 409, "term", 7.0)
	expect("POST", "/signalbox/promote", `{"term":9}`, 200, "master", true)
}

// Rule: at the deadline step-down is a problem that says how many requests
// are still inside.
func TestContractStepDownTooLate(t *testing.T) {
	c := contract()
	h := c.Handler()
	if err := c.Gate.Promote(7); err != nil {
		t.Fatal(err)
	}
	c.Gate.Enter(7)
	past := time.Now().Add(-time.Second).Format(time.RFC3339Nano)
	status, head, members := call(t, h, "POST", "/signalbox/step-down", `{"term":8,"deadline":"`+past+`"}`)
	if status != 504 || members["drained"] != false || members["in_flight"] != 1.0 || head.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", status, members)
	}
	c.Gate.Leave()
	if status, _, members := call(t, h, "POST", "/signalbox/step-down", `{}`); status != 200 || members["drained"] != true {
		t.Errorf("repeated without term and deadline: %d %v", status, members)
	}
}

// Rule: bad input is refused in words and changes nothing.
func TestContractRefuses(t *testing.T) {
	c := contract()
	h := c.Handler()
	if err := c.Gate.Promote(7); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		path, body string
		want       int
	}{
		{"/signalbox/step-down", `{"service":"payments","term":8}`, 409},
		{"/signalbox/step-down", `{"term":6}`, 409},
		{"/signalbox/step-down", `{"term":-1}`, 400},
		{"/signalbox/step-down", `{"term":8,"deadline":"tomorrow"}`, 400},
		{"/signalbox/step-down", `{"service":"` + strings.Repeat("a", MaxBody) + `"}`, 400},
		{"/signalbox/promote", ``, 400},
		{"/signalbox/lease", `{"term":7}`, 400},
		{"/signalbox/lease", `{"term":7,"deadline":"2999-01-01T00:00:00Z"}`, 400},
		{"/signalbox/lease", `{"term":8,"deadline":"2000-01-01T00:00:00Z"}`, 409},
	} {
		if status, _, members := call(t, h, "POST", bad.path, bad.body); status != bad.want || members["detail"] == "" {
			t.Errorf("%s %.60s: %d %v, want %d", bad.path, bad.body, status, members, bad.want)
		}
	}
	if status, _, _ := call(t, h, "POST", "/signalbox/step-down", `{"term":8}`, HeaderTerm, "7"); status != 404 {
		t.Errorf("an order through a proxy: %d", status)
	}
	if status, _, _ := call(t, c.Wrap(http.NotFoundHandler()), "GET", "/", "", HeaderTerm, "seven"); status != 400 {
		t.Errorf("a term that is none: %d", status)
	}
	if got := c.Gate.Status(); got != (Status{Master: true, Term: 7}) {
		t.Errorf("bad input changed the gate: %+v", got)
	}
}

// Rule: a reply that comes after the lease is no success, and does not say that
// nothing was done; the next request is refused.
func TestContractLateReply(t *testing.T) {
	c := contract()
	h := c.Handler()
	soon := time.Now().Add(30 * time.Second).Format(time.RFC3339Nano)
	if status, _, _ := call(t, h, "POST", "/signalbox/promote", `{"term":7,"leased":true}`); status != 409 {
		t.Errorf("promoted without the lease that the term needs: %d", status)
	}
	if status, _, members := call(t, h, "POST", "/signalbox/lease", `{"term":7,"deadline":"`+soon+`","ttl_seconds":30}`); status != 200 || members["leased"] != true {
		t.Fatalf("lease: %d %v", status, members)
	}
	if status, _, _ := call(t, h, "POST", "/signalbox/promote", `{"term":7,"leased":true}`); status != 200 {
		t.Fatalf("promotion: %d", status)
	}
	late := false
	business := c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Secret", "x")
		fmt.Fprint(w, "done")
		if late {
			c.Gate.lease.deadline = time.Now()
		}
	}))
	if status, head, _ := call(t, business, "GET", "/", ""); status != 200 || head.Get("Secret") != "x" {
		t.Errorf("within the lease: %d", status)
	}
	late = true
	if status, head, _ := call(t, business, "GET", "/", ""); status != 504 || head.Get(HeaderNotMaster) != "" || head.Get("Secret") != "" {
		t.Errorf("after the lease: %d %v", status, head)
	}
	if status, head, _ := call(t, business, "GET", "/", ""); status != 503 || head.Get(HeaderNotMaster) != "7" {
		t.Errorf("the next request: %d %v", status, head)
	}
}

// Rule: an instance that wants to stop says so and waits to be stepped down;
// one that is not master need not wait.
func TestContractLeave(t *testing.T) {
	c := contract()
	if err := c.Leave(t.Context()); err != nil {
		t.Errorf("leaving as not master: %v", err)
	}
	c = contract()
	h := c.Handler()
	_, _, before := call(t, h, "GET", "/signalbox/mastership", "")
	if err := c.Gate.Promote(7); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := c.Leave(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a master left without being stepped down: %v", err)
	}
	left := make(chan error)
	go func() { left <- c.Leave(t.Context()) }()
	_, _, during := call(t, h, "GET", "/signalbox/mastership", "")
	if before["leaving"] != false || during["leaving"] != true || before["run"] != during["run"] || before["run"] == "" {
		t.Errorf("mastership before %v, while leaving %v", before, during)
	}
	if status, _, members := call(t, h, "POST", "/signalbox/step-down", `{"term":7}`); status != 200 {
		t.Fatalf("%d %v", status, members)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}
