package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// How long the instances of the tests wait until they are quiet. They refuse what comes later, and who made a call that
// was on its way then would see it fail: the library of agents parks such calls, these instances do not.
const (
	quiet     = 250 * time.Millisecond
	quietMost = 5 * time.Second
)

// callsService is a gRPC service with one instance in each data center, called by proxyless clients.
const callsService = "calls"

// greeter is a gRPC instance with the HTTP driver contract, written from its documentation only.
type greeter struct {
	healthpb.UnimplementedHealthServer
	mu       sync.Mutex
	master   bool
	term     uint64
	inFlight int
	last     time.Time // when a call came
	served   atomic.Int64
	during   *atomic.Int64 // calls being served in all data centers but this one's
	other    *atomic.Int64
	overlaps *atomic.Int64
	letGo    chan struct{} // ends calls for hangs
}

// hangs, as the service of a call, has it take until the greeter lets it go.
const hangs = "hangs"

// Check answers while this instance is master.
func (g *greeter) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	g.mu.Lock()
	if !g.master {
		term := g.term
		g.mu.Unlock()
		if in, _ := metadata.FromIncomingContext(ctx); len(in.Get(signalbox.HeaderTerm)) > 0 { // through an Envoy
			_ = grpc.SetHeader(ctx, metadata.Pairs(signalbox.HeaderNotMaster, strconv.FormatUint(term, 10)))
		}
		return nil, status.Error(codes.ResourceExhausted, "not master")
	}
	g.inFlight++
	g.last = time.Now()
	g.mu.Unlock()
	g.during.Add(1)
	if g.other.Load() > 0 {
		g.overlaps.Add(1)
	}
	if r.GetService() == hangs {
		select {
		case <-g.letGo:
		case <-ctx.Done():
		}
	}
	defer func() {
		g.during.Add(-1)
		g.mu.Lock()
		g.inFlight--
		g.mu.Unlock()
		g.served.Add(1)
	}()
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// contract is the HTTP driver contract.
func (g *greeter) contract() http.Handler {
	say := func(w http.ResponseWriter, body any) { _ = json.NewEncoder(w).Encode(body) }
	order := func(r *http.Request) (o struct{ Term uint64 }) {
		_ = json.NewDecoder(r.Body).Decode(&o)
		return o
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /signalbox/ready", func(w http.ResponseWriter, _ *http.Request) { say(w, map[string]any{"ready": true}) })
	mux.HandleFunc("GET /signalbox/mastership", func(w http.ResponseWriter, _ *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		say(w, map[string]any{"master": g.master, "term": g.term, "in_flight": g.inFlight})
	})
	mux.HandleFunc("POST /signalbox/promote", func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.master, g.term = true, order(r).Term
		say(w, map[string]any{"master": true, "term": g.term})
	})
	mux.HandleFunc("POST /signalbox/step-down", func(w http.ResponseWriter, r *http.Request) {
		g.awaitQuiet(r.Context())
		g.mu.Lock()
		defer g.mu.Unlock()
		g.master = false
		say(w, map[string]any{"drained": g.inFlight == 0, "in_flight": g.inFlight})
	})
	return mux
}

// awaitQuiet returns when no call came for a while: what was sent before the client had the hold is still served, also
// where the machine does something else between the two.
func (g *greeter) awaitQuiet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quietMost)
	defer cancel()
	_ = demo.Await(ctx, "quiet", func(context.Context) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if time.Since(g.last) < quiet {
			return errors.New("calls come")
		}
		return nil
	})
}

// startGreeter serves gRPC and the contract, with an agent of the site beside it.
func startGreeter(t *testing.T, f *fixture, dc string, g *greeter) {
	t.Helper()
	calls, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, g)
	go func() { _ = server.Serve(calls) }()
	t.Cleanup(server.Stop)
	control, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	contract := &http.Server{Handler: g.contract(), ReadHeaderTimeout: patience}
	go func() { _ = contract.Serve(control) }()
	t.Cleanup(func() { _ = contract.Close() })
	must(t, f.AddAgent(callsService, "agent-calls-"+dc, "", demo.Instance{
		Name: "calls-" + dc + "-1", DataCenter: dc, Address: calls.Addr().String(), Control: control.Addr().String(),
	}))
}

