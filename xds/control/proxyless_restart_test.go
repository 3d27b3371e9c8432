package control_test

import (
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/xds"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// TestProxylessHoldSurvivesServer: calls that wait at the parking listeners
// go on waiting when one gateway dies with its parking listener, and are
// released by the restarted gateway.
func TestProxylessHoldSurvivesServer(t *testing.T) {
	p := newPKI(t)
	first, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	other, err := net.Listen("tcp", "127.0.0.1:0") // the other gateway's
	must(t, err)
	defer other.Close()
	lots := []resource.Endpoint{endpointOf(first), endpointOf(other)}
	g := startGateway(t, p, "", func(o *control.Options) { o.Parking, o.ParkingEndpoints = first, lots })
	east, west := startGreeter(t, eastSays), startGreeter(t, westSays)
	g.set(grpcService(1, 7, east))
	o := proxyOptions(t, p, "client-1", g.addr)
	b, err := resource.BootstrapGRPC(o)
	must(t, err)
	resolver, err := xds.NewXDSResolverWithConfigForTesting(b)
	must(t, err)
	conn, err := grpc.NewClient("xds:///orders", grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	if v := check(client); v.err != nil || v.says != eastSays {
		t.Fatalf("before: %v: %v", v.says, v.err)
	}
	awaitReady(t, conn)
	hold := held(grpcService(1, 7, east), 8)
	g.set(hold)
	g.awaitRoute(o.NodeID(), 8)
	awaitLetGo(t, conn)
	parked := parkCheck(client)
	g.stop()
	select {
	case v := <-parked:
		t.Fatalf("answered while held: %v: %v", v.says, v.err)
	default:
	}
	again, err := net.Listen("tcp", first.Addr().String())
	must(t, err)
	g = startGateway(t, p, g.addr, func(o *control.Options) { o.Parking, o.ParkingEndpoints = again, lots })
	g.set(hold)
	g.awaitRoute(o.NodeID(), 8)
	g.set(grpcService(1, 8, west))
	if v := receive(t, "the parked call", parked); v.err != nil || v.says != westSays {
		t.Fatalf("parked call: %v: %v", v.says, v.err)
	}
}

// TestProxylessNeverGoesBack: a restarted gateway that missed the release does
// not park a client again that was released (rule 7).
func TestProxylessNeverGoesBack(t *testing.T) {
	p := newPKI(t)
	parkingLot := func(o *control.Options) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		o.Parking = l
	}
	g := startGateway(t, p, "", parkingLot)
	east, west := startGreeter(t, eastSays), startGreeter(t, westSays)
	g.set(grpcService(1, 8, west))
	o := proxyOptions(t, p, "client-1", g.addr)
	b, err := resource.BootstrapGRPC(o)
	must(t, err)
	resolver, err := xds.NewXDSResolverWithConfigForTesting(b)
	must(t, err)
	conn, err := grpc.NewClient("xds:///orders", grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	if v := check(client); v.err != nil || v.says != westSays {
		t.Fatalf("before: %v: %v", v.says, v.err)
	}
	g.awaitRoute(o.NodeID(), 8)
	g.stop()
	registry := prometheus.NewRegistry()
	g = startGateway(t, p, g.addr, parkingLot, func(o *control.Options) { o.Registerer = registry })
	g.set(held(grpcService(1, 7, east), 8))
	g.awaitRoute(o.NodeID(), 8) // reported by the client
	eventually(t, "the older view to be withheld", func() bool {
		return gauge(t, registry, "signalbox_xds_downgrades_withheld_total", "endpoints") > 0
	})
	if v := check(client); v.err != nil || v.says != westSays {
		t.Fatalf("after the restart with an older view: %v: %v", v.says, v.err)
	}
	g.set(grpcService(1, 9, east))
	g.awaitRoute(o.NodeID(), 9)
	eventually(t, "the client to follow", func() bool { return check(client).says == eastSays })
}
