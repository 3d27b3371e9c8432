package control

import (
	"context"
	"sync"

	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	loadservice "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// Server serves proxies. All methods are safe for concurrent use.
//
// Lock order: Server.mu, then queue.mu. Nothing blocks under Server.mu.
type Server struct {
	opts    Options
	log     zerolog.Logger
	metrics *metrics
	events  *queue
	parking *parking

	mu         sync.Mutex
	entries    map[string]*entry
	registered int
	proxies    map[string]*proxy
	wildcards  map[*stream]struct{} // streams that want every listener
	nextStream uint64
	closed     bool

	done     chan struct{} // closed by Close: ends every stream
	handlers sync.WaitGroup
	stop     chan struct{} // closed after the handlers: ends the dispatcher
	dispatch sync.WaitGroup
}

// New returns a server that serves nothing until Register and Set are called.
// It returns ErrOptions when an option is missing. Close must be called.
func New(opts Options) (*Server, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, log: opts.Logger, metrics: m, events: newQueue(opts.Limits.Events),
		entries: map[string]*entry{}, proxies: map[string]*proxy{}, wildcards: map[*stream]struct{}{},
		done: make(chan struct{}), stop: make(chan struct{}),
	}
	if opts.Parking != nil {
		s.parking = newParking(opts.Parking, opts.ParkingConnections, m.parked)
	}
	s.dispatch.Add(1)
	go func() {
		defer s.dispatch.Done()
		s.events.run(s.stop, s.deliver)
	}()
	return s, nil
}

func (s *Server) deliver(e Event) {
	if o, ok := e.(Overflow); ok {
		s.metrics.eventsDropped.Add(float64(o.Dropped))
	}
	if s.opts.OnEvent != nil {
		s.opts.OnEvent(e)
	}
}

// Register adds the xDS services to a gRPC server (a *grpc.Server), which should have been
// made with GRPCOptions and mutual TLS.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, aggregated{s: s})
	clusterservice.RegisterClusterDiscoveryServiceServer(g, onDemand{s: s})
	routeservice.RegisterRouteDiscoveryServiceServer(g, routes{s: s})
	listenerservice.RegisterListenerDiscoveryServiceServer(g, listeners{s: s})
	loadservice.RegisterLoadReportingServiceServer(g, loads{s: s})
}

// Close ends all streams with Unavailable, so that proxies ask another
// gateway, delivers the events that are left, and waits for both. Proxies
// keep their last configuration, and holds go on.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.done)
	s.mu.Unlock()
	s.handlers.Wait()
	if s.parking != nil {
		s.parking.close()
	}
	close(s.stop)
	s.dispatch.Wait()
}

// enter counts a stream's handler; it reports false after Close.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

func errClosed() error { return status.Error(codes.Unavailable, "signalbox: this gateway is stopping") }

type aggregated struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	s *Server
}

// DeltaAggregatedResources serves Envoy.
func (a aggregated) DeltaAggregatedResources(g discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.s.serveDelta(g, kindAggregated, "")
}

// StreamAggregatedResources serves proxyless gRPC clients.
func (a aggregated) StreamAggregatedResources(g discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return a.s.serveWhole(g)
}

type onDemand struct {
	clusterservice.UnimplementedClusterDiscoveryServiceServer
	s *Server
}

// DeltaClusters serves the dedicated on-demand source.
func (o onDemand) DeltaClusters(g clusterservice.ClusterDiscoveryService_DeltaClustersServer) error {
	return o.s.serveDelta(g, kindOnDemand, resource.ClusterType)
}

type routes struct {
	routeservice.UnimplementedRouteDiscoveryServiceServer
	s *Server
}

// DeltaRoutes serves Envoys that keep their own listeners (route only).
func (r routes) DeltaRoutes(g routeservice.RouteDiscoveryService_DeltaRoutesServer) error {
	return r.s.serveDelta(g, kindRoutes, resource.RouteType)
}

type listeners struct {
	listenerservice.UnimplementedListenerDiscoveryServiceServer
	s *Server
}

// DeltaListeners serves Envoys that have another ADS and take listeners here.
func (l listeners) DeltaListeners(g listenerservice.ListenerDiscoveryService_DeltaListenersServer) error {
	return l.s.serveDelta(g, kindListeners, resource.ListenerType)
}

// transport is the part of a gRPC stream that the protocol code needs.
type transport[Req, Resp any] interface {
	Context() context.Context
	Recv() (Req, error)
	Send(Resp) error
}

// serve runs one stream: one goroutine receives and handles requests, this
// one sends what next returns whenever the stream is woken. The receiver ends
// when this returns, because gRPC then cancels the stream.
func serve[Req, Resp any](s *Server, st *stream, t transport[Req, Resp], handle func(Req) error, next func() (Resp, bool)) error {
	if !s.enter() {
		return errClosed()
	}
	defer s.handlers.Done()
	defer st.detach()
	failed := make(chan error, 1)
	go func() {
		for {
			req, err := t.Recv()
			if err == nil {
				err = handle(req)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-failed:
			return streamError(err)
		case <-t.Context().Done():
			return nil
		case <-s.done:
			return errClosed()
		case <-st.wake:
			for resp, more := next(); more; resp, more = next() {
				if err := t.Send(resp); err != nil {
					return err
				}
			}
		}
	}
}
