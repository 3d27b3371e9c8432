package control

import (
	"slices"
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/signalbox-io/signalbox/xds/resource"
)

type wholeTransport = transport[*discovery.DiscoveryRequest, *discovery.DiscoveryResponse]

// serveWhole runs a state-of-the-world stream of a proxyless gRPC client:
// every response of a type carries all resources it asked for.
func (s *Server) serveWhole(t wholeTransport) error {
	st := s.newStream(t.Context(), kindProxyless, proxylessProfile)
	return serve(s, st, t, st.handleWhole, st.nextWhole)
}

func (st *stream) handleWhole(req *discovery.DiscoveryRequest) error {
	if err := st.begin(req.GetNode()); err != nil {
		return err
	}
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	typ := req.GetTypeUrl()
	if !known(typ) {
		return nil
	}
	ts, first := st.typeState(typ)
	if nonce := req.GetResponseNonce(); nonce != "" {
		st.answeredWhole(typ, ts, nonce, req)
	}
	var reported map[string]string
	if first {
		reported = splitVersions(req.GetVersionInfo())
	}
	wanted := make(map[string]struct{}, len(req.GetResourceNames()))
	for _, name := range req.GetResourceNames() {
		wanted[name] = struct{}{}
		if _, has := ts.names[name]; has {
			continue
		}
		if err := st.subscribe(typ, ts, name, reported[name], first); err != nil {
			return err
		}
		if ns := ts.names[name]; ns != nil {
			ns.force = true // a new subscription is always answered
		}
	}
	for name := range ts.names {
		if _, keep := wanted[name]; !keep {
			st.forget(typ, ts, name)
		}
	}
	return nil
}

// answeredWhole handles an answer; it also covers every response before it.
func (st *stream) answeredWhole(typ string, ts *typeState, nonce string, req *discovery.DiscoveryRequest) {
	at := slices.Index(ts.order, nonce)
	if at < 0 {
		return
	}
	for _, older := range ts.order[:at] {
		delete(ts.pending, older)
	}
	ts.order = ts.order[at+1:]
	st.answered(typ, ts, nonce, req.GetErrorDetail() != nil, req.GetErrorDetail().GetMessage())
}

func (st *stream) nextWhole() (*discovery.DiscoveryResponse, bool) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	for _, typ := range typeOrder {
		ts := st.types[typ]
		if ts == nil || len(ts.dirty) == 0 || len(ts.pending) >= st.s.opts.Limits.PendingAnswers {
			continue
		}
		if resp := st.wholeResponse(typ, ts); resp != nil {
			return resp, true
		}
	}
	return nil, false
}

// wholeResponse returns nil when nothing changed, or when leaving something
// out would tell the client that it is gone.
func (st *stream) wholeResponse(typ string, ts *typeState) *discovery.DiscoveryResponse {
	changed := false
	found := make([]*resource.Resource, 0, len(ts.names))
	names := make([]string, 0, len(ts.names))
	for name := range ts.names {
		names = append(names, name)
	}
	slices.Sort(names)
	ts.dirty = ts.dirty[:0]
	for _, name := range names {
		ns := ts.names[name]
		ns.dirty = false
		service, _, _ := serviceOf(key{st.prof, typ, name})
		e := st.s.entries[service]
		r := st.s.resolve(e, key{st.prof, typ, name})
		has := ns.version != ""
		switch {
		case r == nil && has && e.removed && !e.registered:
			changed = true
		case r == nil && has, r != nil && r.Rank < ns.floor:
			st.s.metrics.silent.WithLabelValues(typeLabel(typ)).Inc()
			return nil
		case r != nil:
			changed = changed || ns.force || r.Version != ns.version
			found = append(found, r)
		}
	}
	if !changed {
		return nil
	}
	return st.whole(typ, ts, found)
}

func (st *stream) whole(typ string, ts *typeState, found []*resource.Resource) *discovery.DiscoveryResponse {
	resp := &discovery.DiscoveryResponse{TypeUrl: typ, Nonce: st.nonce(), Resources: make([]*anypb.Any, 0, len(found))}
	out := sent{at: time.Now()}
	versions := make([]string, 0, len(found))
	for _, ns := range ts.names {
		ns.version = ""
	}
	for _, r := range found {
		ns := ts.names[r.Name]
		ns.force = false
		st.sending(typ, ns, r)
		resp.Resources = append(resp.Resources, r.Any)
		versions = append(versions, r.Name+"="+r.Version)
		out.items = append(out.items, item{name: r.Name, term: r.Term})
	}
	resp.VersionInfo = strings.Join(versions, ",")
	ts.pending[resp.Nonce] = out
	ts.order = append(ts.order, resp.Nonce)
	return resp
}

// splitVersions undoes the version that whole gives a response: the client
// repeats it to the next gateway, which so learns what the client has.
func splitVersions(info string) map[string]string {
	versions := map[string]string{}
	for part := range strings.SplitSeq(info, ",") {
		if name, version, ok := strings.Cut(part, "="); ok {
			versions[name] = version
		}
	}
	return versions
}