// Rule: a proxyless grpc-go client, the second and independent xDS client, is held and released: no call fails, and no
// two data centers answer at once.
func testProxyless(t *testing.T, f *fixture) {
	var east, west, overlaps atomic.Int64
	startGreeter(t, f, demo.East, &greeter{during: &east, other: &west, overlaps: &overlaps})
	startGreeter(t, f, demo.West, &greeter{during: &west, other: &east, overlaps: &overlaps})
	eventually(t, "the adoption", func(ctx context.Context) error {
		_, err := f.API().Adopt(ctx, client.NewKey(), callsService, api.AdoptRequest{DataCenter: demo.East})
		return err
	})
	conn := proxylessClient(t, f, demo.West)
	calls := callOften(t, conn)
	for n := range 4 {
		calls.goOn(t)
		to := demo.West
		if n%2 == 1 {
			to = demo.East
		}
		f.switchOf(t, callsService, to)
	}
	calls.goOn(t)
	calls.unharmed(t)
	if overlaps.Load() > 0 {
		t.Errorf("%d calls overlapped", overlaps.Load())
	}
}

// switchOf moves another service than the site's own, as soon as the checks let it.
func (f *fixture) switchOf(t *testing.T, service, to string) {
	t.Helper()
	f.moved(t, api.SwitchRequest{Service: service, To: to})
}

// beginOf orders a switch of any service.
func (f *fixture) beginOf(t *testing.T, service, to string, budget time.Duration) api.Handover {
	t.Helper()
	return f.order(t, api.SwitchRequest{Service: service, To: to, HoldBudgetMS: budget.Milliseconds()})
}

// calls are made at a steady rate until unharmed.
type calls struct {
	made, failed atomic.Int64
	last         atomic.Value
	stop         context.CancelFunc
	all          sync.WaitGroup
}

func callOften(t *testing.T, conn *grpc.ClientConn) *calls {
	stub := healthpb.NewHealthClient(conn)
	c := &calls{}
	var callers context.Context
	callers, c.stop = context.WithCancel(t.Context())
	for range 4 {
		c.all.Go(func() {
			// At a steady rate, not as fast as two cores can: a client that never pauses has calls under way whenever
			// the master closes, and a gRPC call that was refused is not sent again.
			pace := time.NewTicker(4 * time.Millisecond)
			defer pace.Stop()
			for callers.Err() == nil {
				<-pace.C
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := stub.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
				cancel()
				if err != nil {
					c.failed.Add(1)
					c.last.Store(err)
				}
				c.made.Add(1)
			}
		})
	}
	t.Cleanup(func() { c.stop(); c.all.Wait() })
	return c
}

func (c *calls) goOn(t *testing.T) {
	t.Helper()
	before := c.made.Load()
	eventually(t, "calls to go on", func(context.Context) error {
		if c.made.Load() < before+50 {
			return fmt.Errorf("%d calls, %d before; %d failed: %v", c.made.Load(), before, c.failed.Load(), c.last.Load())
		}
		return nil
	})
}

// unharmed ends the calls: none may have failed.
func (c *calls) unharmed(t *testing.T) {
	t.Helper()
	c.stop()
	c.all.Wait()
	if c.failed.Load() > 0 {
		t.Errorf("%d of %d calls failed (%v)", c.failed.Load(), c.made.Load(), c.last.Load())
	}
}

// proxylessClient is a grpc-go channel with the bootstrap that signalbox makes for it.
func proxylessClient(t *testing.T, f *fixture, dc string) *grpc.ClientConn {
	t.Helper()
	bundle, err := f.Issue(rpc.RoleProxy, dc, "caller")
	must(t, err)
	o := resource.BootstrapOptions{
		Cluster: "demo", DataCenter: dc, Name: "caller",
		CertFile: bundle + "/" + identity.FileCertificate, KeyFile: bundle + "/" + identity.FileKey, CAFile: bundle + "/" + identity.FileCA,
	}
	for _, g := range f.Gateways() {
		if g.DataCenter == dc {
			o.Gateways = append(o.Gateways, g.XDS)
		}
	}
	config, err := resource.BootstrapGRPC(o)
	must(t, err)
	resolver, err := xds.NewXDSResolverWithConfigForTesting(config)
	must(t, err)
	conn, err := grpc.NewClient("xds:///"+callsService, grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	eventually(t, "the first call", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if errors.Is(err, context.Canceled) {
			return errors.New("canceled")
		}
		return err
	})
	return conn
}
