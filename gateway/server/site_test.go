package server

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/membership/agent"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/ports"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// patience bounds every wait for something that must happen; each ends with
// its condition.
const patience = 3 * time.Minute

const (
	testCluster = "test"
	orders      = signalbox.Service("orders")
	east        = signalbox.DataCenter("east")
	west        = signalbox.DataCenter("west")
)

// gatewayNames in the order of the cluster's description; the first one votes.
var gatewayNames = []string{"east-1", "east-2", "west-1", "west-2"}

// keys are the cluster's, made once for all tests: the ports differ, and are
// given beside the bundles.
var keys struct {
	once sync.Once
	dir  string
	err  error
	mu   sync.Mutex // an authority is used by one at a time
	*identity.Authority
}

func TestMain(m *testing.M) {
	code := m.Run()
	if keys.dir != "" {
		_ = os.RemoveAll(keys.dir)
	}
	os.Exit(code)
}

func authority(t testing.TB) {
	t.Helper()
	keys.once.Do(makeKeys)
	must(t, keys.err)
}

// makeKeys makes the keys that all tests share; TestMain removes them.
func makeKeys() {
	if keys.dir, keys.err = os.MkdirTemp("", "signalbox-server-"); keys.err != nil {
		return
	}
	spec := identity.Spec{Cluster: testCluster}
	for _, dc := range []signalbox.DataCenter{east, west} {
		spec.DataCenters = append(spec.DataCenters, identity.DataCenter{Name: dc, Gateways: []identity.Gateway{
			identity.GatewayAt(string(dc)+"-1", "127.0.0.1", 7400), identity.GatewayAt(string(dc)+"-2", "127.0.0.1", 7410),
		}})
	}
	if keys.Authority, keys.err = identity.Init(filepath.Join(keys.dir, "keys"), spec, time.Now()); keys.err == nil {
		keys.err = makeOperator()
	}
}

