package coordinator

import (
	"context"
	"encoding/json"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/rpc/wire"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// The states of an instance that the coordinator looks at, as agents send them.
const (
	stateServing = "serving"
	stateLeaving = "leaving"
	stateLeft    = "left"
	stateSilent  = "silent"
)

// instance is what this gateway knows of an instance, from its own sessions and
// from its peers' views.
type instance struct {
	signalbox.Instance
	local   bool // has a session here
	address string
	// said is the term of its newest signed serving statement.
	said signalbox.Term
	// served is that statement itself, for who follows it.
	served signalbox.Evidence
	views  map[string]*view // by gateway
	// proof is the enrollment that its agent sent, for proposing it.
	proof []byte
}

var noTime time.Time

// view is one gateway's newest status of an instance.
type view struct {
	status *wire.InstanceStatus
	at     time.Time
	silent time.Time      // since when it has no session; zero while it has
	ever   signalbox.Term // the newest term at which this gateway saw it serve
}

func (i *instance) view(gateway string) *view {
	v := i.views[gateway]
	if v == nil {
		v = &view{status: &wire.InstanceStatus{}}
		i.views[gateway] = v
	}
	return v
}

// newest returns the status heard last.
func (i *instance) newest() (best *view) {
	for _, v := range i.views {
		if best == nil || v.silent.IsZero() && !best.silent.IsZero() ||
			v.silent.IsZero() == best.silent.IsZero() && v.at.After(best.at) {
			best = v
		}
	}
	return best
}

// reachable reports whether some gateway has a session with its agent.
func (i *instance) reachable() bool {
	for _, v := range i.views {
		if v.silent.IsZero() {
			return true
		}
	}
	return false
}

func (i *instance) leaving() bool {
	for _, v := range i.views {
		if v.status.GetState() == stateLeaving || v.status.GetState() == stateLeft {
			return true
		}
	}
	return false
}

// serves reports whether it takes requests at the term, as far as known.
func (i *instance) serves(t signalbox.Term) bool {
	if i.leaving() {
		return false
	}
	contradicted := false
	for _, v := range i.views {
		if v.ever == t {
			if v.status.GetState() == stateServing || !v.silent.IsZero() {
				return true
			}
			contradicted = true
		}
	}
	return i.said == t && !contradicted
}

// quietWait is how long a silent agent's instance keeps its endpoint beside
// others that are heard. Silence proves nothing: an instance serves on without
// its agent; but a dead machine costs each try a connect timeout.
const quietWait = 10 * time.Second

// quiet reports whether nobody has heard of it for so long that others, if
// there are any, should take its requests. A library instance dies with its
// agent.
func (i *instance) quiet(now time.Time) bool {
	if i.reachable() || len(i.views) == 0 {
		return false
	}
	v := i.newest()
	return v.status.GetDriver() == "library" || now.Sub(v.silent) > quietWait
}

func (c *Coordinator) instanceOf(s *service, in signalbox.Instance) *instance {
	i := s.instances[in.Identity]
	if i == nil {
		i = &instance{Instance: in, views: map[string]*view{}}
		s.instances[in.Identity] = i
	}
	return i
}

// instanceByID finds an instance by what the log knows of it.
func (c *Coordinator) instanceByID(s *service, id signalbox.Identity) *instance {
	if i := s.instances[id]; i != nil {
		return i
	}
	var in signalbox.Instance
	var ok bool
	c.opt.Journal.View(func(l *handover.Ledger) { in, ok = l.Enrolled(id) })
	if !ok || in.Service != s.conf.Name {
		return nil
	}
	return c.instanceOf(s, in)
}

// endpointsNow computes where the certified term is served.
func (c *Coordinator) endpointsNow(s *service, cert *signalbox.Certificate) []resource.Endpoint {
	var heard, quiet []resource.Endpoint
	now := c.opt.Now()
	for _, i := range s.instances {
		e, ok := parseEndpoint(i.address)
		if !ok || i.DataCenter != cert.DataCenter() || !i.serves(cert.Term) {
			continue
		}
		if i.quiet(now) {
			quiet = append(quiet, e)
		} else {
			heard = append(heard, e)
		}
	}
	if len(heard) == 0 {
		heard = quiet
	}
	slices.SortFunc(heard, func(a, b resource.Endpoint) int {
		if n := strings.Compare(a.Address, b.Address); n != 0 {
			return n
		}
		return int(a.Port) - int(b.Port)
	})
	return slices.Compact(heard)
}

func parseEndpoint(address string) (resource.Endpoint, bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return resource.Endpoint{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return resource.Endpoint{Address: host, Port: uint32(n)}, err == nil && n > 0 && net.ParseIP(host) != nil
}

// endpointsNote is how endpoints are kept beside the log.
type endpointsNote struct {
	Term      signalbox.Term
	Endpoints []resource.Endpoint
}

func encodeEndpoints(e []resource.Endpoint, t signalbox.Term) []byte {
	raw, _ := json.Marshal(endpointsNote{t, e}) // strings and numbers always encode
	return raw
}

func decodeEndpoints(raw []byte) ([]resource.Endpoint, signalbox.Term) {
	var n endpointsNote
	if json.Unmarshal(raw, &n) != nil {
		return nil, 0
	}
	return n.Endpoints, n.Term
}

// refresh publishes what changed of a service's instances: the release of a
// certificate that no run is about any more, or other endpoints within a term.
func (c *Coordinator) refresh(s *service) {
	cert := s.machine.Certificate()
	if s.conf.Observe {
		return
	}
	if cert == nil {
		c.publish(s)
		return
	}
	if cert.Term > s.released && !s.machine.Runs(cert.Block.Digest) {
		if len(c.endpointsNow(s, cert)) > 0 || s.endpointsTerm == cert.Term {
			c.release(s, cert)
		}
		return
	}
	if newest, open := s.machine.Open(); open && newest.Handover(s.conf.Name).Term > cert.Term {
		return // what drains now is no news to its proxies
	}
	if cert.Term == s.released {
		c.publish(s)
	}
}

// publish hands the desired state to the xDS server. Without any endpoint known
// the last ones of the term stay: an empty list would fail requests at once.
func (c *Coordinator) publish(s *service) {
	if s.conf.Observe {
		return
	}
	cert := s.machine.Certificate()
	if cert != nil && cert.Term == s.released {
		if now := c.endpointsNow(s, cert); len(now) > 0 && (s.endpointsTerm != cert.Term || !slices.Equal(now, s.endpoints)) {
			s.endpoints, s.endpointsTerm = now, cert.Term
			name, raw := string(s.conf.Name), encodeEndpoints(now, cert.Term)
			c.later(func() error { return c.opt.Journal.PutNote(journal.KindEndpoints, name, raw) })
		}
	}
	// Certified is, for proxies, what it is known of where it is served: the
	// endpoints of the term before are no substitute (rule 7).
	certified := min(s.released, s.endpointsTerm)
	want := resource.Service{
		Name: string(s.conf.Name), Protocol: s.conf.Protocol, Listener: s.conf.Listener,
		RouteTerm: uint64(max(s.routeTerm, s.released)), CertifiedTerm: uint64(certified), OldestTerm: uint64(min(s.oldest, certified)),
		Endpoints: s.endpoints, HoldTimeout: s.conf.HoldTimeout,
		ConnectTimeout: s.conf.ConnectTimeout, RequestTimeout: s.conf.RequestTimeout,
	}
	if s.published != nil && reflect.DeepEqual(*s.published, want) {
		return
	}
	if err := c.opt.Proxies.Set(want); err != nil {
		c.opt.Logger.Error().Err(err).Str("service", string(s.conf.Name)).Msg("the xDS server refused the service")
		return
	}
	s.published = &want
}

// retireWait is how long the names of older terms stay at least after a
// release: several load reports of every proxy.
const retireWait = 5 * time.Second

// retire lets proxies drop the names of terms before the certified one, when
// their load reports say that nothing is in flight on them any more. What a
// proxy that reports no load still has in flight is not cut by it: removing a
// cluster drains its connections.
func (c *Coordinator) retire(s *service) {
	_, open := s.machine.Open()
	if open || s.oldest >= s.released || c.opt.Now().Sub(s.since) < retireWait {
		return
	}
	for _, p := range c.opt.Proxies.Proxies() {
		for _, ps := range p.Services {
			for _, load := range ps.Loads {
				if ps.Service == string(s.conf.Name) && signalbox.Term(load.Term) < s.released && load.InProgress > 0 {
					return
				}
			}
		}
	}
	s.oldest = s.released
	c.publish(s)
}

// admit proposes what an instance lacks in the log: to be known at all, or to
// be admitted to the certified term. Every gateway of the data center would; a
// delay by name order lets the first be alone.
func (c *Coordinator) admit(s *service, i *instance, enrollment []byte, wants bool) {
	now := c.opt.Now()
	if !i.local || len(enrollment) == 0 || now.Before(s.admitting[i.Identity]) {
		return
	}
	var request *signalbox.Admission
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		_, known := l.Enrolled(i.Identity)
		switch {
		case st == nil || st.Master() != i.DataCenter:
			if !known {
				request = &signalbox.Admission{Instance: i.Instance, Enrollment: enrollment}
			}
		case wants && len(st.Open) == 0 && st.MayJoin(i.Identity):
			request = &signalbox.Admission{Instance: i.Instance, Term: st.Term(), Enrollment: enrollment}
		case !known:
			request = &signalbox.Admission{Instance: i.Instance, Enrollment: enrollment}
		}
	})
	if request == nil {
		return
	}
	wait := time.Duration(c.turn()) * 300 * time.Millisecond
	s.admitting[i.Identity] = now.Add(wait + time.Second)
	before := c.opt.Journal.Index()
	c.background(func(ctx context.Context) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if wait > 0 && c.admittedSince(request, before) {
			return
		}
		if err := c.opt.Links.ProposeTo(ctx, signalbox.Request{Admit: request}); err != nil {
			c.opt.Logger.Info().Err(err).Str("instance", i.Name).Msg("admission was not decided; trying again")
		}
	})
}

// admittedSince reports whether another gateway had the same decided meanwhile.
func (c *Coordinator) admittedSince(a *signalbox.Admission, before uint64) (done bool) {
	c.opt.Journal.View(func(l *handover.Ledger) {
		if a.Term == 0 {
			_, done = l.Enrolled(a.Identity)
			return
		}
		if st := l.Service(a.Service); st != nil {
			done = st.Outstanding[a.Identity].Admission > before
		}
	})
	return done
}

// turn is this gateway's place among those of its data center that can be
// reached, by name.
func (c *Coordinator) turn() (before int) {
	for name, dc := range c.opt.Peers {
		if dc == c.opt.DataCenter && c.peersUp[name] && name < c.opt.Gateway {
			before++
		}
	}
	return before
}
