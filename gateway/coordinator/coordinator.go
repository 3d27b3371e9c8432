// Package coordinator runs a gateway: it feeds what agents, peers, proxies, the
// log and the clock say into each service's handover.Machine, and carries out
// what the machine decides, in its order. It owns no policy.
//
// Guarantees: one goroutine owns all state, so that effects of one event are
// done before the next event is looked at; what a machine wants proposed or
// persisted never holds that goroutine up; no endpoints are published but of a
// certificate that was verified here.
//
// It does not guarantee that a peer, agent or proxy got what was sent: whoever
// comes back is told everything again.
package coordinator

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// Links reach agents and peers. They only queue.
type Links interface {
	// Broadcast tells every peer that can be reached.
	Broadcast(f *wire.PeerFrame)
	// Tell tells those of the named peers that can be reached.
	Tell(gateways []string, f *wire.PeerFrame)
	// Send tells an instance's agent; false when it has no session here.
	Send(id signalbox.Identity, f *wire.GatewayFrame) bool
	// SendAll tells every agent with a session here once.
	SendAll(f *wire.GatewayFrame)
	// ProposeTo has a request decided; the own log has it when it returns.
	ProposeTo(ctx context.Context, r signalbox.Request) error
	// RequestLapse has every voter sign an encoded lapse as soon as it may; shares
	// come back as peers' frames. It is to be repeated while they are missing.
	RequestLapse(payload []byte)
}

// Gossip passes on among a pool's members what is signed: statements as they are,
// and blocks and certificates by their hash.
type Gossip interface {
	Broadcast(raw []byte)
	Publish(n rpc.Notice)
}

// Proxies is the xDS server.
type Proxies interface {
	Set(s resource.Service) error
	Proxies() []control.Proxy
	// Behind lists connected proxies that follow the service's route and have
	// not acknowledged the term.
	Behind(service string, term uint64) []string
}

// Service is a service as the gateways' configuration has it.
type Service struct {
	Name        signalbox.Service
	Protocol    resource.Protocol
	Listener    *resource.Listener
	HoldBudget  time.Duration
	HoldTimeout time.Duration
	// ConnectTimeout and RequestTimeout are the proxies'; 0: the default, none.
	ConnectTimeout, RequestTimeout time.Duration
	DataCenters                    []signalbox.DataCenter
	// Streams is what becomes of streams that outlive a drain.
	Streams signalbox.StreamPolicy
	// Observe watches only: nothing is moved and no proxy is configured.
	Observe bool
	// Rules are the safety rules; DependsOn is moved before it in an evacuation.
	Rules     policy.Rules
	DependsOn []signalbox.Service
	// Singleton: one instance is master, not all of a data center.
	Singleton bool
	// Evidence is what a failover may count beside acks and leaves; with Lapse
	// in it the service's terms use Leases.
	Evidence signalbox.EvidenceKinds
	Leases   signalbox.Leases
	// Fences has the plugin that fences a data center's instances, where there is
	// one on this gateway.
	Fences map[signalbox.DataCenter]Fencer
	// Automatic is the silence of the master's data center after which the service
	// is failed over without anybody asking; 0: it never is.
	Automatic time.Duration
}

// Options are what a Coordinator needs.
type Options struct {
	Cluster    string
	Gateway    string
	DataCenter signalbox.DataCenter
	Version    string
	Peers      map[string]signalbox.DataCenter
	// Voting is who decides now; the log changes it.
	Voting func() Voting
	// Mandates verifies an operator's mandate at a time; nil: none is taken.
	Mandates func(proof []byte, at time.Time) (*signalbox.Mandate, error)
	// Expiries lists the certificates known here; may be nil.
	Expiries func() []Expiry
	Services []Service
	Trust    rpc.Trust
	Roots    func() *x509.CertPool
	Journal  *journal.Journal
	Links    Links
	Gossip   []Gossip
	Proxies  Proxies
	Events   *api.Events
	Metrics  *Metrics
	Logger   zerolog.Logger
	Now      func() time.Time
}

// Voting is who decides.
type Voting struct {
	// Voters names the voters, Quorum is how many of them decide.
	Voters []string
	Quorum int
	// Witness is this gateway's part in others' evidence.
	Witness Witness
}

// maxInbox bounds what waits for the coordinator's goroutine; who posts more
// waits.
const maxInbox = 8192

