// Package server puts a gateway together: journal, sessions, gossip, xDS, API
// and metrics around one coordinator. It is wiring only.
//
// Guarantees: New has no side effects but reading the bundle and opening the
// journal; Run returns when the first part ended, after all the others did.
package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/membership/gossip"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/failpoint"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// Listen says where a gateway listens, host:port each. Metrics and Parking may
// be empty.
type Listen struct {
	RPC, XDS, API, GossipLAN, GossipWAN, Metrics, Parking string
}

// Options are a gateway's.
type Options struct {
	Bundle *identity.Bundle
	// Cluster is the bundle's description with the addresses to use.
	Cluster  *identity.Cluster
	State    string
	Listen   Listen
	Services []coordinator.Service
	// AgreementTimeout bounds how long agreeing on a block may take; 0: the default.
	AgreementTimeout time.Duration
	// CheckVoters says whether the services can be what they are configured to be with
	// these voters: those of the log. Optional.
	CheckVoters func(signalbox.VoterSet) error
	Version     string
	Logger      zerolog.Logger
	// snapshotBlocks, in tests, is after how many blocks a snapshot is due.
	snapshotBlocks uint64
	// agreementTimeout, in tests, is how long a view may take.
	agreementTimeout time.Duration
	// unreachableTimeout, in tests, is the same for a view whose leader cannot be reached.
	unreachableTimeout time.Duration
	// wrapCouncil, in tests, stands between the sessions and the voter.
	wrapCouncil func(session.Council) session.Council
	// wrap, in tests, stands between the sessions and the coordinator.
	wrap func(session.Handler) session.Handler
}

// Server is one gateway.
type Server struct {
	opt         Options
	journal     *journal.Journal
	coordinator *coordinator.Coordinator
	peers       *session.Peers
	agents      *session.Agents
	control     *control.Server
	events      *api.Events
	keeper      *rpc.Keeper
	registry    *prometheus.Registry
	listeners   map[string]net.Listener
	pools       []*pool
	trust       rpc.Trust
	// office votes, whenever the log says that this gateway does; voterKeys are what
	// it made to vote with.
	office    *journal.Office
	lessor    *journal.Lessor
	voterKeys *voterKeys
	schemes   schemes
	// unproven: the configuration does not fit the log's voters, and the log may be old.
	unproven       bool
	refusals       refusals
	journalMetrics *journalMetrics
}

// links joins both kinds of sessions for the coordinator.
type links struct {
	*session.Peers
	*session.Agents
}

// New opens the journal and listens; Run serves.
func New(opt Options) (*Server, error) {
	s := &Server{opt: opt, registry: prometheus.NewRegistry(), listeners: map[string]net.Listener{}}
	s.refusals = newRefusals(s.registry)
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.build(); err != nil {
		s.close()
		return nil, fmt.Errorf("start gateway %s: %w", opt.Bundle.Self.Name, err)
	}
	return s, nil
}

func (s *Server) build() error {
	if err := s.listen(); err != nil {
		return err
	}
	var err error
	if s.keeper, err = s.opt.Bundle.Keeper(); err != nil {
		return err
	}
	if _, err := signature.FromBundle(s.opt.Bundle); err != nil {
		return err
	}
	self := s.opt.Bundle.Self
	trust, err := signature.Trust(s.opt.Cluster)
	if err != nil {
		return err
	}
	enrollment := func(raw []byte) (signalbox.Instance, error) {
		in, _, err := rpc.OpenEnrollment(self.Cluster, s.keeper.Roots(), raw)
		return in, err
	}
	if s.journal, err = journal.OpenEvery(s.opt.State, trust, enrollment, cmp.Or(s.opt.snapshotBlocks, failpoint.SnapshotBlocks(handover.SnapshotBlocks))); err != nil {
		return err
	}
	s.journalMetrics = newJournalMetrics(s.registry, s.journal.Size)
	rules := map[signalbox.Service]policy.Rules{}
	for _, service := range s.opt.Services {
		rules[service.Name] = service.Rules
	}
	s.journal.SetRules(rules)
	s.journal.SetMandates(s.mandate)
	s.events = api.NewEvents(fmt.Sprintf("%s.%d", self.Name, time.Now().UnixNano()), api.DefaultRing)
	if err := s.buildControl(); err != nil {
		return err
	}
	s.trust = trust
	if err := s.buildCoordinator(trust); err != nil {
		return err
	}
	return s.checkVoters()
}

