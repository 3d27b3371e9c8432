package control

import (
	loadservice "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/signalbox-io/signalbox/xds/resource"
)

type loads struct {
	loadservice.UnimplementedLoadReportingServiceServer
	s *Server
}

// StreamLoadStats asks for all clusters and turns reports into Load events.
func (l loads) StreamLoadStats(g loadservice.LoadReportingService_StreamLoadStatsServer) error {
	s := l.s
	st := s.newStream(g.Context(), kindLoad, envoyProfile)
	asked := false
	return serve(s, st, g, func(req *loadservice.LoadStatsRequest) error {
		return st.handleLoad(req)
	}, func() (*loadservice.LoadStatsResponse, bool) {
		if asked {
			return nil, false
		}
		asked = true
		return &loadservice.LoadStatsResponse{
			SendAllClusters: true, LoadReportingInterval: durationpb.New(s.opts.LoadInterval),
		}, true
	})
}

func (st *stream) handleLoad(req *loadservice.LoadStatsRequest) error {
	first := st.proxy == nil
	if err := st.begin(req.GetNode()); err != nil {
		return err
	}
	if first {
		signal(st.wake)
		return nil // the first request opens the stream and reports nothing
	}
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	now := map[string]map[uint64]TermLoad{}
	for i, c := range req.GetClusterStats() {
		if i >= st.s.opts.Limits.LoadClusters {
			break
		}
		service, term, ok := resource.ParseClusterName(c.GetClusterName())
		if !ok {
			continue // a cluster of the proxy's own
		}
		load := TermLoad{Term: term}
		for _, l := range c.GetUpstreamLocalityStats() {
			load.InProgress += l.GetTotalRequestsInProgress()
			load.Total += l.GetTotalIssuedRequests()
			load.Errors += l.GetTotalErrorRequests()
		}
		if now[service] == nil {
			now[service] = map[uint64]TermLoad{}
		}
		now[service][term] = load
	}
	st.s.noteLoads(st.proxy, now)
	return nil
}

// noteLoads emits what was reported, and zeros for what was reported before
// and is quiet now. Unknown services are not kept: a proxy could invent them.
func (s *Server) noteLoads(p *proxy, now map[string]map[uint64]TermLoad) {
	for service, terms := range now {
		if e := s.entries[service]; e == nil || !e.registered {
			continue
		}
		ps := p.service(service)
		for term, l := range terms {
			ps.loads[term] = l
			s.events.put(Load{p.id, service, term, l.InProgress, l.Total, l.Errors})
		}
	}
	for service, ps := range p.services {
		for term := range ps.loads {
			if _, reported := now[service][term]; !reported {
				delete(ps.loads, term)
				s.events.put(Load{Proxy: p.id, Service: service, Term: term})
			}
		}
	}
}
