package control_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// TestNackWords: Envoy's own words are visible when it refuses a resource.
func TestNackWords(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	s := orders(9999, 7, startInstance(t, "east", nil))
	s.Listener.Address = "192.0.2.1" // not an address of this machine
	g.set(s)
	e := startProxy(t, p, "envoy-1", g.addr)
	n := await(g, "a rejection", func(n control.Rejected) bool { return n.Proxy == e.id })
	if n.Type != resource.ListenerType || n.Resource != "orders" || !strings.Contains(n.Message, "cannot bind") {
		t.Fatalf("rejection: %+v", n)
	}
	if got := g.server.Proxies()[0].Services[0].Nack; got == nil || got.Message != n.Message {
		t.Fatalf("Proxies shows %+v, want %q", got, n.Message)
	}
}

// TestWrongNodeID: a proxy with another's node id is refused and counted.
func TestWrongNodeID(t *testing.T) {
	p := newPKI(t)
	refused := make(chan string, 100)
	g := startGateway(t, p, "", func(o *control.Options) {
		o.OnRefused = func(nodeID string, err error) { refused <- nodeID + ": " + err.Error() }
	})
	o := proxyOptions(t, p, "envoy-1", g.addr)
	o.Name = "envoy-2" // with the certificate of envoy-1
	b, err := resource.Bootstrap(o)
	must(t, err)
	startEnvoy(t, o.NodeID(), b)
	why := receive(t, "the refusal", refused)
	if !strings.Contains(why, "east/envoy-2") || !strings.Contains(why, "proxy/east/envoy-1") {
		t.Fatalf("refusal: %s", why)
	}
	if list := g.server.Proxies(); len(list) != 0 {
		t.Fatalf("a refused proxy is listed: %v", list)
	}
}

// TestStaleRequestIsRetried: an instance's "not master" is retried, a POST
// too, and the next answer reaches the caller.
func TestStaleRequestIsRetried(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	calls := 0
	east := startInstance(t, "east", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if calls++; calls < 3 {
			w.Header().Set(resource.NotMasterHeader, "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "call %d", calls)
	})
	port := freePort(t)
	g.set(orders(port, 7, east))
	startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	a := call(http.DefaultClient, "POST", fmt.Sprintf("http://127.0.0.1:%d/", port), strings.NewReader("x"))
	if a.status != 200 || a.body != "call 3" {
		t.Fatalf("stale POST: %v", a)
	}
}

// TestNoMasterYet: a service that nobody ever mastered answers at once.
func TestNoMasterYet(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	port := freePort(t)
	g.set(orders(port, 0))
	startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	a := call(http.DefaultClient, "GET", fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
	if a.status != 503 || !strings.Contains(a.body, "service adopt orders") {
		t.Fatalf("no master yet: %v", a)
	}
}
