package control_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// TestFallbackReleasesOldName: what was parked under the failed term's name
// goes to the fallback's endpoints (rule 7).
func TestFallbackReleasesOldName(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east := startInstance(t, "east", nil)
	port := freePort(t)
	g.set(orders(port, 7, east))
	e := startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)

	g.set(held(orders(port, 7, east), 8))
	g.awaitRoute(e.id, 8)
	parked := park(http.DefaultClient, "POST", url, strings.NewReader("x"))
	g.awaitWaiting(e.id, "orders", 8)
	fallback := orders(port, 9, east)
	fallback.OldestTerm = 9 // removing old names must not beat the release
	g.set(fallback)
	if a := receive(t, "the parked request", parked); a.body != "east term=8 read=1 proto=1" {
		t.Fatalf("parked request: %v", a)
	}
	g.awaitRoute(e.id, 9)
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "east term=9 read=0 proto=1" {
		t.Fatalf("after the fallback: %v", a)
	}
}

// TestHoldSurvivesServer: a hold goes on without its xDS server and is
// released by the restarted one, or by the other gateway.
func TestHoldSurvivesServer(t *testing.T) {
	for _, heir := range []string{"restarted", "other"} {
		t.Run(heir, func(t *testing.T) {
			p := newPKI(t)
			first := startGateway(t, p, "")
			east, west := startInstance(t, "east", nil), startInstance(t, "west", nil)
			port := freePort(t)
			addrs := []string{first.addr}
			var second *gateway
			if heir == "other" {
				second = startGateway(t, p, "")
				addrs = append(addrs, second.addr)
				second.set(orders(port, 7, east))
			}
			first.set(orders(port, 7, east))
			e := startProxy(t, p, "envoy-1", addrs...)
			awaitListening(t, port)
			hold := held(orders(port, 7, east), 8)
			first.set(hold)
			if second != nil {
				second.set(hold)
			}
			url := fmt.Sprintf("http://127.0.0.1:%d/", port)
			eventually(t, "the hold to be acknowledged", func() bool {
				return hasRoute(first, e.id, 8) || (second != nil && hasRoute(second, e.id, 8))
			})
			parked := park(http.DefaultClient, "POST", url, strings.NewReader("x"))
			eventually(t, "the request to be parked", func() bool {
				return waits(first, e.id, 8) || (second != nil && waits(second, e.id, 8))
			})

			first.stop()
			if second == nil {
				second = startGateway(t, p, first.addr)
				second.set(hold)
			}
			second.awaitWaiting(e.id, "orders", 8)
			select {
			case a := <-parked:
				t.Fatalf("answered while held: %v", a)
			default:
			}
			second.set(orders(port, 8, west))
			if a := receive(t, "the parked request", parked); a.body != "west term=8 read=1 proto=1" {
				t.Fatalf("parked request: %v", a)
			}
			second.awaitRoute(e.id, 8)
		})
	}
}

func hasRoute(g *gateway, proxy string, term uint64) bool {
	for _, p := range g.server.Proxies() {
		for _, s := range p.Services {
			if p.ID == proxy && s.Term == term {
				return true
			}
		}
	}
	return false
}

func waits(g *gateway, proxy string, term uint64) bool {
	for _, p := range g.server.Proxies() {
		for _, s := range p.Services {
			if p.ID == proxy && len(s.Waiting) > 0 && s.Waiting[0] == term {
				return true
			}
		}
	}
	return false
}

// TestRestartedServerNeverGoesBack: a control plane that comes back with an
// older view stays silent; the proxy keeps what it has (rule 7).
func TestRestartedServerNeverGoesBack(t *testing.T) {
	p := newPKI(t)
	first := startGateway(t, p, "")
	east, west := startInstance(t, "east", nil), startInstance(t, "west", nil)
	port := freePort(t)
	first.set(orders(port, 8, west))
	e := startProxy(t, p, "envoy-1", first.addr)
	awaitListening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "west term=8 read=0 proto=1" {
		t.Fatalf("before: %v", a)
	}
	first.stop()
	second := startGateway(t, p, first.addr)
	second.set(orders(port, 7, east))
	second.awaitRoute(e.id, 8) // reported by the proxy, not sent
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "west term=8 read=0 proto=1" {
		t.Fatalf("after the restart with an older view: %v", a)
	}
	second.set(orders(port, 9, east))
	second.awaitRoute(e.id, 9)
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "east term=9 read=0 proto=1" {
		t.Fatalf("after catching up: %v", a)
	}
}

