package control_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	loadservice "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// TestAuthorizeIsRequired: a server that would serve anybody by omission does
// not start.
func TestAuthorizeIsRequired(t *testing.T) {
	if _, err := control.New(control.Options{}); !errors.Is(err, control.ErrOptions) {
		t.Fatalf("got %v, want ErrOptions", err)
	}
}

// TestSPIFFE: only the certificate of exactly this node id passes.
func TestSPIFFE(t *testing.T) {
	p := newPKI(t)
	leaf := func(uri string) []*x509.Certificate {
		pair, _, _ := p.issue(t, uri)
		return []*x509.Certificate{pair.Leaf}
	}
	authorize := control.SPIFFE("test")
	for uri, ok := range map[string]bool{
		"spiffe://test/proxy/east/envoy-1":   true,
		"spiffe://test/proxy/east/envoy-2":   false,
		"spiffe://test/proxy/west/envoy-1":   false,
		"spiffe://test/agent/east/envoy-1":   false,
		"spiffe://other/proxy/east/envoy-1":  false,
		"spiffe://test/proxy/east/envoy-1/x": false,
	} {
		if err := authorize(leaf(uri), "east/envoy-1"); (err == nil) != ok {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if err := authorize(nil, "east/envoy-1"); !errors.Is(err, control.ErrNotAuthorized) {
		t.Errorf("no certificate: %v", err)
	}
}

// TestCloseEndsStreams: Close ends open streams with Unavailable, delivers the
// last events and leaves no goroutine (the bubble would not end).
func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []control.Event
		s, err := control.New(control.Options{
			Authorize: control.AllowAll, OnEvent: func(e control.Event) { events = append(events, e) },
		})
		must(t, err)
		silent := newPeer(t, s) // never says who it is
		p := newPeer(t, s)
		p.send("east/envoy-1", resource.ListenerType, nil)
		synctest.Wait()
		s.Close()
		for _, peer := range []*peer{silent, p} {
			if err := <-peer.done; err == nil || !strings.Contains(err.Error(), "Unavailable") {
				t.Errorf("stream ended with %v, want Unavailable", err)
			}
		}
		if len(events) != 2 {
			t.Errorf("events: %v, want connected and gone", events)
		}
		late := newPeer(t, s)
		if err := <-late.done; err == nil {
			t.Error("a stream is served after Close")
		}
		s.Close() // twice is harmless
	})
}

// TestSlowConsumer: a consumer of events that blocks holds up no stream, and
// is told when it missed something.
func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var mu sync.Mutex
		var got []control.Event
		s, err := control.New(control.Options{
			Authorize: control.AllowAll, Limits: control.Limits{Events: 3},
			OnEvent: func(e control.Event) { <-release; mu.Lock(); got = append(got, e); mu.Unlock() },
		})
		must(t, err)
		p := newPeer(t, s)
		p.send("east/envoy-1", resource.RouteType, nil, "orders")
		svc := orders(8080, 0)
		for term := uint64(1); term <= 20; term++ {
			svc.RouteTerm = term
			must(t, s.Set(svc))
			p.ack(<-p.out)
		}
		synctest.Wait()
		if list := s.Proxies(); list[0].Services[0].Term != 20 {
			t.Errorf("the server waited for its consumer: %+v", list)
		}
		close(release)
		synctest.Wait()
		if o, ok := got[len(got)-1].(control.Overflow); !ok || o.Dropped+len(got)-1 != 21 {
			t.Errorf("%d events and last %v: want all 21 accounted for", len(got), got[len(got)-1])
		}
		s.Close()
		if err := <-p.done; err == nil {
			t.Error("the stream ended without saying why")
		}
	})
}

// TestRefusals: what is refused is counted by reason and told to the hook.
func TestRefusals(t *testing.T) {
	registry := prometheus.NewRegistry()
	var log bytes.Buffer
	refused := 0
	s, err := control.New(control.Options{
		Authorize: func(_ []*x509.Certificate, id string) error {
			if id == "east/liar" {
				return control.ErrNotAuthorized
			}
			return nil
		},
		OnRefused: func(string, error) { refused++ }, Registerer: registry, Logger: zerolog.New(&log),
		Limits: control.Limits{Proxies: 2, StreamsPerProxy: 2, NameLength: 20},
	})
	must(t, err)
	defer s.Close()
	for _, id := range []string{"east/1", "east/2"} {
		p := newPeer(t, s)
		p.send(id, resource.ListenerType, nil)
		p.receive()
	}
	again := newPeer(t, s)
	again.send("east/1", resource.ListenerType, nil)
	again.receive()
	for i, c := range []struct{ id, reason string }{
		{"east/liar", "identity"}, {"", "node"}, {strings.Repeat("x", 21), "node"}, {"east/3", "limit"}, {"east/1", "limit"},
	} {
		before := gauge(t, registry, "signalbox_xds_streams_refused_total", c.reason)
		p := newPeer(t, s)
		p.send(c.id, resource.ListenerType, nil)
		if err := receive(t, "the refusal", p.done); err == nil {
			t.Errorf("%q is served", c.id)
		}
		if got := gauge(t, registry, "signalbox_xds_streams_refused_total", c.reason); got != before+1 || refused != i+1 {
			t.Errorf("%q: counted %v as %s, hook called %d times", c.id, got-before, c.reason, refused)
		}
	}
	if n := strings.Count(log.String(), "refused stream"); n != 5 {
		t.Errorf("%d refusals logged, want 5", n)
	}
}