// mandate verifies an operator's signature.
func (s *Server) mandate(proof []byte, at time.Time) (*signalbox.Mandate, error) {
	return rpc.OpenMandate(rpc.MandateTrust{Cluster: s.opt.Cluster.Name, Roots: s.keeper.Roots(), Keys: s.opt.Cluster.OperatorKeys}, proof, at)
}

func (s *Server) buildControl() (err error) {
	s.control, err = control.New(control.Options{
		Authorize: control.SPIFFE(s.opt.Bundle.Self.Cluster),
		OnEvent: func(e control.Event) {
			if s.coordinator != nil {
				s.coordinator.ProxyEvent(e)
			}
		},
		OnRefused: func(node string, err error) {
			s.opt.Logger.Warn().Err(err).Str("proxy", node).Msg("refused proxy")
		},
		Parking: s.listeners["parking"], ParkingEndpoints: s.parking(), Registerer: s.registry, Logger: s.opt.Logger, Limits: control.DefaultLimits(),
	})
	return err
}

// parking lists the parking listeners of the data center's gateways, those with
// an IP address.
func (s *Server) parking() (out []resource.Endpoint) {
	if s.listeners["parking"] == nil {
		return nil
	}
	for _, dc := range s.opt.Cluster.DataCenters {
		for _, g := range dc.Gateways {
			host, port, err := net.SplitHostPort(g.Parking)
			number, perr := strconv.ParseUint(port, 10, 16)
			if dc.Name == s.opt.Bundle.Self.DataCenter && err == nil && perr == nil && net.ParseIP(host) != nil {
				out = append(out, resource.Endpoint{Address: host, Port: uint32(number)})
			}
		}
	}
	return out
}

func (s *Server) buildCoordinator(trust rpc.Trust) error {
	self := s.opt.Bundle.Self
	peers, sites := s.topology()
	log, err := s.buildVoter(trust, len(peers))
	if err != nil {
		return err
	}
	handler := &lateHandler{}
	s.peers, err = session.NewPeers(session.PeersOptions{
		Cluster: self.Cluster, DataCenter: self.DataCenter, Gateway: self.Name, Peers: peers,
		ProposeWait: s.opt.AgreementTimeout,
		Credential:  credentials.NewTLS(s.keeper.Client(rpc.RoleGateway)), Handler: handler, Log: log,
		Votes: s.votes, Offer: s.offer, Logger: s.opt.Logger, Refused: s.refusals.of("gateway"),
		Lessor: s.lessor, Leased: s.leased, Council: s.council(), Linked: s.office.Linked,
	})
	if err != nil {
		return err
	}
	s.agents = session.NewAgents(session.AgentsOptions{
		Cluster: self.Cluster, DataCenter: self.DataCenter, Gateway: self.Name,
		Roots: func() *x509.CertPool { return s.keeper.Roots() }, Handler: handler,
		Voters: func() [][]byte { return trust.Epochs.Chain(s.office.Voters().Epoch) },
		Ask:    s.peers.AskVoters, Lease: s.peers.RequestLease, Logger: s.opt.Logger,
		Refused: s.refusals.of("agent"),
	})
	for range 2 {
		s.pools = append(s.pools, &pool{notices: gossip.NewNotices(trust, func(n rpc.Notice) { s.coordinator.Notice(n) })})
	}
	s.coordinator, err = coordinator.New(coordinator.Options{
		Cluster: self.Cluster, Gateway: self.Name, DataCenter: self.DataCenter, Version: s.opt.Version, Peers: sites,
		Voting: s.voting, Mandates: s.mandate, Expiries: (&expiries{keeper: s.keeper, dir: s.opt.Bundle.Dir}).list,
		Services: s.opt.Services, Trust: trust, Roots: s.keeper.Roots, Journal: s.journal, Links: links{s.peers, s.agents},
		Gossip: []coordinator.Gossip{s.pools[0], s.pools[1]}, Proxies: s.control, Events: s.events,
		Metrics: coordinator.NewMetrics(s.registry), Logger: s.opt.Logger,
	})
	handler.Handler = s.coordinator
	if s.opt.wrap != nil {
		handler.Handler = s.opt.wrap(s.coordinator)
	}
	return err
}

// lateHandler lets the sessions be made before the coordinator that needs them.
// Nothing is served before Run.
type lateHandler struct{ session.Handler }