// A Coordinator is one gateway's. Run it; everything else may be called from
// any goroutine.
type Coordinator struct {
	opt      Options
	inbox    chan func()
	done     chan struct{}
	services map[signalbox.Service]*service
	applied  uint64
	loaded   bool // the notes beside the log are in

	mu     sync.Mutex // guards what sessions ask without waiting for the owner
	keys   map[signalbox.Identity]ed25519.PublicKey
	heard  map[signalbox.Identity]start // the newest that said hello
	recent map[string]bool              // statement keys seen
	seen   []string
	// requested is when handovers were asked for here, by id.
	requested map[string]time.Time

	// What was verified before; each copy after the first costs a hash.
	statements   verified[signalbox.Evidence]
	certificates verified[struct{}]

	// gathered are the signatures of others' evidence that come together here,
	// fencings the instances that this gateway fenced.
	gathered map[string]*gathering
	// attested are starts without a quorum that the log does not have yet, as of
	// attestedAt.
	attested   map[signalbox.Digest]*signalbox.Mandate
	attestedAt time.Time
	fencings   map[fenceKey]*fencing
	// busy are the services with an open handover.
	busy     map[*service]bool
	peersUp  map[string]bool
	configs  map[string]map[signalbox.Service]configDigest // of the peers that can be reached
	proxies  map[string]map[string]*proxyView              // by gateway, by id
	disk     chan func()
	inflight sync.WaitGroup
	ctx      context.Context
	kept     time.Time // when housekeeping was done last
	watched  time.Time // when silence was looked at last
	// silent are the services that are failed over by themselves and whose master this voter has not heard of for a
	// while, but not for so long that all is said.
	silent map[*service]bool
	// lost are the losses whose records have them.
	lost     map[lostKey]bool
	surveyed time.Time // when readiness was looked at last
	told     []byte    // what peers were told last of the own proxies
	toldAt   time.Time
	began    time.Time // when this gateway started
	rumours  chan delayed
	several  bool               // other data centers than one
	news     map[*instance]bool // instances that the peers are to be told of
	newsAt   time.Time

	// unhurried is what the peers are told when there is time, in order.
	unhurried []unhurried
}

// service is what the coordinator keeps of one service.
type service struct {
	conf      Service
	machine   *handover.Machine
	silence   *handover.SilenceWatch // nil: it is not failed over by itself
	instances map[signalbox.Identity]*instance
	routeTerm signalbox.Term
	released  signalbox.Term
	oldest    signalbox.Term
	since     time.Time
	// endpoints are the last ones known that were not empty, of endpointsTerm:
	// under another term's name they would be those of the old master.
	endpoints     []resource.Endpoint
	endpointsTerm signalbox.Term
	published     *resource.Service
	records       map[signalbox.Digest]*record
	admitting     map[signalbox.Identity]time.Time
	leaves        map[signalbox.Identity]signalbox.Evidence
	removing      map[signalbox.Identity]time.Time // when a removal may be proposed again
	holds         []time.Duration                  // of the newest forward handovers, newest last
	metered       time.Time                        // until when its pause was counted
	// shown is what the metrics say.
	shown struct {
		open bool
		term signalbox.Term
	}
	// closed holds the newest closed record until it is on disk.
	closed map[string]*api.Handover
}

