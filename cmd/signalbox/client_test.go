package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
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

var updateClient = flag.Bool("update-client", false, "write testdata/client anew")

// person is somebody with an operator's bundle at a terminal.
type person struct {
	t      *testing.T
	bundle string
}

func newPerson(t *testing.T, c *apitest.Cluster) *person {
	t.Helper()
	return &person{t, c.Bundle(t, rpc.RoleOperator, "alice")}
}

// buffer is written by a verb and read by a test meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run runs a verb and returns its exit code and what it printed.
func (p *person) run(args ...string) (code int, out, progress string) {
	var stdout, stderr buffer
	code = run(append(args, "--bundle", p.bundle), stdio{strings.NewReader(""), &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

// expect runs a verb and checks its exit code.
func (p *person) expect(code int, args ...string) (out, progress string) {
	p.t.Helper()
	got, out, progress := p.run(args...)
	if got != code {
		p.t.Fatalf("signalbox %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), got, code, out, progress)
	}
	return out, progress
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// world is a cluster with something to show of everything.
func world() *apitest.Fake {
	fake := &apitest.Fake{}
	fake.Edit(func(s *apitest.State) {
		s.Services = []api.Service{
			{Name: "carts", Protocol: "grpc", State: api.StateObserved, HoldBudgetMS: 2500, DataCenters: []api.ServiceSite{{DataCenter: "east", Instances: 2, Ready: 1}}},
			{Name: "orders", Protocol: "http", State: api.StateSteady, Master: "east", Term: 7, Since: ptr(apitest.Epoch), HoldBudgetMS: 5000, DataCenters: []api.ServiceSite{
				{DataCenter: "east", Master: true, Instances: 3, Serving: 3, Ready: 3, InFlight: 12, Proxies: 2, Synced: 2},
				{DataCenter: "west", Instances: 3, Ready: 3, Proxies: 2, Synced: 1, Target: true},
				{DataCenter: "north", Instances: 1, Problems: []string{"orders-north-1 lags 4 s behind: wait for it"}}}},
		}
		s.Instances = []api.Instance{
			{Name: "orders-east-1", Service: "orders", DataCenter: "east", Identity: "00112233445566778899aabbccddeeff", Incarnation: 2, State: "serving", Term: 7, Floor: 7, Admission: 12,
				InFlight: 12, Ready: true, Outstanding: true, Address: "127.0.0.1:9001", Driver: "guard", Version: "v1", LastHeard: ptr(apitest.Epoch), SilentMS: 320},
			{Name: "orders-west-1", Service: "orders", DataCenter: "west", Identity: "ff112233445566778899aabbccddeeff", State: "starting", SilentMS: -1,
				WaitsFor: "an answer of a quorum of voters", Problem: "\x1b[31mno gateway\nanswers"},
		}
		s.Proxies = []api.Proxy{
			{ID: "envoy-east-1", DataCenter: "east", Gateway: "gw-east-1", Kind: "envoy 1.40.0", Connected: true, ConnectedSince: ptr(apitest.Epoch), Routes: []api.ProxyRoute{
				{Service: "orders", Term: 7, Older: ptr(uint64(3))}, {Service: "carts", Term: 1, Pending: 2, Problem: `Proto constraint validation failed: unknown cluster "carts@2"`}}},
			{ID: "envoy-west-9", DataCenter: "west", Gateway: "gw-west-1"},
		}
		s.Handovers = []api.Handover{
			{ID: "orders-aaaaaaaaaaaa", Service: "orders", From: "west", To: "east", Term: 7, CertifiedTerm: 7, Outcome: api.OutcomeForward, By: "operator/bob", Reason: "home again", Started: apitest.Epoch, HoldMS: ptr(9.412), HoldBudgetMS: 5000,
				Certificate: &api.Certificate{Service: "orders", Term: 7, Master: "east", Document: json.RawMessage(`{"format":"x"}`)}},
			{ID: "orders-bbbbbbbbbbbb", Service: "orders", From: "east", To: "west", Term: 5, CertifiedTerm: 6, Outcome: api.OutcomeFallback, By: "operator/bob", GivenUp: "a proxy was late", LateProxies: []string{"envoy-x"}, Started: apitest.Epoch.Add(time.Hour)},
		}
		s.Plan = api.Plan{
			From: "east", Current: "east@7", Term: 8, FallbackTerm: 9, HoldBudgetMS: 5000, Allowed: "ack+leave", Ready: true, Proxies: 4, PredictedHoldMS: 9.4, PredictedFrom: "the last 12 handovers",
			Roster:   []api.Member{{Instance: "orders-east-1", DataCenter: "east", Identity: "0011", Admission: 12, State: "serving", InFlight: 12}},
			Incoming: []api.Member{{Instance: "orders-west-1", DataCenter: "west", Identity: "ff11", State: "standby"}},
			Checks: []api.Check{{Name: "roster-heard", OK: true, Blocking: true, Detail: "1 of 1 heard from within 1 s"},
				{Name: "capacity", Detail: "west has 1 instance, east has 3", Do: "start more in west"}},
		}
	})
	return fake
}

// The tables are what testdata/client shows: plain, aligned, and harmless.
func TestClientTables(t *testing.T) {
	c := apitest.Start(t, 1, world())
	alice := newPerson(t, c)
	for name, args := range map[string][]string{
		"status": {"status"}, "status-wide": {"status", "orders", "-o", "wide"}, "status-json": {"status", "carts", "-o", "json"}, "status-yaml": {"status", "carts", "-o", "yaml"},
		"service-list": {"service", "list"}, "service-list-wide": {"service", "list", "-o", "wide"}, "service-show": {"service", "show", "orders"}, "service-show-observed": {"service", "show", "carts"},
		"instance-list": {"instance", "list"}, "instance-list-wide": {"instance", "list", "--service", "orders", "-o", "wide"},
		"proxy-list": {"proxy", "list"}, "proxy-list-wide": {"proxy", "list", "--service", "orders", "-o", "wide"},
		"history": {"history"}, "history-wide": {"history", "orders", "--limit", "1", "-o", "wide"},
		"plan": {"plan", "orders", "west"}, "plan-wide": {"switch", "orders", "--to", "west", "--dry-run"},
		"report": {"cutover", "report", "orders-aaaaaaaaaaaa"}, "failover-plan": {"failover", "orders", "--to", "west", "--dry-run"},
	} {
		out, _ := alice.expect(exitOK, args...)
		path := filepath.Join("testdata", "client", name+".golden")
		if *updateClient {
			if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || string(want) != out {
			t.Errorf("%s differs (%v); with -update-client it is written anew:\n%s", path, err, out)
		}
		if strings.ContainsRune(out, '\x1b') {
			t.Errorf("%s: an escape sequence reaches the terminal", name)
		}
	}
}

// Each kind of refusal has its exit code and says what to do.
func TestClientExitCodes(t *testing.T) {
	fake := world()
	c := apitest.Start(t, 1, fake)
	alice := newPerson(t, c)
	for _, bad := range [][]string{
		{"switch", "orders"}, {"switch", "Orders", "--to", "west"}, {"switch", "orders", "--to", "west", "--expect", "east"}, {"switch", "orders", "--to", "west", "--hold-budget", "16s"},
		{"status", "a", "b"}, {"status", "-o", "xml"}, {"status", "--gateway", "nowhere"}, {"history", "--limit", "0"}, {"service", "adopt", "carts"}, {"cutover", "nonsense"},
	} {
		alice.expect(exitUsage, bad...)
	}
	alice.expect(exitFailure, "status", "nothing")
	alice.expect(exitFailure, "history", "nothing")
	alice.expect(exitFailure, "cutover", "report", "nothing")
	alice.expect(exitFailure, "status", "--gateway", "127.0.0.1:1")
	_, err := alice.expect(exitConflict, "switch", "orders", "--to", "west", "--expect", "west@6")
	contains(t, err, "east@7", "Nothing was moved")
	alice.expect(exitOK, "switch", "orders", "--to", "west", "--wait=false")
	_, err = alice.expect(exitConflict, "switch", "orders", "--to", "west")
	contains(t, err, "signalbox watch --handover "+fake.Orders()[0].ID)
	for sentinel, code := range map[error]int{
		signalbox.ErrRefused: exitRefused, signalbox.ErrNotReady: exitRefused, signalbox.ErrNotConfigured: exitRefused, signalbox.ErrUnavailable: exitTimeout, os.ErrPermission: exitFailure,
	} {
		fake.Edit(func(s *apitest.State) {
			s.Fail = &api.Fault{Err: fmt.Errorf("switch: %w: because", sentinel), Do: "do this", Checks: []api.Check{{Name: "lag", Detail: "4 s behind", Do: "wait"}}}
		})
		_, err := alice.expect(code, "switch", "orders", "--to", "west")
		contains(t, err, "because", "do this", "lag: 4 s behind (wait)")
	}
	fake.Edit(func(s *apitest.State) {
		s.Fail, s.Plan.Ready, s.Plan.Blocks = nil, false, []string{"target-ready: start an instance in west"}
	})
	out, _ := alice.expect(exitRefused, "plan", "orders", "west")
	contains(t, out, "Blocked:", "start an instance in west")
}

// Without a bundle, and with one that gateways do not answer, the message says
// how to get one.
func TestClientNeedsAnOperatorsBundle(t *testing.T) {
	c := apitest.Start(t, 1, world())
	t.Setenv(envBundle, "")
	var stderr buffer
	if code := run([]string{"status"}, stdio{strings.NewReader(""), &buffer{}, &stderr}); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	contains(t, stderr.String(), "SIGNALBOX_BUNDLE", "signalbox keys issue")
	(&person{t, filepath.Join(t.TempDir(), "none")}).expect(exitUsage, "status")
	agent := &person{t, c.Bundle(t, rpc.RoleAgent, "x")}
	_, err := agent.expect(exitUsage, "status")
	contains(t, err, "operator")
	t.Setenv(envBundle, c.Bundle(t, rpc.RoleOperator, "carol"))
	t.Setenv(envGateways, "127.0.0.1:1,"+c.Gateways[0].Address)
	if code := run([]string{"status"}, stdio{strings.NewReader(""), &buffer{}, &stderr}); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// A report can be had by the service's name, as HTML and JSON, and the
// certificate beside it.
func TestClientReport(t *testing.T) {
	c := apitest.Start(t, 1, world())
	alice := newPerson(t, c)
	out, _ := alice.expect(exitOK, "cutover", "report", "orders", "-o", "json")
	var h api.Handover
	if err := json.Unmarshal([]byte(out), &h); err != nil || h.ID != "orders-bbbbbbbbbbbb" {
		t.Errorf("%v: %s", err, out)
	}
	out, _ = alice.expect(exitOK, "cutover", "report", "orders-aaaaaaaaaaaa", "-o", "html")
	contains(t, out, "<!doctype html>")
	file := filepath.Join(t.TempDir(), "cert.json")
	alice.expect(exitOK, "cutover", "report", "orders-aaaaaaaaaaaa", "--certificate", file)
	if data, err := os.ReadFile(file); err != nil || string(data) != `{"format":"x"}` {
		t.Errorf("%v: %s", err, data)
	}
	alice.expect(exitRefused, "cutover", "report", "orders-bbbbbbbbbbbb", "--certificate", file)
}

// A backup appears whole or not at all.
func TestClientBackup(t *testing.T) {
	fake := world()
	fake.Edit(func(s *apitest.State) { s.Backup = []byte("journal") })
	alice := newPerson(t, apitest.Start(t, 1, fake))
	dir := t.TempDir()
	file := filepath.Join(dir, "journal.db")
	alice.expect(exitOK, "journal", "backup", file)
	alice.expect(exitUsage, "journal", "backup", file)
	fake.Edit(func(s *apitest.State) { s.BackupErr = apitest.ErrBackup })
	alice.expect(exitFailure, "journal", "backup", file, "--force")
	entries, _ := os.ReadDir(dir)
	if data, err := os.ReadFile(file); err != nil || string(data) != "journal" || len(entries) != 1 {
		t.Errorf("%v: %q, %v", err, data, entries)
	}
}
