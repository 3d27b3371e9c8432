package control_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/xds"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// greeter is a gRPC instance: Check answers SERVING at the new master and
// NOT_SERVING at the old one, so that callers see who answered.
type greeter struct {
	healthpb.UnimplementedHealthServer
	status healthpb.HealthCheckResponse_ServingStatus
}

func (g greeter) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: g.status}, nil
}

const (
	eastSays = healthpb.HealthCheckResponse_NOT_SERVING
	westSays = healthpb.HealthCheckResponse_SERVING
)

func startGreeter(t testing.TB, says healthpb.HealthCheckResponse_ServingStatus) resource.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, greeter{status: says})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return endpointOf(l)
}

type verdict struct {
	says healthpb.HealthCheckResponse_ServingStatus
	err  error
}

func check(client healthpb.HealthClient) verdict {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
	return verdict{r.GetStatus(), err}
}

func parkCheck(client healthpb.HealthClient) <-chan verdict {
	done := make(chan verdict, 1)
	go func() { done <- check(client) }()
	return done
}

func grpcService(port uint32, term uint64, e resource.Endpoint) resource.Service {
	s := orders(port, term, e)
	s.Protocol = resource.GRPC
	return s
}

// TestGRPCThroughEnvoy: gRPC calls are held and released.
func TestGRPCThroughEnvoy(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east, west := startGreeter(t, eastSays), startGreeter(t, westSays)
	port := freePort(t)
	g.set(grpcService(port, 7, east))
	e := startProxy(t, p, "envoy-1", g.addr)
	awaitListening(t, port)
	conn, err := grpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	if v := check(client); v.err != nil || v.says != eastSays {
		t.Fatalf("before: %v", v)
	}
	g.set(held(grpcService(port, 7, east), 8))
	g.awaitRoute(e.id, 8)
	parked := parkCheck(client)
	g.awaitWaiting(e.id, "orders", 8)
	g.set(grpcService(port, 8, west))
	if v := receive(t, "the parked call", parked); v.err != nil || v.says != westSays {
		t.Fatalf("parked call: %v: %v", v.says, v.err)
	}
}

// TestProxylessGRPC: grpc-go's own xDS client, an implementation independent
// of Envoy, is held at the parking listener and released by EDS.
func TestProxylessGRPC(t *testing.T) {
	p := newPKI(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	lot := &countingListener{Listener: l}
	lot.cond = sync.NewCond(&lot.mu)
	g := startGateway(t, p, "", func(o *control.Options) { o.Parking = lot })
	east, west := startGreeter(t, eastSays), startGreeter(t, westSays)
	g.set(grpcService(1, 7, east))

	o := proxyOptions(t, p, "client-1", g.addr)
	b, err := resource.BootstrapGRPC(o)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(t.TempDir(), "unused"), b, 0o600))
	resolver, err := xds.NewXDSResolverWithConfigForTesting(b)
	must(t, err)
	conn, err := grpc.NewClient("xds:///orders", grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	if v := check(client); v.err != nil || v.says != eastSays {
		t.Fatalf("before: %v", v)
	}
	g.awaitRoute(o.NodeID(), 7)
	awaitReady(t, conn)

	g.set(held(grpcService(1, 7, east), 8))
	g.awaitRoute(o.NodeID(), 8)
	lot.await(1) // its connection attempt hangs where nobody answers
	awaitLetGo(t, conn)
	var parked []<-chan verdict
	for range 10 {
		parked = append(parked, parkCheck(client))
	}
	select {
	case v := <-parked[0]:
		t.Fatalf("answered during the hold: %v", v)
	default:
	}
	g.set(grpcService(1, 8, west))
	for _, c := range parked {
		if v := receive(t, "a parked call", c); v.err != nil || v.says != westSays {
			t.Fatalf("parked call: %v: %v", v.says, v.err)
		}
	}
}

// awaitReady waits until a client says that it is connected, which it says a moment
// after its first call may be answered: only then does awaitLetGo mean anything.
func awaitReady(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	eventually(t, "the client to be connected", func() bool { return conn.GetState() == connectivity.Ready })
}

// awaitLetGo waits until a client calls the old master no more. It acknowledges the
// hold, and begins to connect, a moment before that.
func awaitLetGo(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	eventually(t, "the client to let go of the old master", func() bool { return conn.GetState() != connectivity.Ready })
}

// countingListener tells how many connections were accepted.
type countingListener struct {
	net.Listener
	mu       sync.Mutex
	cond     *sync.Cond
	accepted int
}

func (c *countingListener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.accepted++
		c.cond.Broadcast()
		c.mu.Unlock()
	}
	return conn, err
}

func (c *countingListener) await(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.accepted < n {
		c.cond.Wait()
	}
}

// startEcho is a TCP instance that greets with its name and then echoes.
func startEcho(t testing.TB, name string) resource.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					fmt.Fprintf(c, "%s %s\n", name, lines.Text())
				}
			}()
		}
	}()
	return endpointOf(l)
}

// line is one connection through Envoy.
type line struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, port uint32) *line {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &line{c, bufio.NewReader(c)}
}

func (l *line) ask(text string) <-chan string {
	done := make(chan string, 1)
	go func() {
		if _, err := fmt.Fprintln(l, text); err != nil {
			done <- err.Error()
			return
		}
		reply, err := l.r.ReadString('\n')
		if err != nil {
			reply = err.Error()
		}
		done <- reply
	}()
	return done
}

// TestTCP: new connections wait and are served after the release, existing
// ones live on until the instance closes them.
func TestTCP(t *testing.T) {
	p := newPKI(t)
	g := startGateway(t, p, "")
	east, west := startEcho(t, "east"), startEcho(t, "west")
	port := freePort(t)
	service := func(term uint64, e resource.Endpoint) resource.Service {
		s := orders(port, term, e)
		s.Protocol = resource.TCP
		return s
	}
	g.set(service(7, east))
	e := startProxy(t, p, "envoy-1", g.addr)
	g.awaitRoute(e.id, 7)
	awaitListening(t, port)
	old := dial(t, port)
	if got := receive(t, "the first reply", old.ask("a")); got != "east a\n" {
		t.Fatalf("before: %q", got)
	}
	g.set(held(service(7, east), 8))
	g.awaitRoute(e.id, 8)
	parked := dial(t, port).ask("b")
	g.awaitWaiting(e.id, "orders", 8)
	if got := receive(t, "the old connection's reply", old.ask("c")); got != "east c\n" {
		t.Fatalf("existing connection during the hold: %q", got)
	}
	g.set(service(8, west))
	if got := receive(t, "the parked connection's reply", parked); got != "west b\n" {
		t.Fatalf("parked connection: %q", got)
	}
}
