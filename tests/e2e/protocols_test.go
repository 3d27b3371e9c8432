package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// TestProtocols is the interlock for what is not HTTP/1.1 on a whole site: an HTTP/2, a TCP and a gRPC service behind real
// Envoys, with instances in processes of their own, are moved there and back and given up under load, and no request
// fails.
func TestProtocols(t *testing.T) {
	f := start(t, demo.Options{Protocol: "http2", Gateways: 1, Instances: 2, Envoys: 1, More: []demo.MoreService{
		{Name: linesService, Protocol: "tcp", Listen: true}, {Name: callsService, Protocol: "grpc", Listen: true},
	}})
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	for _, dc := range demo.DataCenters() {
		_, err := f.AddEnvoy(dc, "envoy-"+dc+"-complete", nil)
		must(t, err)
	}
	t.Run("http2", func(t *testing.T) { testHTTP2(t, f) })
	t.Run("tcp", func(t *testing.T) { testTCP(t, f) })
	t.Run("grpc", func(t *testing.T) { testGRPC(t, f) })
	f.innocent(t)
}

func http2(c *load.Config) { c.Protocol = load.H2C }

// Rule: requests of an HTTP/2 service are held and released, when it is moved and when that is given up.
func testHTTP2(t *testing.T, f *fixture) {
	l := f.load(t, http2)
	f.thereAndBack(t)
	unharmed(t, l)

	hangs := f.slowly(t, demo.East, "http2-hangs")
	l = f.load(t, http2)
	f.givenUp(t, f.order(t, api.SwitchRequest{Service: demo.Service, To: demo.West, HoldBudgetMS: 1000}).ID)
	hangs.letGo(t)
	f.steady(t, demo.East)
	unharmed(t, l)
}

// givenUp waits for the end of a handover whose old side goes on.
func (f *fixture) givenUp(t *testing.T, id string) {
	t.Helper()
	h, err := f.Follow(within(t), id)
	must(t, err)
	if h.Outcome != api.OutcomeFallback || h.CertifiedTerm != h.FallbackTerm {
		t.Errorf("outcome %s at term %d, want the fallback %d\n%s", h.Outcome, h.CertifiedTerm, h.FallbackTerm, timeline(&h))
	}
}

// adoptMore adopts one of the services that a test brings, in the east.
func (f *fixture) adoptMore(t *testing.T, service string) {
	t.Helper()
	eventually(t, "the adoption of "+service, func(ctx context.Context) error {
		_, err := f.API().Adopt(ctx, client.NewKey(), service, api.AdoptRequest{DataCenter: demo.East})
		return err
	})
}

// everyEnvoyHas waits until each Envoy with the complete bootstrap follows a term of the service, and takes callers: before
// the adoption a TCP service has no listener.
func (f *fixture) everyEnvoyHas(t *testing.T, service string, term uint64) {
	t.Helper()
	eventually(t, "the Envoys to follow "+service, func(ctx context.Context) error {
		proxies, err := f.API().Proxies(ctx, service)
		if err != nil {
			return err
		}
		n := 0
		for _, p := range proxies {
			for _, route := range p.Routes {
				if route.Service == service && route.Term >= term && strings.HasSuffix(p.ID, "-complete") {
					n++
				}
			}
		}
		if n < len(demo.DataCenters()) {
			return fmt.Errorf("%d of %d", n, len(demo.DataCenters()))
		}
		c, err := net.Dial("tcp", f.ListenerOf(service))
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// Rule: calls of a gRPC service through Envoys are held and released, when it is moved and when that is given up, and no
// two data centers answer at once.
func testGRPC(t *testing.T, f *fixture) {
	var east, west, overlaps atomic.Int64
	letGo := make(chan struct{})
	startGreeter(t, f, demo.East, &greeter{during: &east, other: &west, overlaps: &overlaps, letGo: letGo})
	startGreeter(t, f, demo.West, &greeter{during: &west, other: &east, overlaps: &overlaps})
	f.adoptMore(t, callsService)
	f.everyEnvoyHas(t, callsService, 1)
	conn, err := grpc.NewClient("passthrough:///"+f.ListenerOf(callsService), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	c := callOften(t, conn)
	for _, to := range []string{demo.West, demo.East} {
		c.goOn(t)
		f.switchOf(t, callsService, to)
	}
	c.goOn(t)
	slow := make(chan error, 1)
	go func() {
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: hangs})
		slow <- err
	}()
	eventually(t, "the slow call to be under way", func(context.Context) error {
		if east.Load() == 0 {
			return errors.New("none")
		}
		return nil
	})
	f.givenUp(t, f.beginOf(t, callsService, demo.West, time.Second).ID)
	close(letGo)
	if err := <-slow; err != nil {
		t.Errorf("the call that hung: %v", err)
	}
	c.goOn(t)
	c.unharmed(t)
	if overlaps.Load() > 0 {
		t.Errorf("%d calls overlapped", overlaps.Load())
	}
}
