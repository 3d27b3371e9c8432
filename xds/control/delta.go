package control

import (
	"maps"
	"slices"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox/xds/resource"
)

type deltaTransport = transport[*discovery.DeltaDiscoveryRequest, *discovery.DeltaDiscoveryResponse]

// serveDelta runs a delta stream. only is the single type it carries, or ""
// for an aggregated one.
func (s *Server) serveDelta(t deltaTransport, k kind, only string) error {
	st := s.newStream(t.Context(), k, envoyProfile)
	return serve(s, st, t, func(req *discovery.DeltaDiscoveryRequest) error {
		return st.handleDelta(req, only)
	}, st.nextDelta)
}

func (st *stream) handleDelta(req *discovery.DeltaDiscoveryRequest, only string) error {
	if err := st.begin(req.GetNode()); err != nil {
		return err
	}
	typ := req.GetTypeUrl()
	if only != "" && typ != "" && typ != only {
		return status.Errorf(codes.InvalidArgument, "signalbox: type %.100q on a stream of %s", typ, only)
	}
	if only != "" {
		typ = only
	}
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	if !known(typ) {
		return nil // secrets, runtime and others: silence
	}
	ts, first := st.typeState(typ)
	if nonce := req.GetResponseNonce(); nonce != "" {
		st.answered(typ, ts, nonce, req.GetErrorDetail() != nil, req.GetErrorDetail().GetMessage())
	}
	return st.resubscribe(typ, ts, req, first)
}

func (st *stream) resubscribe(typ string, ts *typeState, req *discovery.DeltaDiscoveryRequest, first bool) error {
	reported := req.GetInitialResourceVersions()
	wildcard := first && len(req.GetResourceNamesSubscribe()) == 0
	for _, name := range req.GetResourceNamesSubscribe() {
		if name == "*" {
			wildcard = true
			continue
		}
		if err := st.subscribe(typ, ts, name, reported[name], first); err != nil {
			return err
		}
	}
	if wildcard {
		if err := st.subscribeAll(typ, ts, reported); err != nil {
			return err
		}
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if name == "*" {
			ts.wildcard = false
			delete(st.s.wildcards, st)
			continue
		}
		st.forget(typ, ts, name)
	}
	return nil
}

// subscribeAll makes the stream follow every listener. Other types have no
// wildcard of ours: the answer is empty, so that the proxy can start.
func (st *stream) subscribeAll(typ string, ts *typeState, reported map[string]string) error {
	ts.wildcard, ts.mustAnswer = true, true
	signal(st.wake)
	if typ != resource.ListenerType {
		return nil
	}
	st.s.wildcards[st] = struct{}{}
	for _, name := range slices.Sorted(maps.Keys(reported)) {
		if err := st.subscribe(typ, ts, name, reported[name], true); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(st.s.entries)) {
		if e := st.s.entries[name]; e.registered {
			st.addListener(e)
		}
	}
	return nil
}

// nextDelta returns the next response to send, if any.
func (st *stream) nextDelta() (*discovery.DeltaDiscoveryResponse, bool) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	for _, typ := range typeOrder {
		ts := st.types[typ]
		if ts == nil || (len(ts.dirty) == 0 && !ts.mustAnswer) {
			continue
		}
		if len(ts.pending) >= st.s.opts.Limits.PendingAnswers {
			continue // the proxy does not keep up: what is dirty waits
		}
		if resp := st.deltaResponse(typ, ts); resp != nil {
			return resp, true
		}
	}
	return nil, false
}

func (st *stream) deltaResponse(typ string, ts *typeState) *discovery.DeltaDiscoveryResponse {
	resp := &discovery.DeltaDiscoveryResponse{TypeUrl: typ}
	out := sent{at: time.Now()}
	size := 0
	for full := false; !full && len(ts.dirty) > 0 && size < st.s.opts.Limits.ResponseBytes; {
		name := ts.dirty[0]
		ns := ts.names[name]
		if ns != nil && ns.alone && len(out.items) > 0 {
			break
		}
		ts.dirty = ts.dirty[1:]
		if ns == nil || !ns.dirty {
			continue
		}
		ns.dirty, full, ns.alone = false, ns.alone, false
		r, removed := st.decide(typ, name, ns)
		switch {
		case removed:
			st.removing(typ, ts, name, ns)
			resp.RemovedResources = append(resp.RemovedResources, name)
			out.items = append(out.items, item{name: name, removed: true})
			size += len(name)
		case r != nil:
			st.sending(typ, ns, r)
			resp.Resources = append(resp.Resources, &discovery.Resource{Name: name, Version: r.Version, Resource: r.Any})
			resp.SystemVersionInfo = r.Version
			out.items = append(out.items, item{name: name, term: r.Term})
			size += len(r.Any.Value)
		}
	}
	if len(out.items) == 0 && !ts.mustAnswer {
		return nil
	}
	ts.mustAnswer = false
	resp.Nonce = st.nonce()
	ts.pending[resp.Nonce] = out
	return resp
}

// decide says what a proxy is told of one name now: a resource, that it is
// removed, or (nil, false) nothing.
func (st *stream) decide(typ, name string, ns *nameState) (r *resource.Resource, removed bool) {
	service, term, _ := serviceOf(key{st.prof, typ, name})
	e := st.s.entries[service]
	if e == nil {
		return nil, false
	}
	has := ns.version != ""
	force := ns.force
	ns.force = false
	if !e.registered {
		return nil, has && e.removed
	}
	if term > 0 && has && !force && term < e.service.OldestTerm && st.proxy.service(service).acked > term {
		return nil, true
	}
	r = st.s.resolve(e, key{st.prof, typ, name})
	if r == nil {
		// A listener that the configuration no longer has is taken away. A
		// cluster is only ever released or held: silence.
		return nil, has && typ == resource.ListenerType && e.service.Listener == nil
	}
	if r.Rank < ns.floor {
		st.s.metrics.silent.WithLabelValues(typeLabel(typ)).Inc()
		return nil, false
	}
	if r.Version == ns.version && !force {
		return nil, false
	}
	return r, false
}

// removing notes that the proxy is told that a name is gone. Envoy keeps its
// subscription and does not ask again when it needs the name, so the stream
// goes on watching it, except for a term that is over: its name never comes
// back, and streams would grow with every handover.
func (st *stream) removing(typ string, ts *typeState, name string, ns *nameState) {
	ns.version = ""
	service, term, _ := serviceOf(key{st.prof, typ, name})
	if e := st.s.entries[service]; term > 0 && e != nil && e.registered {
		st.forget(typ, ts, name)
	}
}

// sending notes what goes out to the proxy.
func (st *stream) sending(typ string, ns *nameState, r *resource.Resource) {
	ns.version, ns.floor = r.Version, max(ns.floor, r.Rank)
	st.s.metrics.pushed.WithLabelValues(typeLabel(typ)).Inc()
	if routed(typ, r.Term) {
		if service, _, ok := serviceOf(key{st.prof, typ, r.Name}); ok {
			st.proxy.service(service).pending = r.Term
		}
	}
}

func known(typ string) bool {
	for _, t := range typeOrder {
		if t == typ {
			return true
		}
	}
	return false
}