// topology lists the other gateways.
func (s *Server) topology() ([]session.Peer, map[string]signalbox.DataCenter) {
	var peers []session.Peer
	sites := map[string]signalbox.DataCenter{}
	for _, dc := range s.opt.Cluster.DataCenters {
		for _, g := range dc.Gateways {
			if g.Name == s.opt.Bundle.Self.Name {
				continue
			}
			peers = append(peers, session.Peer{Name: g.Name, DataCenter: dc.Name, Address: g.RPC})
			sites[g.Name] = dc.Name
		}
	}
	return peers, sites
}

func (s *Server) listen() error {
	l := s.opt.Listen
	for name, address := range map[string]string{"rpc": l.RPC, "xds": l.XDS, "api": l.API, "metrics": l.Metrics, "parking": l.Parking} {
		if address == "" && (name == "metrics" || name == "parking") {
			continue
		}
		if address == "" {
			return fmt.Errorf("%w: no address to listen on for %s", signalbox.ErrInvalid, name)
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", name, err)
		}
		s.listeners[name] = listener
	}
	return nil
}

func (s *Server) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	if s.journal != nil {
		_ = s.journal.Close()
	}
}

// Run serves until ctx ends or a part fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	if err := s.openPools(); err != nil {
		s.closePools()
		return fmt.Errorf("join gossip: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { <-ctx.Done(); s.closePools(); return nil })
	g.Go(func() error { return s.coordinator.Run(ctx) })
	g.Go(func() error { return s.peers.Run(ctx) })
	g.Go(func() error { return s.office.Run(ctx) })
	g.Go(func() error { return s.proveVoters(ctx) })
	g.Go(func() error { return s.reloadKeys(ctx) })
	g.Go(func() error { return s.keepBounded(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.journal.Broken():
			return s.journal.Failed() // the supervisor's next start finds out what is on the disk
		}
	})
	s.serveGRPC(ctx, g, "rpc", func(gs *grpc.Server) {
		wire.RegisterAgentsServer(gs, s.agents)
		wire.RegisterGatewaysServer(gs, s.peers)
	}, rpcOptions())
	s.serveGRPC(ctx, g, "xds", func(gs *grpc.Server) { s.control.Register(gs) }, control.GRPCOptions(control.DefaultLimits()))
	handler := api.New(api.Options{
		Cluster: s.opt.Bundle.Self.Cluster, Viewer: s.coordinator, Historian: s.coordinator, Conductor: s.coordinator,
		Governor: s.coordinator, Surveyor: s.coordinator, Rescuer: s.coordinator, Electorate: electorate{s},
		Archivist: s.coordinator, Registerer: s.registry, Events: s.events, Log: s.opt.Logger,
	})
	s.serveHTTP(ctx, g, "api", api.NewServer(handler, s.keeper.Server()), true)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	s.serveHTTP(ctx, g, "metrics", &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, false)
	s.opt.Logger.Info().Str("gateway", s.opt.Bundle.Self.Name).Bool("voter", s.office.Votes()).Uint64("epoch", s.office.Voters().Epoch).
		Uint64("log_index", s.journal.Index()).Msg("gateway runs")
	return g.Wait()
}

func rpcOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(rpc.MaxMessage), grpc.MaxSendMsgSize(rpc.MaxMessage), grpc.MaxConcurrentStreams(1024),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Second, Timeout: 2 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	}
}

func (s *Server) serveGRPC(ctx context.Context, g *errgroup.Group, name string, register func(*grpc.Server), options []grpc.ServerOption) {
	creds := watchHandshakes(credentials.NewTLS(s.keeper.Server()), s.refusals.of("connection"), s.opt.Logger)
	gs := grpc.NewServer(append(options, grpc.Creds(creds), grpc.WaitForHandlers(true))...)
	register(gs)
	g.Go(func() error {
		if err := gs.Serve(s.listeners[name]); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve %s: %w", name, err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		if name == "xds" {
			s.control.Close()
		}
		gs.Stop()
		return nil
	})
}

func (s *Server) serveHTTP(ctx context.Context, g *errgroup.Group, name string, hs *http.Server, tls bool) {
	l := s.listeners[name]
	if l == nil {
		return
	}
	g.Go(func() error {
		var err error
		if tls {
			err = hs.ServeTLS(l, "", "")
		} else {
			err = hs.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve %s: %w", name, err)
	})
	g.Go(func() error {
		<-ctx.Done()
		s.events.Close()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if hs.Shutdown(ending) != nil {
			return hs.Close()
		}
		return nil
	})
}
