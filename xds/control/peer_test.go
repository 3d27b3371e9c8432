package control_test

import (
	"context"
	"io"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/signalbox-io/signalbox/xds/control"
)

// services catches what Register registers, so that tests can call the
// handlers without a network.
type services map[string]any

func (s services) RegisterService(d *grpc.ServiceDesc, impl any) { s[d.ServiceName] = impl }

// peer is the other end of one delta stream, without a network.
type peer struct {
	t      testing.TB
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *discovery.DeltaDiscoveryRequest
	out    chan *discovery.DeltaDiscoveryResponse
	done   chan error
}

func newPeer(t testing.TB, s *control.Server) *peer {
	return startPeer(t, func(reg services, p *peer) error {
		return reg["envoy.service.discovery.v3.AggregatedDiscoveryService"].(discovery.AggregatedDiscoveryServiceServer).DeltaAggregatedResources(p)
	}, s)
}

func newOnDemandPeer(t testing.TB, s *control.Server) *peer {
	return startPeer(t, func(reg services, p *peer) error {
		return reg["envoy.service.cluster.v3.ClusterDiscoveryService"].(clusterservice.ClusterDiscoveryServiceServer).DeltaClusters(p)
	}, s)
}

func startPeer(t testing.TB, run func(services, *peer) error, s *control.Server) *peer {
	p := &peer{
		t: t, in: make(chan *discovery.DeltaDiscoveryRequest),
		out: make(chan *discovery.DeltaDiscoveryResponse, 16), done: make(chan error, 1),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	reg := services{}
	s.Register(reg)
	go func() {
		err := run(reg, p)
		p.cancel() // as gRPC does when a handler returns
		p.done <- err
	}()
	t.Cleanup(p.cancel)
	return p
}

func (p *peer) Context() context.Context { return p.ctx }

func (p *peer) Recv() (*discovery.DeltaDiscoveryRequest, error) {
	select {
	case r, ok := <-p.in:
		if !ok {
			return nil, io.EOF
		}
		return r, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (p *peer) Send(r *discovery.DeltaDiscoveryResponse) error {
	select {
	case p.out <- r:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *peer) SetHeader(metadata.MD) error  { return nil }
func (p *peer) SendHeader(metadata.MD) error { return nil }
func (p *peer) SetTrailer(metadata.MD)       {}
func (p *peer) SendMsg(any) error            { return nil }
func (p *peer) RecvMsg(any) error            { return nil }

// send asks for names; node may be "" after the first request. reported are
// the versions that the proxy has.
func (p *peer) send(node, typ string, reported map[string]string, names ...string) {
	p.t.Helper()
	p.put(&discovery.DeltaDiscoveryRequest{
		TypeUrl: typ, ResourceNamesSubscribe: names, InitialResourceVersions: reported, Node: nodeOf(node),
	})
}

func nodeOf(id string) *corev3.Node {
	if id == "" {
		return nil
	}
	return &corev3.Node{Id: id, Cluster: "east", UserAgentName: "envoy"}
}

func (p *peer) put(req *discovery.DeltaDiscoveryRequest) {
	p.t.Helper()
	select {
	case p.in <- req:
	case <-p.ctx.Done():
		p.t.Fatalf("the stream ended: %v", <-p.done)
	}
}

func (p *peer) ack(r *discovery.DeltaDiscoveryResponse) {
	p.t.Helper()
	p.put(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

func (p *peer) nack(r *discovery.DeltaDiscoveryResponse, words string) {
	p.t.Helper()
	p.put(&discovery.DeltaDiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: &statuspb.Status{Code: 3, Message: words},
	})
}

func (p *peer) receive() *discovery.DeltaDiscoveryResponse {
	p.t.Helper()
	return receive(p.t, "a response", p.out)
}
