package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
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

func (st *stream) typeState(typ string) (ts *typeState, first bool) {
	ts = st.types[typ]
	if ts == nil {
		ts, first = &typeState{names: map[string]*nameState{}, pending: map[string]sent{}}, true
		st.types[typ] = ts
	}
	return ts, first
}

// subscribe adds a name. reported is the version that the proxy says it has,
// first that this is the type's first request on the stream.
func (st *stream) subscribe(typ string, ts *typeState, name, reported string, first bool) error {
	service, term, ok := serviceOf(key{st.prof, typ, name})
	if !ok || len(name) > st.s.opts.Limits.NameLength {
		return nil // not a name of ours: it will never exist
	}
	ns := ts.names[name]
	if ns == nil {
		if st.names >= st.s.opts.Limits.NamesPerStream {
			return fmt.Errorf("%w: %d names on one stream", ErrTooMany, st.names)
		}
		e := st.s.entryFor(service)
		if first && reported == "" && term > 0 && e.registered && term+aliasWindow < e.service.OldestTerm {
			return nil
		}
		ns = &nameState{}
		ts.names[name] = ns
		st.names++
		st.s.watch(e, key{st.prof, typ, name}, st)
	} else if !first {
		ns.force = true
	}
	if reported != "" {
		st.report(typ, service, ns, reported)
	}
	st.mark(typ, name)
	return nil
}

// report notes a version that the proxy has from an earlier stream.
func (st *stream) report(typ, service string, ns *nameState, version string) {
	term, rank, ok := resource.ParseVersion(version)
	if !ok {
		return // not ours: answer in full
	}
	ns.version, ns.floor = version, max(ns.floor, rank)
	if routed(typ, term) {
		st.s.acknowledged(st.proxy, service, term)
	}
}

// routed says whether a resource decides where requests go: one that carries
// a term and is not a cluster. That is the route of an HTTP service, the
// listener of a TCP service, the endpoints of a proxyless client.
func routed(typ string, term uint64) bool { return typ != resource.ClusterType && term > 0 }

func (st *stream) forget(typ string, ts *typeState, name string) {
	if _, ok := ts.names[name]; !ok {
		return
	}
	delete(ts.names, name)
	st.names--
	if service, _, ok := serviceOf(key{st.prof, typ, name}); ok {
		if e := st.s.entries[service]; e != nil {
			st.s.unwatch(e, key{st.prof, typ, name}, st)
		}
	}
}

// addListener subscribes a wildcard stream to a service's listener.
func (st *stream) addListener(e *entry) {
	if e.service.Listener == nil {
		return
	}
	ts, _ := st.typeState(resource.ListenerType)
	if _, ok := ts.names[e.name]; !ok {
		if err := st.subscribe(resource.ListenerType, ts, e.name, "", false); err != nil {
			st.s.log.Error().Err(err).Str("proxy", st.proxy.id).Msg("cannot add listener")
		}
	}
}

// mark queues a name to be decided on and wakes the sender.
func (st *stream) mark(typ, name string) {
	ts := st.types[typ]
	ns := ts.names[name]
	if ns == nil || ns.dirty {
		return
	}
	ns.dirty = true
	ts.dirty = append(ts.dirty, name)
	signal(st.wake)
}

// markExpired queues the names below the service's oldest term.
func (st *stream) markExpired(e *entry) {
	if st.prof != envoyProfile {
		return
	}
	ts := st.types[resource.ClusterType]
	if ts == nil || e.service.OldestTerm == 0 {
		return
	}
	for k, streams := range e.watchers {
		if _, mine := streams[st]; !mine || k.typ != resource.ClusterType {
			continue
		}
		if _, term, _ := serviceOf(k); term < e.service.OldestTerm {
			st.mark(k.typ, k.name)
		}
	}
}

// waiting collects the terms whose names the proxy asked for and does not
// have: requests are, or were, parked under them.
func (st *stream) waiting(into map[string][]uint64) {
	if st.prof != envoyProfile {
		return
	}
	ts := st.types[resource.ClusterType]
	if ts == nil {
		return
	}
	for name, ns := range ts.names {
		if service, term, ok := resource.ParseClusterName(name); ok && ns.version == "" {
			if e := st.s.entries[service]; e == nil || term >= e.service.OldestTerm {
				into[service] = append(into[service], term)
			}
		}
	}
}

func (st *stream) nonce() string {
	st.nonces++
	return strconv.FormatUint(st.nonces, 10)
}

// answered handles an ACK or NACK. words is the proxy's complaint, "" for an
// ACK. A nonce that is not pending is an answer to something older: ignored.
func (st *stream) answered(typ string, ts *typeState, nonce string, rejected bool, words string) {
	out, ok := ts.pending[nonce]
	if !ok {
		return
	}
	delete(ts.pending, nonce)
	signal(st.wake) // something may wait for room in pending
	st.s.metrics.ackSeconds.WithLabelValues(typeLabel(typ)).Observe(time.Since(out.at).Seconds())
	if !rejected {
		st.s.metrics.acks.WithLabelValues(typeLabel(typ)).Inc()
	} else if len(out.items) > 1 && st.prof == envoyProfile {
		st.sendAlone(typ, ts, out.items)
		return
	}
	for _, it := range out.items {
		service, _, ok := serviceOf(key{st.prof, typ, it.name})
		switch {
		case !ok || it.removed:
		case rejected:
			st.s.rejected(st.proxy, service, Nack{
				Type: typ, Resource: it.name, Term: it.term, At: out.at,
				Message: trim(words, st.s.opts.Limits.MessageLength),
			})
		case routed(typ, it.term):
			st.s.acknowledged(st.proxy, service, it.term)
		}
	}
}

// sendAlone sends what was rejected together once more, one by one: a proxy
// rejects a response as a whole, and who is to blame must be known.
func (st *stream) sendAlone(typ string, ts *typeState, items []item) {
	for _, it := range items {
		if ns := ts.names[it.name]; ns != nil && !it.removed {
			ns.alone, ns.force = true, true
			st.mark(typ, it.name)
		}
	}
}

func trim(text string, limit int) string { return text[:min(len(text), limit)] }

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
