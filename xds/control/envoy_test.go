package control_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// orders is an HTTP service that is certified at a term and routed there.
func orders(port uint32, term uint64, endpoints ...resource.Endpoint) resource.Service {
	return resource.Service{
		Name: "orders", Protocol: resource.HTTP, Listener: &resource.Listener{Address: "127.0.0.1", Port: port},
		RouteTerm: term, CertifiedTerm: term, OldestTerm: 1, Endpoints: endpoints,
	}
}

// held is the same service with its routes ahead of the certified term.
func held(s resource.Service, term uint64) resource.Service {
	s.RouteTerm = term
	return s
}

// TestHoldAndRelease: a request that comes during a hold is parked, not
// failed, and goes to the endpoints of the certified term (rule 7).
func TestHoldAndRelease(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east, west := startInstance(t, "east", nil), startInstance(t, "west", nil)
	port := freePort(t)
	g.set(orders(port, 7, east))
	e := startProxy(t, p, "envoy-1", g.addr)
	g.awaitRoute(e.id, 7)
	awaitListening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "east term=7 read=0 proto=1" {
		t.Fatalf("before: %v", a)
	}

	start := time.Now()
	g.set(held(orders(port, 7, east), 8))
	g.awaitRoute(e.id, 8)
	t.Logf("hold acknowledged after %v", time.Since(start))
	get := park(http.DefaultClient, "GET", url, nil)
	post := park(http.DefaultClient, "POST", url, bytes.NewReader(make([]byte, 5<<20)))
	g.awaitWaiting(e.id, "orders", 8)
	select {
	case a := <-get:
		t.Fatalf("answered during the hold: %v", a)
	case a := <-post:
		t.Fatalf("answered during the hold: %v", a)
	default:
	}

	start = time.Now()
	g.set(orders(port, 8, west))
	if a := receive(t, "the parked GET", get); a.body != "west term=8 read=0 proto=1" {
		t.Fatalf("parked GET: %v", a)
	}
	t.Logf("first parked request answered after %v", time.Since(start))
	if a := receive(t, "the parked POST", post); a.body != "west term=8 read=5242880 proto=1" {
		t.Fatalf("parked POST: %v", a)
	}
}