// TestHeldServiceDoesNotBlockOthers: a proxy whose first request ever meets a
// hold still gets other services' clusters at once.
func TestHeldServiceDoesNotBlockOthers(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east, west := startInstance(t, "east", nil), startInstance(t, "west", nil)
	port, other := freePort(t), freePort(t)
	g.set(held(orders(port, 7, east), 8))
	pay := orders(other, 3, west)
	pay.Name = "pay"
	g.set(pay)
	e := startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	awaitListening(t, other)
	parked := park(http.DefaultClient, "GET", fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
	g.awaitWaiting(e.id, "orders", 8)
	start := time.Now()
	if a := call(http.DefaultClient, "GET", fmt.Sprintf("http://127.0.0.1:%d/", other), nil); a.body != "west term=3 read=0 proto=1" {
		t.Fatalf("the other service: %v", a)
	}
	// Without onDemandPrime Envoy asks for no second name for 15 s.
	if took := time.Since(start); took > 10*time.Second {
		t.Fatalf("the other service waited %v for the one that is held", took)
	}
	g.set(orders(port, 8, west))
	if a := receive(t, "the parked request", parked); a.body != "west term=8 read=0 proto=1" {
		t.Fatalf("parked request: %v", a)
	}
}

// TestHTTP2: HTTP/2 on both sides is held and released.
func TestHTTP2(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east, west := startInstance(t, "east", nil), startInstance(t, "west", nil)
	port := freePort(t)
	service := func(term uint64, e resource.Endpoint) resource.Service {
		s := orders(port, term, e)
		s.Protocol = resource.HTTP2
		return s
	}
	g.set(service(7, east))
	e := startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	if a := call(client, "GET", url, nil); a.body != "east term=7 read=0 proto=2" {
		t.Fatalf("before: %v", a)
	}
	g.set(held(service(7, east), 8))
	g.awaitRoute(e.id, 8)
	const streams = 20
	parked := make([]<-chan answer, streams)
	for i := range parked {
		parked[i] = park(client, "POST", url, strings.NewReader("x"))
	}
	g.awaitWaiting(e.id, "orders", 8)
	g.set(service(8, west))
	for i := range parked {
		if a := receive(t, "a parked stream", parked[i]); a.body != "west term=8 read=1 proto=2" {
			t.Fatalf("parked stream: %v", a)
		}
	}
}

// TestOldNameIsRemoved: once the oldest term moves on, Envoy gives up the old
// cluster, and a proxy's load report falls silent for it.
func TestOldNameIsRemovedAndQuiet(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	release := make(chan struct{})
	arrived := make(chan struct{}, 1)
	east := startInstance(t, "east", func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	west := startInstance(t, "west", nil)
	port := freePort(t)
	g.set(orders(port, 7, east))
	o := proxyOptions(t, p, "envoy-1", g.addr)
	o.AdminAddress, o.AdminPort = "127.0.0.1", freePort(t)
	b, err := resource.Bootstrap(o)
	must(t, err)
	e := startEnvoy(t, o.NodeID(), b)
	awaitListening(t, port)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	slow := park(http.DefaultClient, "GET", url, nil)
	receive(t, "the slow request", arrived)
	await(g, "a report of one request in progress", func(l control.Load) bool {
		return l.Proxy == e.id && l.Service == "orders" && l.Term == 7 && l.InProgress == 1
	})
	close(release)
	if a := receive(t, "the slow answer", slow); a.status != 200 {
		t.Fatalf("slow request: %v", a)
	}
	g.set(orders(port, 8, west))
	g.awaitRoute(e.id, 8)
	if a := call(http.DefaultClient, "GET", url, nil); a.body != "west term=8 read=0 proto=1" {
		t.Fatalf("after: %v", a)
	}
	await(g, "a report that orders@7 is quiet", func(l control.Load) bool {
		return l.Term == 7 && l.InProgress == 0 && l.Total == 0
	})
	done := orders(port, 8, west)
	done.OldestTerm = 8
	g.set(done)
	admin := fmt.Sprintf("http://127.0.0.1:%d/clusters", o.AdminPort)
	eventually(t, "orders@7 to be gone", func() bool {
		a := call(http.DefaultClient, "GET", admin, nil)
		return a.status == 200 && !strings.Contains(a.body, "orders@7::") && strings.Contains(a.body, "orders@8::")
	})
}
