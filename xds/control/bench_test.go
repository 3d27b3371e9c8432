package control_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// BenchmarkHandover measures one real Envoy: hold is from Set to the route's
// ACK, release from Set to the first parked request's answer, cluster from
// Set to the proxy no longer waiting for the name.
func BenchmarkHandover(b *testing.B) {
	p := newPKI(b)
	acks := make(chan uint64, 1024)
	g := startGateway(b, p, "", func(o *control.Options) {
		o.OnEvent = func(e control.Event) {
			if a, ok := e.(control.RouteAcknowledged); ok {
				acks <- a.Term
			}
		}
	})
	ends := []resource.Endpoint{startInstance(b, "east", nil), startInstance(b, "west", nil)}
	port := freePort(b)
	g.set(orders(port, 1, ends[1]))
	e := startProxy(b, p, "envoy-1", g.addr)
	awaitListening(b, port)
	receive(b, "the first route", acks)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	var holds, releases []time.Duration
	term := uint64(1)
	for b.Loop() {
		term++
		start := time.Now()
		g.set(held(orders(port, term-1, ends[(term-1)%2]), term))
		for receive(b, "the hold", acks) != term {
		}
		holds = append(holds, time.Since(start))
		parked := park(http.DefaultClient, "GET", url, nil)
		g.awaitWaiting(e.id, "orders", term)
		start = time.Now()
		s := orders(port, term, ends[term%2])
		s.OldestTerm = term
		g.set(s)
		if a := receive(b, "the parked request", parked); a.status != 200 {
			b.Fatal(a)
		}
		releases = append(releases, time.Since(start))
	}
	b.ReportMetric(median(holds), "hold-ms")
	b.ReportMetric(median(releases), "release-ms")
}

// BenchmarkSet measures pushing one service with 10 and with 10,000
// registered, to the point where the streams are woken.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			server, err := control.New(control.Options{Authorize: control.AllowAll})
			must(b, err)
			defer server.Close()
			for i := range n {
				s := orders(8080, 1, resource.Endpoint{Address: "127.0.0.1", Port: 80})
				s.Name = fmt.Sprintf("service-%d", i)
				must(b, server.Set(s))
			}
			peer := newPeer(b, server)
			peer.send("east/envoy-1", resource.ListenerType, nil)
			peer.send("", resource.RouteType, nil, "service-0")
			for seen := 0; seen < n+1; {
				r := peer.receive()
				seen += len(r.GetResources())
				peer.ack(r)
			}
			term := uint64(1)
			s := orders(8080, 1, resource.Endpoint{Address: "127.0.0.1", Port: 80})
			s.Name = "service-0"
			for b.Loop() {
				term++
				s.RouteTerm, s.CertifiedTerm = term, term
				must(b, server.Set(s))
				peer.ack(peer.receive())
			}
		})
	}
}
