package httpdriver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// contract answers each path with the next of its replies; the last one stays.
type contract struct {
	replies map[string][]string // "200 {...}"
	orders  []map[string]any
}

func (c *contract) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var order map[string]any
	if r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&order)
		c.orders = append(c.orders, order)
	}
	key := r.Method + " " + r.URL.Path
	next := c.replies[key]
	if len(next) == 0 {
		http.NotFound(w, r)
		return
	}
	if len(next) > 1 {
		c.replies[key] = next[1:]
	}
	code, body, _ := strings.Cut(next[0], " ")
	w.WriteHeader(map[string]int{"200": 200, "302": 302, "409": 409, "504": 504}[code])
	_, _ = w.Write([]byte(body))
}

func start(t *testing.T, replies map[string][]string) (*Driver, *contract) {
	t.Helper()
	c := &contract{replies: replies}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	d, err := New(server.URL + "/signalbox/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Stop(context.Background()) })
	return d, c
}

func TestReadyAndStatus(t *testing.T) {
	d, _ := start(t, map[string][]string{
		"GET /signalbox/ready":      {`200 {"ready":true,"lag_seconds":1.5,"more":[1]}`},
		"GET /signalbox/mastership": {`200 {"master":true,"term":7,"in_flight":3,"run":"p1","leaving":true}`},
	})
	ready, err := d.Ready(t.Context())
	if err != nil || !ready.Ready || ready.Lag != 1500*time.Millisecond {
		t.Errorf("ready %+v, %v", ready, err)
	}
	status, err := d.Status(t.Context())
	if err != nil || status != (driver.Status{Master: true, Term: 7, InFlight: 3, Run: "p1", Leaving: true}) {
		t.Errorf("status %+v, %v", status, err)
	}
}

// Rule 4 rests on it: only {"drained":true} is drained.
func TestStepDownAsksUntilDrained(t *testing.T) {
	d, c := start(t, map[string][]string{
		"POST /signalbox/step-down": {`504 {"detail":"busy"}`, `200 {"drained":false}`, `200 {}`, `200 `, `200 {"drained":true}`},
	})
	deadline := time.Now().Add(5 * time.Second)
	if _, err := d.StepDown(t.Context(), driver.StepDown{Service: "orders", Term: 7, Deadline: deadline}); err != nil {
		t.Fatal(err)
	}
	if len(c.orders) != 5 {
		t.Errorf("%d calls, want 5", len(c.orders))
	}
	got, err := time.Parse(time.RFC3339Nano, c.orders[0]["deadline"].(string))
	if c.orders[0]["service"] != "orders" || c.orders[0]["term"] != 7.0 || err != nil || !got.Equal(deadline) {
		t.Errorf("order %v, deadline %v, %v", c.orders[0], got, err)
	}
}

// The service's policy for streams is passed on; streams alone give a drain up.
func TestStepDownStreams(t *testing.T) {
	d, c := start(t, map[string][]string{
		"POST /signalbox/step-down": {`200 {"in_flight":3,"streams":2}`, `200 {"in_flight":2,"streams":2}`, `200 {"in_flight":2,"streams":2}`, `200 {"drained":true}`},
	})
	_, err := d.StepDown(t.Context(), driver.StepDown{Service: "orders", Term: 7, Streams: signalbox.StreamsAbort})
	if !errors.Is(err, driver.ErrStreams) || len(c.orders) != 2 || c.orders[1]["streams"] != "abort" {
		t.Errorf("%v after %v", err, c.orders)
	}
	if _, err := d.StepDown(t.Context(), driver.StepDown{Service: "orders", Term: 7}); err != nil || c.orders[3]["streams"] != nil {
		t.Errorf("%v, %v", err, c.orders)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	d, _ := start(t, map[string][]string{
		"POST /signalbox/promote":   {`409 {"detail":"stale term"}`},
		"POST /signalbox/step-down": {`409 {"detail":"promoted meanwhile","drained":true}`},
		"GET /signalbox/mastership": {`200 <html>`},
		"GET /signalbox/ready":      {`200 {"problem":"` + strings.Repeat("x", MaxBody) + `"}`},
	})
	_, status := d.Status(t.Context())
	_, ready := d.Ready(t.Context())
	_, stepDown := d.StepDown(t.Context(), driver.StepDown{Term: 7})
	lost, _ := New(d.base + "/elsewhere")
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"promote":   {d.Promote(t.Context(), driver.Promotion{Term: 8}), "409: stale term"},
		"step down": {stepDown, "409: promoted meanwhile"},
		"status":    {status, "not the contract's JSON"},
		"ready":     {ready, "more than"},
		"path":      {lost.Promote(t.Context(), driver.Promotion{Term: 8}), "does the driver's address end"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", what, c.err, c.want)
		}
	}
	if _, err := New("localhost:80"); err == nil {
		t.Error("took an address that is no URL")
	}
}

func TestFollowsNoRedirect(t *testing.T) {
	d, _ := start(t, map[string][]string{"POST /signalbox/step-down": {`302 {"drained":true}`}})
	if _, err := d.StepDown(t.Context(), driver.StepDown{Term: 7}); err == nil {
		t.Error("took a redirect for drained")
	}
}

// A step-down ends with its context, however long the instance drains.
func TestStepDownEndsWithContext(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	d, err := New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.StepDown(ctx, driver.StepDown{Term: 7}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// An instance has a lease when it says so: a service that knows none would serve
// without end. What is left is the smaller of both clocks.
func TestLease(t *testing.T) {
	d, c := start(t, map[string][]string{
		"POST /signalbox/lease": {`200 {"leased":true}`, `200 {}`, `200 `, `409 {"detail":"at term 9"}`},
	})
	order := driver.LeaseOrder{Service: "orders", Term: 8, Deadline: time.Now().Add(time.Hour), Boot: driver.BootTime() + 3*time.Second}
	if err := d.Lease(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.Lease(t.Context(), order); err == nil {
			t.Error("an instance that does not say so is taken to keep to leases")
		}
	}
	deadline, err := time.Parse(time.RFC3339Nano, c.orders[0]["deadline"].(string))
	left := c.orders[0]["ttl_seconds"].(float64)
	if err != nil || left > 3 || left <= 0 || time.Until(deadline) > 3*time.Second || c.orders[0]["term"] != 8.0 {
		t.Errorf("order %v", c.orders[0])
	}
	for name, order := range map[string]driver.LeaseOrder{
		"boot-time clock": {Term: 8, Deadline: time.Now().Add(time.Hour), Boot: driver.BootTime()},
		"wall clock":      {Term: 8, Deadline: time.Now(), Boot: driver.BootTime() + time.Hour},
	} {
		if err := d.Lease(t.Context(), order); err == nil {
			t.Errorf("over by the %s: passed on", name)
		}
	}
	if len(c.orders) != 4 {
		t.Errorf("%d orders, want 4", len(c.orders))
	}
}
