package server

import (
	"context"
	"fmt"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// proxy stands for an Envoy: it follows the route of the service and asks for
// the clusters that its routes name.
type proxy struct {
	s    *site
	id   string
	conn *grpc.ClientConn
	stop context.CancelFunc

	mu       sync.Mutex
	cds      deltaStream
	late     bool           // does not answer routes
	nack     string         // rejects routes, in these words
	answers  []func()       // routes not answered yet
	offered  signalbox.Term // the newest route that it was sent
	term     signalbox.Term
	clusters map[signalbox.Term][]string // endpoints by the term in the name
	led      map[signalbox.Term][]string // all endpoints that a name ever led to
}

type deltaStream = grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]

// startProxy connects to a gateway's xDS port.
func (s *site) startProxy(name, gateway string) *proxy {
	s.t.Helper()
	where, dc, _ := s.cluster.Gateway(gateway)
	b, err := identity.Load(s.bundle(rpc.Principal{Role: rpc.RoleProxy, DataCenter: dc, Name: name}))
	must(s.t, err)
	keeper, err := b.Keeper()
	must(s.t, err)
	p := &proxy{s: s, id: fmt.Sprintf("%s/%s", dc, name), clusters: map[signalbox.Term][]string{}, led: map[signalbox.Term][]string{}}
	p.conn, err = grpc.NewClient(where.XDS, grpc.WithTransportCredentials(credentials.NewTLS(keeper.Client(rpc.RoleGateway))))
	must(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = func() { cancel(); _ = p.conn.Close() }
	s.t.Cleanup(p.stop)
	node := &corev3.Node{Id: p.id, Cluster: string(dc), UserAgentName: "envoy"}
	p.cds, err = clusterservice.NewClusterDiscoveryServiceClient(p.conn).DeltaClusters(ctx, grpc.WaitForReady(true))
	must(s.t, err)
	must(s.t, p.cds.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: resource.ClusterType, Node: node}))
	ads, err := discovery.NewAggregatedDiscoveryServiceClient(p.conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	must(s.t, err)
	must(s.t, ads.Send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: resource.RouteType, Node: node, ResourceNamesSubscribe: []string{string(orders)},
	}))
	go p.follow(ads)
	go p.followClusters()
	return p
}

func (p *proxy) follow(ads deltaStream) {
	for {
		r, err := ads.Recv()
		if err != nil {
			return
		}
		var term signalbox.Term
		for _, res := range r.GetResources() {
			var rc routev3.RouteConfiguration
			if res.GetResource().UnmarshalTo(&rc) == nil {
				_, term, _ = signalbox.ParseRouteName(rc.GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetCluster())
			}
		}
		p.mu.Lock()
		p.offered = max(p.offered, term)
		p.answers = append(p.answers, func() {
			if term > 0 {
				p.term = term
				_ = p.cds.Send(&discovery.DeltaDiscoveryRequest{
					TypeUrl: resource.ClusterType, ResourceNamesSubscribe: []string{signalbox.RouteName(orders, term)},
				})
			}
			_ = ads.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		})
		switch {
		case p.nack != "":
			_ = ads.Send(&discovery.DeltaDiscoveryRequest{
				TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: &statuspb.Status{Code: 3, Message: p.nack},
			})
		case !p.late:
			p.answerAll()
		}
		p.mu.Unlock()
	}
}

func (p *proxy) answerAll() {
	for _, answer := range p.answers {
		answer()
	}
	p.answers = nil
}

func (p *proxy) followClusters() {
	for {
		r, err := p.cds.Recv()
		if err != nil {
			return
		}
		p.mu.Lock()
		for _, res := range r.GetResources() {
			var c clusterv3.Cluster
			if res.GetResource().UnmarshalTo(&c) != nil {
				continue
			}
			_, term, _ := signalbox.ParseRouteName(c.GetName())
			var endpoints []string
			for _, l := range c.GetLoadAssignment().GetEndpoints() {
				for _, e := range l.GetLbEndpoints() {
					a := e.GetEndpoint().GetAddress().GetSocketAddress()
					endpoints = append(endpoints, fmt.Sprintf("%s:%d", a.GetAddress(), a.GetPortValue()))
				}
			}
			p.clusters[term], p.led[term] = endpoints, append(p.led[term], endpoints...)
		}
		_ = p.cds.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		p.mu.Unlock()
	}
}

// set changes the proxy.
func (p *proxy) set(f func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// routed waits until the proxy has the route of a term.
func (p *proxy) routed(term signalbox.Term) {
	p.s.t.Helper()
	eventually(p.s.t, fmt.Sprintf("%s to have the route of term %d", p.id, term), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.term >= term
	})
}

// awaitOffer waits until the proxy was sent the route of a term.
func (p *proxy) awaitOffer(term signalbox.Term) {
	p.s.t.Helper()
	eventually(p.s.t, fmt.Sprintf("%s to be sent the route of term %d", p.id, term), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.offered >= term
	})
}

// released waits until the name of a term leads to instances of a data center:
// what was parked under it flows.
func (p *proxy) released(term signalbox.Term, dc signalbox.DataCenter) {
	p.s.t.Helper()
	eventually(p.s.t, fmt.Sprintf("%s to have orders@%d in %s", p.id, term, dc), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, e := range p.clusters[term] {
			if p.s.siteOf(e) != dc {
				return false
			}
		}
		return len(p.clusters[term]) > 0
	})
}

// held reports that the name of a term leads nowhere yet.
func (p *proxy) held(term signalbox.Term) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.clusters[term]) == 0
}

func (s *site) siteOf(address string) signalbox.DataCenter {
	for _, a := range s.agents {
		if a.in.address == address {
			return a.in.dc
		}
	}
	return ""
}