// TestServiceLimit: services are bounded too.
func TestServiceLimit(t *testing.T) {
	s, err := control.New(control.Options{Authorize: control.AllowAll, Limits: control.Limits{Services: 1}})
	must(t, err)
	defer s.Close()
	must(t, s.Set(orders(8080, 1)))
	other := orders(8081, 1)
	other.Name = "pay"
	if err := s.Set(other); !errors.Is(err, control.ErrTooMany) {
		t.Fatalf("got %v, want ErrTooMany", err)
	}
	s.Remove("orders")
	must(t, s.Set(other))
}

// TestLoadReports: reports become events, silence after a report becomes one
// zero, and clusters of the proxy's own or of nobody's count for nothing.
func TestLoadReports(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	g.set(orders(8080, 8, resource.Endpoint{Address: "127.0.0.1", Port: 80}))
	pair, _, _ := p.issue(t, resource.ProxyURI(testCluster, "east/envoy-1"))
	conn, err := grpc.NewClient(g.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: p.pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13,
	})))
	must(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := loadservice.NewLoadReportingServiceClient(conn).StreamLoadStats(ctx)
	must(t, err)
	must(t, stream.Send(&loadservice.LoadStatsRequest{Node: nodeOf("east/envoy-1")}))
	asked, err := stream.Recv()
	must(t, err)
	if !asked.GetSendAllClusters() || asked.GetLoadReportingInterval().AsDuration() <= 0 {
		t.Fatalf("asked for %v", asked)
	}
	report := func(clusters ...string) {
		req := &loadservice.LoadStatsRequest{}
		for _, c := range clusters {
			req.ClusterStats = append(req.ClusterStats, &endpointv3.ClusterStats{
				ClusterName: c,
				UpstreamLocalityStats: []*endpointv3.UpstreamLocalityStats{
					{TotalRequestsInProgress: 1, TotalIssuedRequests: 10, TotalErrorRequests: 2},
					{TotalRequestsInProgress: 2, TotalIssuedRequests: 20, TotalErrorRequests: 3},
				},
			})
		}
		must(t, stream.Send(req))
	}
	report("orders@7", "orders@8", "mine", "unknown@1")
	report("orders@8")
	quiet := await(g, "zeros for orders@7", func(l control.Load) bool { return l.Term == 7 && l.Total == 0 })
	if quiet != (control.Load{Proxy: "east/envoy-1", Service: "orders", Term: 7}) {
		t.Fatalf("quiet: %+v", quiet)
	}
	full := await(g, "a report of orders@8", func(l control.Load) bool { return l.Term == 8 })
	if full.InProgress != 3 || full.Total != 30 || full.Errors != 5 {
		t.Fatalf("report: %+v", full)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if l, ok := e.(control.Load); ok && l.Service != "orders" {
			t.Errorf("a load of an unknown service: %+v", l)
		}
	}
}

// TestParkingIsBounded: connections beyond the bound wait unaccepted, closed
// ones make room, and Close ends all.
func TestParkingIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	lot := &countingListener{Listener: l}
	lot.cond = sync.NewCond(&lot.mu)
	registry := prometheus.NewRegistry()
	s, err := control.New(control.Options{Authorize: control.AllowAll, Parking: lot, ParkingConnections: 2, Registerer: registry})
	must(t, err)
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		must(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	lot.await(2)
	parked := func() float64 { return gauge(t, registry, "signalbox_xds_parked_connections", "") }
	eventually(t, "two parked connections", func() bool { return parked() == 2 })
	must(t, conns[0].Close())
	lot.await(3) // only now is there room for the third
	eventually(t, "two parked connections again", func() bool { return parked() == 2 })
	s.Close()
	if got := parked(); got != 0 {
		t.Fatalf("%v connections parked after Close", got)
	}
	if _, err := conns[1].Read(make([]byte, 1)); err == nil {
		t.Fatal("the parking listener answered")
	}
}
