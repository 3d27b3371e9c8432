package control_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/xds/resource"
)

func manyConnections(n int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: n, MaxIdleConnsPerHost: n}}
}

// TestEndpointsChangeUnderLoad: instances that come and go within a term fail
// no request, although each change replaces the cluster.
func TestEndpointsChangeUnderLoad(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	var ends []resource.Endpoint
	for i := range 3 {
		ends = append(ends, startInstance(t, fmt.Sprintf("west-%d", i), nil))
	}
	port := freePort(t)
	g.set(orders(port, 7, ends...))
	startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	client := manyConnections(16)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)

	var calls atomic.Int64
	var failed sync.Map
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a := call(client, "POST", url, http.NoBody); a.status != 200 {
					failed.Store(calls.Load(), a.String())
				}
				calls.Add(1)
			}
		})
	}
	for i := range 60 {
		before := calls.Load()
		g.set(orders(port, 7, ends[:1+i%3]...))
		eventually(t, "calls to go on", func() bool { return calls.Load() > before+20 })
	}
	close(stop)
	wg.Wait()
	t.Logf("%d calls", calls.Load())
	failed.Range(func(at, what any) bool {
		t.Errorf("call %v: %v", at, what)
		return true
	})
}

// TestHerdWhileInstancesArrive: the parked herd is released with the first
// promoted instance and the others arrive while it runs; nothing fails.
func TestHerdWhileInstancesArrive(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	var ends []resource.Endpoint
	for i := range 3 {
		ends = append(ends, startInstance(t, fmt.Sprintf("west-%d", i), nil))
	}
	port := freePort(t)
	g.set(orders(port, 7, ends[0]))
	e := startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	const herd = 300
	client := manyConnections(herd)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	g.set(held(orders(port, 7, ends[0]), 8))
	g.awaitRoute(e.id, 8)
	var parked []<-chan answer
	for range herd {
		parked = append(parked, park(client, "POST", url, http.NoBody))
	}
	g.awaitWaiting(e.id, "orders", 8)
	start := time.Now()
	g.set(orders(port, 8, ends[0]))
	g.set(orders(port, 8, ends[:2]...))
	for i, c := range parked {
		if i == 1 {
			g.set(orders(port, 8, ends...))
		}
		if a := receive(t, "a parked request", c); a.status != 200 {
			t.Fatalf("parked request: %v", a)
		}
	}
	t.Logf("herd of %d served after %v", herd, time.Since(start))
}