// makeOperator makes an operator whose key every bundle's description names.
func makeOperator() error {
	p := rpc.Principal{Cluster: testCluster, Role: rpc.RoleOperator, Name: "ada"}
	if err := keys.Issue(p, keys.BundleDir(p), identity.IssueOptions{Now: time.Now()}); err != nil {
		return err
	}
	for _, name := range gatewayNames {
		dc, _, _ := strings.Cut(name, "-")
		g := rpc.Principal{Cluster: testCluster, Role: rpc.RoleGateway, DataCenter: signalbox.DataCenter(dc), Name: name}
		if err := keys.Rotate(keys.BundleDir(g), identity.IssueOptions{Now: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// bundle returns a principal's bundle, made when it is not there yet.
func bundle(t testing.TB, p rpc.Principal) string {
	t.Helper()
	authority(t)
	p.Cluster = testCluster
	keys.mu.Lock()
	defer keys.mu.Unlock()
	dir := keys.BundleDir(p)
	if _, err := os.Stat(dir); err != nil {
		must(t, keys.Issue(p, dir, identity.IssueOptions{Now: time.Now()}))
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a cluster of four gateways in this process, with agents whose
// instances are made up.
type site struct {
	t        *testing.T
	dir      string
	cluster  *identity.Cluster
	services []coordinator.Service
	gateways map[string]*node
	agents   map[string]*agentNode
	judge    *judge
	logs     *logs
	// wrap stands between a gateway's sessions and its coordinator.
	wrap func(gateway string, h session.Handler) session.Handler
	// noGossip keeps everybody out of the pools.
	noGossip bool
	switches atomic.Int32
	// own is the authority of a site with voters of its own; nil: all share one.
	own *identity.Authority
	// council stands between a gateway's sessions and its voter.
	council func(gateway string, c session.Council) session.Council
	// fits says whether a gateway's configuration fits voters; nil: it does.
	fits func(signalbox.VoterSet) error
	// viewTimeout is the agreement's; zero: the default.
	viewTimeout time.Duration
	// unreachableTimeout is the same for a view whose leader cannot be reached.
	unreachableTimeout time.Duration
	// snapshotBlocks is after how many blocks a snapshot is due; zero: the default.
	snapshotBlocks uint64
	// enrolled counts the instances that are in the log only.
	enrolled int
}

// newSite lays a site out; nothing runs yet.
func newSite(t *testing.T, change ...func(*site)) *site {
	t.Helper()
	authority(t)
	s := &site{
		t: t, dir: stateDir(t), gateways: map[string]*node{}, agents: map[string]*agentNode{}, judge: &judge{t: t, open: map[string]opening{}}, logs: &logs{},
		services: []coordinator.Service{{
			Name: orders, Protocol: resource.HTTP, HoldBudget: 5 * time.Second, HoldTimeout: 30 * time.Second,
			DataCenters: []signalbox.DataCenter{east, west},
		}},
	}
	block, err := ports.Take()
	must(t, err)
	t.Cleanup(block.Close) // after the gateways have stopped
	cluster := *keys.Cluster()
	cluster.DataCenters = nil
	for _, dc := range keys.Cluster().DataCenters {
		moved := identity.DataCenter{Name: dc.Name}
		for _, g := range dc.Gateways {
			for _, address := range g.Addresses() {
				port, err := block.Ports(1)
				must(t, err)
				*address = fmt.Sprintf("127.0.0.1:%d", port)
			}
			moved.Gateways = append(moved.Gateways, g)
		}
		cluster.DataCenters = append(cluster.DataCenters, moved)
	}
	s.cluster = &cluster
	for _, f := range change {
		f(s)
	}
	t.Cleanup(func() {
		s.stopAll()
		if t.Failed() {
			t.Logf("the site's log:\n%s", s.logs)
		}
	})
	return s
}

func inMemory() (string, error) { return os.MkdirTemp("/dev/shm", "signalbox-server-") }

// stateDir is a directory in memory where there is such a thing: what is tested
// here is not how long a busy disk takes.
func stateDir(t testing.TB) string {
	dir, err := inMemory()
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// run starts all gateways and two instances in each data center, and adopts
// the service in the east.
func (s *site) run() *site {
	s.t.Helper()
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	for _, name := range []string{"e1", "e2", "w1", "w2"} {
		s.startAgent(name)
	}
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	s.adopt()
	return s
}

func (s *site) stopAll() {
	var wg sync.WaitGroup
	for _, a := range s.agents {
		wg.Go(a.kill)
	}
	wg.Wait()
	for _, g := range s.gateways {
		wg.Go(g.stop)
	}
	wg.Wait()
}

// node is a gateway that runs or was stopped.
type node struct {
	s    *site
	name string
	*Server
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (s *site) startGateway(name string) *node {
	s.t.Helper()
	where, dc, _ := s.cluster.Gateway(name)
	b, err := identity.Load(s.bundle(rpc.Principal{Role: rpc.RoleGateway, DataCenter: dc, Name: name}))
	must(s.t, err)
	state := filepath.Join(s.dir, "gateways", name)
	must(s.t, os.MkdirAll(state, 0o700))
	listen := Listen{
		RPC: where.RPC, XDS: where.XDS, API: where.API, GossipLAN: where.GossipLAN, GossipWAN: where.GossipWAN,
		Metrics: where.Metrics, Parking: where.Parking,
	}
	if s.noGossip {
		listen.GossipLAN, listen.GossipWAN = "", ""
	}
	opt := Options{
		Bundle: b, Cluster: s.cluster, State: state, Listen: listen, Services: s.services, Version: "test",
		Logger: zerolog.New(s.logs).With().Timestamp().Str("g", name).Logger(), agreementTimeout: s.viewTimeout,
		unreachableTimeout: s.unreachableTimeout, CheckVoters: s.fits, snapshotBlocks: s.snapshotBlocks,
		AgreementTimeout: 30 * time.Second, // the default is for machines that are not busy
	}
	if s.wrap != nil {
		opt.wrap = func(h session.Handler) session.Handler { return s.wrap(name, h) }
	}
	if s.council != nil {
		opt.wrapCouncil = func(c session.Council) session.Council { return s.council(name, c) }
	}
	n := &node{s: s, name: name, done: make(chan struct{})}
	n.Server, err = New(opt)
	must(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		n.err = n.Run(ctx)
		close(n.done)
	}()
	s.gateways[name] = n
	return n
}

// stop ends the gateway and waits for all of it.
func (n *node) stop() {
	n.cancel()
	select {
	case <-n.done:
		if n.err != nil {
			n.s.t.Errorf("gateway %s ended with: %v", n.name, n.err)
		}
	case <-time.After(patience):
		n.s.t.Errorf("gateway %s does not end", n.name)
	}
}

// restart stops gateways, all before the first starts again.
func (s *site) restart(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.gateways[name].stop()
	}
	for _, name := range names {
		s.startGateway(name)
	}
}

func dataCenterOf(instance string) signalbox.DataCenter {
	if strings.HasPrefix(instance, "e") {
		return east
	}
	return west
}

// agentNode is an agent with one instance; the instance outlives the agent.
type agentNode struct {
	s      *site
	name   string
	in     *instance
	agent  *agent.Agent
	cancel context.CancelFunc
	done   chan struct{}
}

func (s *site) startAgent(name string, change ...func(*agent.Options)) *agentNode {
	s.t.Helper()
	dc := dataCenterOf(name)
	a := &agentNode{s: s, name: name, done: make(chan struct{})}
	if before := s.agents[name]; before != nil {
		a.in = before.in
	} else {
		a.in = newInstance(s.judge, name, dc)
	}
	opts, err := agent.LoadOptions(s.bundle(rpc.Principal{Role: rpc.RoleAgent, DataCenter: dc, Name: name}))
	must(s.t, err)
	opts.Gateways, opts.GossipPool.Seeds = nil, nil
	for _, g := range s.cluster.Gateways(dc) {
		opts.Gateways = append(opts.Gateways, g.RPC)
		opts.GossipPool.Seeds = append(opts.GossipPool.Seeds, g.GossipLAN)
	}
	if !s.noGossip {
		opts.GossipPool.Listen = "127.0.0.1:0"
	}
	opts.StateDir = s.agentState(name)
	opts.Log = zerolog.New(s.logs).With().Timestamp().Str("a", name).Logger()
	opts.Instances = []agent.Instance{{Service: orders, Name: name, Address: a.in.address, Driver: a.in, DriverName: "fake"}}
	for _, f := range change {
		f(&opts)
	}
	a.agent, err = agent.New(opts)
	must(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() {
		_ = a.agent.Run(ctx)
		close(a.done)
	}()
	s.agents[name] = a
	return a
}

func (s *site) agentState(name string) string { return filepath.Join(s.dir, "agents", name) }

// kill ends the agent as a crash would: nothing is said any more.
func (a *agentNode) kill() {
	a.cancel()
	select {
	case <-a.done:
	case <-time.After(patience):
		a.s.t.Errorf("agent %s does not end", a.name)
	}
}

// logs keeps what everybody logged, for failures and for tests of what must be
// logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxLogs = 1 << 20

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > maxLogs {
		l.buf.Next(maxLogs / 2)
	}
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// eventually polls a condition that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for !ok() {
		select {
		case <-pace.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
