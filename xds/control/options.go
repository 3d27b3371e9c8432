// Package control serves configuration to proxies over xDS and knows which
// proxy has what: an aggregated delta server and an on-demand cluster server
// for Envoy, a state-of-the-world server for proxyless gRPC clients, and a
// load report server.
//
// It guarantees that a name above the certified term is answered with
// silence, that a proxy is never sent a lower term than it reported, that
// "removed" is never said of a name that may still come, and that changing
// one service costs the same however many are registered. It does not decide
// terms, and an acknowledgement is not proof that no request is under way on
// the old route: that is what load reports and the instances' refusals are
// for. See xds/DESIGN.md.
package control

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// Limits bound what proxies can make the server hold. Zero fields take the
// defaults.
type Limits struct {
	Proxies         int // node ids at the same time
	StreamsPerProxy int // xDS streams of one node id
	NamesPerStream  int // resource names that one stream subscribes to
	NameLength      int // bytes of a resource name or node id
	PendingAnswers  int // responses of one type that a stream may leave unanswered
	ResponseBytes   int // a delta response is split above this
	MessageBytes    int // a message from a proxy; see Server.GRPCOptions
	LoadClusters    int // clusters in one load report
	Services        int // registered services
	Events          int // events that wait for OnEvent
	MessageLength   int // bytes kept of a proxy's own words
}

// DefaultLimits are sized for 10,000 proxies and 10,000 services.
func DefaultLimits() Limits {
	return Limits{
		Proxies: 10000, StreamsPerProxy: 1024, NamesPerStream: 65536, NameLength: 256,
		PendingAnswers: 1024, ResponseBytes: 1 << 20, MessageBytes: 8 << 20, LoadClusters: 65536,
		Services: 20000, Events: 65536, MessageLength: 2048,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, def *int }{
		{&l.Proxies, &d.Proxies}, {&l.StreamsPerProxy, &d.StreamsPerProxy},
		{&l.NamesPerStream, &d.NamesPerStream}, {&l.NameLength, &d.NameLength},
		{&l.PendingAnswers, &d.PendingAnswers}, {&l.ResponseBytes, &d.ResponseBytes},
		{&l.MessageBytes, &d.MessageBytes}, {&l.LoadClusters, &d.LoadClusters},
		{&l.Services, &d.Services}, {&l.Events, &d.Events}, {&l.MessageLength, &d.MessageLength},
	} {
		if *f.v <= 0 {
			*f.v = *f.def
		}
	}
	return l
}

// Options configure a Server.
type Options struct {
	// Authorize says whether a peer with these verified certificates may use
	// this node id; an error refuses the stream. Required. It is called once
	// per stream and must not block. See SPIFFE and AllowAll.
	Authorize func(peer []*x509.Certificate, nodeID string) error
	// OnEvent receives events one at a time, in order, from one goroutine. It
	// may block without holding up the server. Optional.
	OnEvent func(Event)
	// OnRefused is called for every refused stream, from the stream's
	// goroutine; it must not block. Optional.
	OnRefused func(nodeID string, err error)
	// Parking accepts proxyless clients' connections during a hold. The
	// server owns and closes it. Optional: without it proxyless clients are
	// not served.
	Parking net.Listener
	// ParkingEndpoints are the parking listeners of all gateways of the data
	// center, so that a hold survives one of them; empty takes Parking's own
	// address.
	ParkingEndpoints []resource.Endpoint
	// ParkingConnections bounds accepted parked connections; default 4096.
	ParkingConnections int
	// LoadInterval is how often proxies report load; default 1 s.
	LoadInterval time.Duration
	Registerer   prometheus.Registerer // optional
	Logger       zerolog.Logger
	Limits       Limits
}

const (
	defaultParkingConnections = 4096
	defaultLoadInterval       = time.Second
	// keepaliveTime and keepaliveTimeout end the streams of a proxy that
	// vanished without closing its connection.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// keepaliveMinTime is the shortest client ping interval that is accepted.
	keepaliveMinTime = time.Second
)

// ErrOptions is returned by New when an option is missing or contradictory.
var ErrOptions = errors.New("invalid xds server options")

func (o Options) withDefaults() (Options, error) {
	if o.Authorize == nil {
		return o, fmt.Errorf("%w: Authorize is required; control.AllowAll serves anybody", ErrOptions)
	}
	if o.LoadInterval <= 0 {
		o.LoadInterval = defaultLoadInterval
	}
	if o.ParkingConnections <= 0 {
		o.ParkingConnections = defaultParkingConnections
	}
	if o.Parking != nil && len(o.ParkingEndpoints) == 0 {
		addr, ok := o.Parking.Addr().(*net.TCPAddr)
		if !ok || addr.IP.IsUnspecified() {
			return o, fmt.Errorf("%w: ParkingEndpoints is required when Parking listens on %s", ErrOptions, o.Parking.Addr())
		}
		o.ParkingEndpoints = []resource.Endpoint{{Address: addr.IP.String(), Port: uint32(addr.Port)}} //nolint:gosec // a TCP port
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	o.Limits = o.Limits.withDefaults()
	return o, nil
}

// GRPCOptions are what the *grpc.Server given to Register should be made
// with, beside its credentials: message bounds and keepalive.
func GRPCOptions(l Limits) []grpc.ServerOption {
	l = l.withDefaults()
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(l.MessageBytes),
		grpc.MaxConcurrentStreams(uint32(l.StreamsPerProxy)), //nolint:gosec // a small bound
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
	}
}
