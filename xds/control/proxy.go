package control

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// Proxy is what the server knows of one connected proxy.
type Proxy struct {
	ID         string // node id, <dc>/<name>
	DataCenter string // node cluster
	Kind       string // user agent: envoy, grpc-go, ...
	Since      time.Time
	Services   []ProxyService // by name
}

// ProxyService is what a proxy has of one service.
type ProxyService struct {
	Service string
	Term    uint64 // highest route term that it acknowledged; 0: none
	Pending uint64 // route term that it was sent and has not answered; 0: none
	Waiting []uint64
	Nack    *Nack // last rejection, until something newer is accepted
	Loads   []TermLoad
}

// Nack is a proxy's rejection in its own words.
type Nack struct {
	Type, Resource, Message string
	Term                    uint64
	At                      time.Time
}

// TermLoad is the last load report for one term's name.
type TermLoad struct {
	Term                      uint64
	InProgress, Total, Errors uint64 // Total and Errors over the last interval
}

// proxy is one node id with its streams. Guarded by Server.mu.
type proxy struct {
	id, dataCenter, kind string
	since                time.Time
	streams              map[*stream]struct{}
	configStreams        int
	services             map[string]*proxyService
}

type proxyService struct {
	acked, pending uint64
	nack           *Nack
	loads          map[uint64]TermLoad
}

func (p *proxy) service(name string) *proxyService {
	ps := p.services[name]
	if ps == nil {
		ps = &proxyService{loads: map[uint64]TermLoad{}}
		p.services[name] = ps
	}
	return ps
}

// acknowledged notes that the proxy has a service's route at a term.
func (s *Server) acknowledged(p *proxy, service string, term uint64) {
	ps := p.service(service)
	ps.nack = nil
	if ps.pending <= term {
		ps.pending = 0
	}
	if term > ps.acked {
		ps.acked = term
	}
	s.events.put(RouteAcknowledged{Proxy: p.id, Service: service, Term: term})
	// Old names of this service may be removed from this proxy now.
	e := s.entries[service]
	if e == nil || !e.registered {
		return
	}
	for st := range p.streams {
		st.markExpired(e)
	}
}

func (s *Server) rejected(p *proxy, service string, n Nack) {
	ps := p.service(service)
	ps.nack = &n
	if ps.pending == n.Term {
		ps.pending = 0
	}
	s.metrics.nacks.WithLabelValues(typeLabel(n.Type)).Inc()
	s.events.put(Rejected{Proxy: p.id, Type: n.Type, Resource: n.Resource, Message: n.Message, Term: n.Term})
	s.log.Warn().Str("proxy", p.id).Str("resource", n.Resource).Str("type", typeLabel(n.Type)).
		Uint64("term", n.Term).Str("said", n.Message).Msg("proxy rejected resource")
}

// Proxies lists the connected proxies by id.
func (s *Server) Proxies() []Proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Proxy, 0, len(s.proxies))
	for _, p := range s.proxies {
		if p.configStreams == 0 {
			continue
		}
		list = append(list, Proxy{ID: p.id, DataCenter: p.dataCenter, Kind: p.kind, Since: p.since, Services: p.list()})
	}
	slices.SortFunc(list, func(a, b Proxy) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Behind lists, by id, the connected proxies that follow a service's route
// and have not acknowledged this term or a later one. It is empty when every
// connected proxy has, and also when none follows the service.
func (s *Server) Behind(service string, term uint64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[service]
	if e == nil {
		return nil
	}
	behind := map[string]struct{}{}
	for k, streams := range e.watchers {
		if !e.routes(k) {
			continue
		}
		for st := range streams {
			if st.proxy.service(service).acked < term {
				behind[st.proxy.id] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(behind))
}

// routes says whether this key decides where the service's requests go.
func (e *entry) routes(k key) bool {
	switch {
	case k.profile == proxylessProfile:
		return k.typ == resource.EndpointsType
	case e.service.Protocol == resource.TCP:
		return k.typ == resource.ListenerType
	}
	return k.typ == resource.RouteType
}

func (p *proxy) list() []ProxyService {
	waiting := map[string][]uint64{}
	for st := range p.streams {
		st.waiting(waiting)
	}
	for name := range waiting {
		p.service(name)
	}
	services := make([]ProxyService, 0, len(p.services))
	for name, ps := range p.services {
		v := ProxyService{Service: name, Term: ps.acked, Pending: ps.pending, Waiting: waiting[name]}
		slices.Sort(v.Waiting)
		v.Waiting = slices.Compact(v.Waiting)
		if ps.nack != nil {
			n := *ps.nack
			v.Nack = &n
		}
		for _, l := range ps.loads {
			v.Loads = append(v.Loads, l)
		}
		slices.SortFunc(v.Loads, func(a, b TermLoad) int { return cmp.Compare(a.Term, b.Term) })
		services = append(services, v)
	}
	slices.SortFunc(services, func(a, b ProxyService) int { return cmp.Compare(a.Service, b.Service) })
	return services
}
