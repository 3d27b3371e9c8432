package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// validate runs envoy --mode validate on a configuration.
func validate(t *testing.T, config []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.yaml") // JSON is YAML
	must(t, os.WriteFile(file, config, 0o600))
	out, err := exec.Command(findEnvoy(t), "--mode", "validate", "-c", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "OK") {
		t.Fatalf("envoy refuses the configuration: %v\n%s\n%s", err, out, config)
	}
	if strings.Contains(string(out), "deprecated") {
		t.Errorf("envoy calls something deprecated:\n%s", out)
	}
}

// TestBootstrapIsAccepted: the real Envoy accepts what bootstrap prints.
func TestBootstrapIsAccepted(t *testing.T) {
	p := newPKI(t)
	o := proxyOptions(t, p, "envoy-1", "127.0.0.1:7001", "[::1]:7001", "gateway.example:7001")
	o.AdminAddress, o.AdminPort = "127.0.0.1", freePort(t)
	b, err := resource.Bootstrap(o)
	must(t, err)
	validate(t, b)
}

// embed puts a route-only part into an Envoy configuration of one's own, as
// the documentation tells users to.
func embed(t *testing.T, part []byte, port uint32) []byte {
	t.Helper()
	var parts map[string]any
	must(t, json.Unmarshal(part, &parts))
	config := map[string]any{
		"node":            parts["node"],
		"cluster_manager": parts["cluster_manager"],
	}
	static := map[string]any{"clusters": parts["clusters"]}
	if lds, ok := parts["lds_config"]; ok {
		config["dynamic_resources"] = map[string]any{"lds_config": lds}
	} else {
		static["listeners"] = []any{map[string]any{
			"name":    "mine",
			"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": port}},
			"filter_chains": []any{map[string]any{"filters": []any{map[string]any{
				"name": "envoy.filters.network.http_connection_manager",
				"typed_config": map[string]any{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
					"stat_prefix": "mine", "rds": parts["rds"], "http_filters": parts["http_filters"],
				},
			}}}},
		}}
	}
	config["static_resources"] = static
	b, err := json.MarshalIndent(config, "", "  ")
	must(t, err)
	return b
}

// TestRouteOnlyIsAccepted: the real Envoy accepts the route-only parts.
func TestRouteOnlyIsAccepted(t *testing.T) {
	p := newPKI(t)
	o := proxyOptions(t, p, "envoy-1", "127.0.0.1:7001")
	for _, protocol := range []resource.Protocol{resource.HTTP, resource.TCP} {
		part, err := resource.RouteOnly(o, "orders", protocol, 0)
		must(t, err)
		validate(t, embed(t, part, freePort(t)))
	}
}

// TestRouteOnlyHoldAndRelease: an Envoy with a listener of its own and no ADS
// is held and released all the same.
func TestRouteOnlyHoldAndRelease(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east, west := startInstance(t, "east", nil), startInstance(t, "west", nil)
	service := func(term uint64, e resource.Endpoint) resource.Service {
		s := orders(1, term, e)
		s.Listener = nil
		return s
	}
	g.set(service(7, east))
	o := proxyOptions(t, p, "envoy-1", g.addr)
	part, err := resource.RouteOnly(o, "orders", resource.HTTP, 0)
	must(t, err)
	port := freePort(t)
	e := startEnvoy(t, o.NodeID(), embed(t, part, port))
	g.awaitRoute(e.id, 7)
	awaitListening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "east term=7 read=0 proto=1" {
		t.Fatalf("before: %v", a)
	}
	g.set(held(service(7, east), 8))
	g.awaitRoute(e.id, 8)
	parked := park(http.DefaultClient, "GET", url, nil)
	g.awaitWaiting(e.id, "orders", 8)
	g.set(service(8, west))
	if a := receive(t, "the parked request", parked); a.body != "west term=8 read=0 proto=1" {
		t.Fatalf("parked request: %v", a)
	}
}

// TestRemoveAndSetAgain: a service that was taken away and comes back works:
// Envoy asks for the same cluster name again and is answered.
func TestRemoveAndSetAgain(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east := startInstance(t, "east", nil)
	port := freePort(t)
	g.set(orders(port, 7, east))
	startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	if a := call(http.DefaultClient, "GET", url, nil); a.status != 200 {
		t.Fatalf("before: %v", a)
	}
	g.server.Remove("orders")
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "every worker to close the listener", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	g.set(orders(port, 7, east))
	awaitListening(t, port)
	if a := call(fresh, "GET", url, nil); a.body != "east term=7 read=0 proto=1" {
		t.Fatalf("after: %v", a)
	}
}
