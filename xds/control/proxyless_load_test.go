package control_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/xds"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// TestProxylessUnderLoad: no call fails over many handovers while callers
// never pause. (A route that names a new cluster per term loses calls: grpc-go
// picks by the new route before its balancer knows the cluster.)
func TestProxylessUnderLoad(t *testing.T) {
	p := newPKI(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := startGateway(t, p, "", func(o *control.Options) { o.Parking = l })
	ends := []resource.Endpoint{startGreeter(t, eastSays), startGreeter(t, westSays)}
	g.set(grpcService(1, 1, ends[1]))
	o := proxyOptions(t, p, "client-1", g.addr)
	b, err := resource.BootstrapGRPC(o)
	must(t, err)
	resolver, err := xds.NewXDSResolverWithConfigForTesting(b)
	must(t, err)
	conn, err := grpc.NewClient("xds:///orders", grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)

	var calls, failed atomic.Int64
	var last atomic.Value
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if v := check(client); v.err != nil {
					failed.Add(1)
					last.Store(v.err)
				}
				calls.Add(1)
			}
		})
	}
	for term := uint64(2); term < 32; term++ {
		g.set(held(grpcService(1, term-1, ends[(term-1)%2]), term))
		g.awaitRoute(o.NodeID(), term)
		g.set(grpcService(1, term, ends[term%2]))
		before := calls.Load()
		eventually(t, "calls to go on", func() bool { return calls.Load() > before+50 })
	}
	close(stop)
	wg.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Fatalf("%d of %d calls failed, for example: %v", failed.Load(), calls.Load(), last.Load())
	}
}
