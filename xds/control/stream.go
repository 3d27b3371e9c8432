package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox/xds/resource"
)

type kind string

const (
	kindAggregated kind = "aggregated"
	kindOnDemand   kind = "on_demand"
	kindRoutes     kind = "routes"
	kindListeners  kind = "listeners"
	kindProxyless  kind = "proxyless"
	kindLoad       kind = "load"
)

// configures says whether a stream of this kind makes a proxy connected.
func (k kind) configures() bool { return k != kindOnDemand && k != kindLoad }

// typeOrder is the order in which types are sent: what is named before what
// names it.
var typeOrder = [...]string{resource.ClusterType, resource.EndpointsType, resource.ListenerType, resource.RouteType}

// aliasWindow is how many terms below the oldest a reconnecting proxy is
// still answered for when it does not say that it has the name. Envoy never
// unsubscribes, so without it every reconnect would bring back one cluster
// for every handover there ever was.
const aliasWindow = 8

// stream is one xDS stream. Guarded by Server.mu, except wake.
type stream struct {
	s      *Server
	ctx    context.Context
	kind   kind
	prof   profile
	id     uint64
	proxy  *proxy // nil until the first request was authorized
	closed bool
	types  map[string]*typeState
	names  int
	nonces uint64
	wake   chan struct{} // capacity 1
}

// typeState is a stream's subscription to one resource type.
type typeState struct {
	wildcard   bool
	mustAnswer bool // the first answer to a wildcard is due even when empty
	names      map[string]*nameState
	dirty      []string
	pending    map[string]sent // by nonce
	order      []string        // nonces as sent (state of the world only)
}

// nameState is what a stream knows of one name.
type nameState struct {
	dirty   bool
	force   bool   // asked for again: answer even when unchanged
	alone   bool   // was rejected in company: send it alone, to learn which it was
	version string // last sent or reported; "" when the proxy does not have it
	floor   uint64 // highest rank sent or reported; never send less
}

// sent is one response that waits for its answer.
type sent struct {
	at    time.Time
	items []item
}

type item struct {
	name    string
	term    uint64
	removed bool
}

func (s *Server) newStream(ctx context.Context, k kind, p profile) *stream {
	return &stream{s: s, ctx: ctx, kind: k, prof: p, types: map[string]*typeState{}, wake: make(chan struct{}, 1)}
}

// begin authorizes the stream with its first request's node. Later requests
// may repeat the node but not change it.
func (st *stream) begin(node *corev3.Node) error {
	if st.proxy != nil {
		if node.GetId() != "" && node.GetId() != st.proxy.id {
			return st.refuse("node", node.GetId(), fmt.Errorf("%w: changed from %q", ErrNotAuthorized, st.proxy.id))
		}
		return nil
	}
	id := node.GetId()
	if id == "" || len(id) > st.s.opts.Limits.NameLength {
		return st.refuse("node", id[:min(len(id), 80)], fmt.Errorf("%w: want a node id of 1 to %d bytes", ErrNotAuthorized, st.s.opts.Limits.NameLength))
	}
	if err := st.s.opts.Authorize(peerCertificates(st.ctx), id); err != nil {
		return st.refuse("identity", id, err)
	}
	if err := st.attach(node); err != nil {
		return st.refuse("limit", id, err)
	}
	return nil
}

func (st *stream) refuse(reason, nodeID string, err error) error {
	st.s.metrics.refused.WithLabelValues(reason).Inc()
	st.s.log.Warn().Err(err).Str("proxy", nodeID).Str("kind", string(st.kind)).Msg("refused stream")
	if st.s.opts.OnRefused != nil {
		st.s.opts.OnRefused(nodeID, err)
	}
	code := codes.PermissionDenied
	if reason == "limit" {
		code = codes.ResourceExhausted
	}
	return status.Errorf(code, "signalbox: %v", err)
}

func (st *stream) attach(node *corev3.Node) error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	p := s.proxies[node.GetId()]
	if p == nil {
		if len(s.proxies) >= s.opts.Limits.Proxies {
			return fmt.Errorf("%w: %d proxies", ErrTooMany, len(s.proxies))
		}
		p = &proxy{
			id: node.GetId(), dataCenter: trim(node.GetCluster(), s.opts.Limits.NameLength),
			kind: trim(node.GetUserAgentName(), s.opts.Limits.NameLength), since: time.Now(),
			streams: map[*stream]struct{}{}, services: map[string]*proxyService{},
		}
		s.proxies[p.id] = p
	}
	if len(p.streams) >= s.opts.Limits.StreamsPerProxy {
		return fmt.Errorf("%w: %d streams of %s", ErrTooMany, len(p.streams), p.id)
	}
	s.nextStream++
	st.id, st.proxy = s.nextStream, p
	p.streams[st] = struct{}{}
	s.metrics.streams.WithLabelValues(string(st.kind)).Inc()
	if st.kind.configures() {
		if p.configStreams++; p.configStreams == 1 {
			p.since = time.Now()
			s.metrics.proxies.Inc()
			s.events.put(ProxyConnected{Proxy: p.id, DataCenter: p.dataCenter})
			s.log.Info().Str("proxy", p.id).Str("kind", p.kind).Msg("proxy connected")
		}
	}
	return nil
}

// detach forgets the stream; it is called once, when its handler returns.
func (st *stream) detach() {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st.closed = true
	delete(s.wildcards, st)
	for typ, ts := range st.types {
		for name := range ts.names {
			st.forget(typ, ts, name)
		}
	}
	p := st.proxy
	if p == nil {
		return
	}
	delete(p.streams, st)
	s.metrics.streams.WithLabelValues(string(st.kind)).Dec()
	if st.kind.configures() {
		if p.configStreams--; p.configStreams == 0 {
			s.metrics.proxies.Dec()
			for _, ps := range p.services {
				ps.acked, ps.pending = 0, 0 // it says what it has when it is back
			}
			s.events.put(ProxyGone{Proxy: p.id, DataCenter: p.dataCenter})
			s.log.Info().Str("proxy", p.id).Msg("proxy gone")
		}
	}
	if len(p.streams) == 0 {
		delete(s.proxies, p.id)
	}
}

// streamError turns what ended a stream into what its peer is told.
func streamError(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	if errors.Is(err, ErrTooMany) {
		return status.Errorf(codes.ResourceExhausted, "signalbox: %v", err)
	}
	return err
}
