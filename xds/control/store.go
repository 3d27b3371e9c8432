package control

import (
	"errors"
	"fmt"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// ErrTermBackwards is returned by Set when a term of a service would become
// less than it was: the caller's view is older than the server's.
var ErrTermBackwards = errors.New("term goes backwards")

// ErrTooMany is returned when a named maximum of Limits is reached.
var ErrTooMany = errors.New("too many")

// profile is the kind of client a resource is made for.
type profile uint8

const (
	envoyProfile profile = iota
	proxylessProfile
)

// key names one resource of one profile.
type key struct {
	profile profile
	typ     string
	name    string
}

// entry is everything about one service: its state, the resources built from
// it, and who watches which. It exists before the service is registered when
// a proxy asked for it already. Guarded by Server.mu.
type entry struct {
	name       string
	registered bool
	removed    bool // Remove was called: names that proxies have may be taken back
	service    resource.Service
	built      map[key]*resource.Resource // nil value: nothing to say yet
	watchers   map[key]map[*stream]struct{}
}

// serviceOf returns the service that a resource name belongs to, and the term
// of a cluster's name: <service>@<term> for Envoy, <service> for the rest.
func serviceOf(k key) (service string, term uint64, ok bool) {
	if k.profile == envoyProfile && k.typ == resource.ClusterType {
		return resource.ParseClusterName(k.name)
	}
	return k.name, 0, resource.ValidateName(k.name) == nil
}

// entryFor returns the service's entry, making it when a proxy asks first.
func (s *Server) entryFor(service string) *entry {
	e := s.entries[service]
	if e == nil {
		e = &entry{name: service, built: map[key]*resource.Resource{}, watchers: map[key]map[*stream]struct{}{}}
		s.entries[service] = e
	}
	return e
}

// dropIfUnused forgets an entry that nobody registered, removed or watches.
func (s *Server) dropIfUnused(e *entry) {
	if !e.registered && !e.removed && len(e.watchers) == 0 {
		delete(s.entries, e.name)
	}
}

func (s *Server) watch(e *entry, k key, st *stream) {
	w := e.watchers[k]
	if w == nil {
		w = map[*stream]struct{}{}
		e.watchers[k] = w
	}
	w[st] = struct{}{}
}

func (s *Server) unwatch(e *entry, k key, st *stream) {
	w := e.watchers[k]
	delete(w, st)
	if len(w) == 0 {
		delete(e.watchers, k)
		delete(e.built, k)
		s.dropIfUnused(e)
	}
}

// resolve returns the resource that a key stands for now, built once for all
// streams; nil means silence.
func (s *Server) resolve(e *entry, k key) *resource.Resource {
	if !e.registered {
		return nil
	}
	if r, ok := e.built[k]; ok {
		return r
	}
	r, err := s.build(e.service, k)
	if err != nil {
		s.log.Error().Err(err).Str("service", e.name).Str("resource", k.name).Msg("cannot build resource")
	}
	e.built[k] = r
	return r
}

func (s *Server) build(svc resource.Service, k key) (*resource.Resource, error) {
	_, term, ok := serviceOf(k)
	if !ok {
		return nil, nil
	}
	if k.profile == proxylessProfile {
		return s.buildProxyless(svc, k.typ)
	}
	switch k.typ {
	case resource.ListenerType:
		return resource.EnvoyListener(svc)
	case resource.RouteType:
		return resource.EnvoyRoute(svc)
	case resource.ClusterType:
		return resource.EnvoyCluster(svc, term)
	}
	return nil, nil
}

func (s *Server) buildProxyless(svc resource.Service, typ string) (*resource.Resource, error) {
	if s.opts.Parking == nil {
		return nil, nil
	}
	switch typ {
	case resource.ListenerType:
		return resource.ProxylessListener(svc)
	case resource.RouteType:
		return resource.ProxylessRoute(svc)
	case resource.ClusterType:
		return resource.ProxylessCluster(svc)
	case resource.EndpointsType:
		return resource.ProxylessEndpoints(svc, s.opts.ParkingEndpoints)
	}
	return nil, nil
}

// Set makes the service's desired state known and pushes what changed. It
// returns when the pushes are queued. It is idempotent, and cheap when
// nothing changed. Errors: resource.ErrInvalid, ErrTermBackwards, ErrTooMany.
func (s *Server) Set(svc resource.Service) error {
	if err := svc.Validate(); err != nil {
		return fmt.Errorf("set service: %w", err)
	}
	svc = svc.WithDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entryFor(svc.Name)
	if e.registered && (svc.RouteTerm < e.service.RouteTerm || svc.CertifiedTerm < e.service.CertifiedTerm) {
		return fmt.Errorf("set service %s: %w: route %d, certified %d after route %d, certified %d", svc.Name,
			ErrTermBackwards, svc.RouteTerm, svc.CertifiedTerm, e.service.RouteTerm, e.service.CertifiedTerm)
	}
	if !e.registered {
		if s.registered >= s.opts.Limits.Services {
			s.dropIfUnused(e)
			return fmt.Errorf("set service %s: %w: %d services", svc.Name, ErrTooMany, s.registered)
		}
		s.registered++
		s.metrics.services.Inc()
	}
	e.registered, e.removed, e.service = true, false, svc
	for st := range s.wildcards {
		st.addListener(e)
	}
	s.republish(e)
	return nil
}

// Remove takes a service away: proxies are told that its listener, route and
// clusters are gone. Names that were never answered stay held. A name that is
// not registered is remembered, so that proxies that still have it are told.
func (s *Server) Remove(name string) {
	if resource.ValidateName(name) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entryFor(name)
	if e.registered {
		s.registered--
		s.metrics.services.Dec()
	}
	e.registered, e.removed = false, true
	s.republish(e)
}

// republish rebuilds what is watched of one service and wakes the streams
// that watch something that changed.
func (s *Server) republish(e *entry) {
	old := e.built
	e.built = make(map[key]*resource.Resource, len(old))
	for k, streams := range e.watchers {
		now, before := s.resolve(e, k), old[k]
		_, term, _ := serviceOf(k)
		expired := term > 0 && term < e.service.OldestTerm
		if e.registered && !expired && sameVersion(now, before) {
			continue
		}
		for st := range streams {
			st.mark(k.typ, k.name)
		}
	}
}

func sameVersion(a, b *resource.Resource) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version
}