// New returns a coordinator with the journal's state in it.
func New(opt Options) (*Coordinator, error) {
	if opt.Voting == nil {
		opt.Voting = func() Voting { return Voting{} }
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	c := &Coordinator{
		opt: opt, inbox: make(chan func(), maxInbox), done: make(chan struct{}), disk: make(chan func(), maxInbox),
		services: map[signalbox.Service]*service{}, keys: map[signalbox.Identity]ed25519.PublicKey{},
		heard: map[signalbox.Identity]start{}, recent: map[string]bool{}, requested: map[string]time.Time{}, silent: map[*service]bool{}, lost: map[lostKey]bool{}, peersUp: map[string]bool{}, configs: map[string]map[signalbox.Service]configDigest{},
		attested: map[signalbox.Digest]*signalbox.Mandate{},
		gathered: map[string]*gathering{}, fencings: map[fenceKey]*fencing{},
		proxies: map[string]map[string]*proxyView{}, busy: map[*service]bool{},
		rumours: make(chan delayed, maxInbox), several: severalOthers(&opt), news: map[*instance]bool{},
	}
	for _, s := range opt.Services {
		c.services[s.Name] = &service{
			conf: s, instances: map[signalbox.Identity]*instance{}, records: map[signalbox.Digest]*record{},
			admitting: map[signalbox.Identity]time.Time{}, leaves: map[signalbox.Identity]signalbox.Evidence{},
			removing: map[signalbox.Identity]time.Time{},
			closed:   map[string]*api.Handover{},
			machine: handover.NewMachine(handover.Options{
				Service: s.Name, Gateway: opt.Gateway, DataCenter: opt.DataCenter, Peers: opt.Peers,
			}),
		}
	}
	c.began = opt.Now()
	for _, s := range c.services {
		if s.conf.Automatic > 0 {
			s.silence = handover.NewSilenceWatch(opt.Voting().Voters, opt.Voting().Quorum, s.conf.Automatic)
		}
	}
	return c, c.loadIncarnations()
}

// The clock of the owner: often while a handover is open or a master's silence
// is watched, else seldom.
const (
	tickBusy  = 5 * time.Millisecond
	tickWatch = 50 * time.Millisecond
	tickIdle  = 500 * time.Millisecond
)

// Run owns the state until ctx ends, and waits for what it started.
func (c *Coordinator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.ctx = ctx
	c.inflight.Go(func() { c.writeDisk(ctx) })
	c.inflight.Go(func() { c.tellGossip(ctx) })
	defer c.inflight.Wait()
	// Before that wait: whoever posts to a full inbox now would never get in.
	defer close(c.done)
	defer cancel()
	if err := c.load(); err != nil {
		return err
	}
	due := c.opt.Now().Add(tickIdle)
	timer := time.NewTimer(tickIdle)
	defer timer.Stop()
	for {
		changed := c.opt.Journal.Changed()
		c.applyLog()
		select {
		case <-ctx.Done():
			return nil
		case f := <-c.inbox:
			f()
			c.drainInbox()
		case <-changed:
		case <-timer.C:
			c.tick()
			due = c.opt.Now().Add(c.nextTick())
			timer.Reset(c.nextTick())
		}
		// A handover that opened meanwhile is looked at sooner.
		if soon := c.opt.Now().Add(c.nextTick()); soon.Before(due) {
			due = soon
			timer.Reset(c.nextTick())
		}
	}
}

// drainInbox takes what else is waiting, so that a burst costs one look at the log.
func (c *Coordinator) drainInbox() {
	for range 256 {
		select {
		case f := <-c.inbox:
			f()
		default:
			return
		}
	}
}

func (c *Coordinator) nextTick() time.Duration {
	if len(c.busy) > 0 || len(c.news) > 0 || len(c.unhurried) > 0 {
		return tickBusy
	}
	if len(c.silent) > 0 {
		return tickWatch
	}
	return tickIdle
}

func (c *Coordinator) tick() {
	c.tellNews()
	c.tellUnhurried()
	for s := range c.busy {
		c.lookAgain(s)
		c.step(s, handover.Tick{})
		c.sayWaiting(s)
	}
	now := c.opt.Now()
	if now.Sub(c.kept) >= tickIdle {
		c.kept, c.watched = now, now
		c.housekeeping()
	}
	if now.Sub(c.watched) >= tickWatch {
		c.watched = now
		for s := range c.silent {
			c.watchSilence(s)
		}
	}
}

// post has f run by the owner. It returns false when the coordinator ended.
func (c *Coordinator) post(f func()) bool {
	select {
	case c.inbox <- f:
		return true
	case <-c.done:
		return false
	}
}

// ask runs f by the owner and waits for it.
func (c *Coordinator) ask(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case c.inbox <- func() { f(); close(ran) }:
	case <-c.done:
		return signalbox.ErrUnavailable
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ran:
		return nil
	case <-c.done:
		return signalbox.ErrUnavailable
	}
}

// background runs f on its own goroutine, ended with the coordinator.
func (c *Coordinator) background(f func(ctx context.Context)) {
	c.inflight.Go(func() { f(c.ctx) })
}

// writeDisk carries out writes that nothing waits for, one after the other.
func (c *Coordinator) writeDisk(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			c.drainDisk()
			return
		case f := <-c.disk:
			// Nobody waits for it, but for the disk others may.
			sleep(ctx, diskAfter)
			f()
			c.drainDisk()
		}
	}
}

// diskAfter is for how long writes that nothing waits for are gathered.
const diskAfter = 100 * time.Millisecond

// drainDisk carries out what waits.
func (c *Coordinator) drainDisk() {
	for {
		select {
		case f := <-c.disk:
			f()
		default:
			return
		}
	}
}

// later queues a write that can be made again after a crash from what others
// hold: agents keep their answers, the log keeps outcomes.
func (c *Coordinator) later(f func() error) {
	select {
	case c.disk <- func() {
		if err := f(); err != nil {
			c.opt.Logger.Error().Err(err).Msg("write to the journal failed")
		}
	}:
	default:
		c.opt.Logger.Warn().Msg("the disk does not keep up; a note is not kept")
	}
}
