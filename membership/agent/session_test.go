package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// gateway is a gateway as an agent sees it, over mutual TLS, with every voter's
// answer at hand.
type gateway struct {
	wire.UnimplementedAgentsServer
	t      *testing.T
	w      *world
	keeper *rpc.Keeper
	frames chan *wire.AgentFrame
	// authority and bundle are for rotating the agent's bundle.
	authority *identity.Authority
	bundle    string

	mu     sync.Mutex
	stream wire.Agents_SessionServer
	newest *signalbox.DecidedBlock
	mute   bool // answers no questions
}

func (g *gateway) Session(stream wire.Agents_SessionServer) error {
	if p, err := rpc.PrincipalFrom(stream.Context()); err != nil || p.Role != rpc.RoleAgent {
		return fmt.Errorf("not an agent: %w", err)
	}
	g.mu.Lock()
	g.stream = stream
	g.mu.Unlock()
	for {
		f, err := stream.Recv()
		if err != nil {
			return nil
		}
		if q := f.GetQuestion(); q != nil {
			g.answer(q)
			continue
		}
		select {
		case g.frames <- f:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (g *gateway) answer(q *wire.Question) {
	g.mu.Lock()
	mute, newest := g.mute, g.newest
	g.mu.Unlock()
	id, err := rpc.IdentityFromBytes(q.GetIdentity())
	if err != nil || mute {
		return
	}
	for v := range g.w.voters {
		g.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Answer{Answer: g.w.answer(v, id, q.GetNonce(), newest)}})
	}
}

func (g *gateway) send(f *wire.GatewayFrame) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.stream.Send(f); err != nil {
		g.t.Logf("send: %v", err)
	}
}

func (g *gateway) grant(cert []byte, admission []byte) {
	g.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Grant{Grant: &wire.Grant{Service: "orders", Certificate: cert, Admission: admission}}})
}

func (g *gateway) order(kind wire.OrderKind, block *signalbox.DecidedBlock) {
	g.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Order{Order: &wire.Order{Kind: kind, Service: "orders", Decided: block.Raw}}})
}

// await reads frames until one is what is looked for.
func (g *gateway) await(what string, is func(*wire.AgentFrame) bool) *wire.AgentFrame {
	g.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case f := <-g.frames:
			if is(f) {
				return f
			}
		case <-limit:
			g.t.Fatalf("no %s came", what)
		}
	}
}

func (g *gateway) awaitState(state string) {
	g.t.Helper()
	g.await("state "+state, func(f *wire.AgentFrame) bool { return f.GetStatus().GetState() == state })
}

func (g *gateway) awaitSaid(name string, kind signalbox.StatementKind) signalbox.Statement {
	g.t.Helper()
	var s signalbox.Statement
	g.await(kind.String(), func(f *wire.AgentFrame) bool {
		if f.GetStatement() == nil {
			return false
		}
		s = g.w.open(name, f.GetStatement())
		return s.Kind == kind
	})
	return s
}

// listen serves on an address until the test ends or stop is called.
func (g *gateway) listen(address string) (string, func()) {
	lis, err := net.Listen("tcp", address)
	if err != nil {
		g.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(g.keeper.Server())))
	wire.RegisterAgentsServer(server, g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(lis)
	}()
	var once sync.Once
	stop := func() { once.Do(func() { server.Stop(); <-done }) }
	g.t.Cleanup(stop)
	return lis.Addr().String(), stop
}

// newGateway makes a cluster's identities and starts a gateway of east.
func newGateway(t *testing.T) (*gateway, Options, func()) {
	t.Helper()
	authority, err := identity.Init(filepath.Join(t.TempDir(), "keys"), identity.Spec{
		Cluster:     testCluster,
		DataCenters: []identity.DataCenter{{Name: "east", Gateways: []identity.Gateway{identity.GatewayAt("east-1", "127.0.0.1", 7400)}}},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keeper := func(role rpc.Role, name string) (*rpc.Keeper, string) {
		p := rpc.Principal{Cluster: testCluster, Role: role, DataCenter: "east", Name: name}
		dir := authority.BundleDir(p)
		if role == rpc.RoleAgent {
			dir = filepath.Join(t.TempDir(), "bundle")
			if err := authority.Issue(p, dir, identity.IssueOptions{Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
		b, err := identity.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		k, err := b.Keeper()
		if err != nil {
			t.Fatal(err)
		}
		return k, dir
	}
	w := newWorld(t, 3, 2)
	g := &gateway{t: t, w: w, frames: make(chan *wire.AgentFrame, 1024)}
	g.keeper, _ = keeper(rpc.RoleGateway, "east-1")
	address, stop := g.listen("127.0.0.1:0")
	_, bundle := keeper(rpc.RoleAgent, "host-1")
	g.authority, g.bundle = authority, bundle
	opts, err := LoadOptions(bundle)
	if err != nil {
		t.Fatal(err)
	}
	opts.Trust, opts.VoterKeys, opts.Quorum = w.trust, w.voterKeys(), 2
	opts.Gateways = []string{address}
	opts.Registerer = prometheus.NewPedanticRegistry()
	opts.Instances = []Instance{{Service: "orders", Name: "a", Address: "127.0.0.1:80"}}
	return g, opts, stop
}

// begin runs an agent; its instance's key becomes the world's key of "a".
func begin(t *testing.T, g *gateway, opts Options) (*Agent, http.Handler) {
	t.Helper()
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	g.w.keys["a"] = a.runners[0].store.key
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return a, a.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, TermFrom(r)) }))
}

func request(h http.Handler, term string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(signalbox.HeaderTerm, term)
	h.ServeHTTP(w, r)
	return w
}

// One handover there and back by fallback, over real sockets: hello, adoption,
// drain, ack, a straggler parked and served at the fallback, the gateway's death
// between, the orderly stop.
func TestSessionHandover(t *testing.T) {
	g, opts, stop := newGateway(t)
	a, h := begin(t, g, opts)
	hello := g.await("hello", func(f *wire.AgentFrame) bool { return f.GetHello() != nil }).GetHello()
	in, agent, err := rpc.OpenEnrollment(testCluster, g.keeper.Roots(), hello.GetEnrollment())
	if err != nil || in.Name != "a" || agent.Name != "host-1" || hello.GetIncarnation() != 1 || in.Identity != g.w.id("a") {
		t.Fatalf("hello %+v of %v, %v", in, agent, err)
	}
	if w := request(h, "1"); w.Code != 503 {
		t.Fatalf("a new instance serves: %d", w.Code)
	}
	adopted, cert := g.w.adopt("a")
	g.grant(cert, nil)
	if s := g.awaitSaid("a", signalbox.SaysServing); s.Term != 1 || s.Address != "127.0.0.1:80" {
		t.Fatalf("said %+v", s)
	}
	if w := request(h, "1"); w.Code != 200 || w.Body.String() != "1" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}

	block := g.w.handover(8, "east", "west", []string{"x"}, g.w.entry("a", "east", adopted.Index))
	g.order(drainOrder, block)
	g.awaitSaid("a", signalbox.SaysDrained)
	straggler := make(chan *httptest.ResponseRecorder, 1)
	go func() { straggler <- request(h, "1") }()
	g.order(ackOrder, block)
	g.awaitSaid("a", signalbox.SaysAck)

	// The gateway dies; the agent comes back to it and repeats its answer.
	stop()
	g.listen(opts.Gateways[0])
	g.await("hello", func(f *wire.AgentFrame) bool { return f.GetHello() != nil })
	g.awaitSaid("a", signalbox.SaysAck)
	superseding := g.w.request(10, "west", "east", []string{"a"})
	superseding.Fallback = 0
	g.grant(g.w.certify(g.w.decide(signalbox.Request{Handover: superseding}), false), nil)
	if w := <-straggler; w.Code != 200 || w.Body.String() != "10" {
		t.Fatalf("the straggler got %d %s", w.Code, w.Body)
	}

	g.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Ping{Ping: &wire.Ping{Ping: 7}}})
	g.await("pong", func(f *wire.AgentFrame) bool { return f.GetPong().GetPing() == 7 })
	g.await("status", func(f *wire.AgentFrame) bool { return f.GetStatus().GetPing() == 7 })
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := g.awaitSaid("a", signalbox.SaysLeave); s.Term != 8 {
		t.Fatalf("said %+v", s)
	}
	g.awaitState(StateLeft)
}

// A gateway that demands a new key gets one, with a new incarnation, in a new
// session; the agent of another run keeps it.
func TestSessionNewKey(t *testing.T) {
	g, opts, _ := newGateway(t)
	a, _ := begin(t, g, opts)
	g.await("hello", func(f *wire.AgentFrame) bool { return f.GetHello() != nil })
	before := a.runners[0].identity()
	g.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Refusal{Refusal: &wire.Refusal{
		Identity: rpc.IdentityToBytes(before), Problem: "a higher incarnation was seen", NewKey: true,
	}}})
	hello := g.await("hello", func(f *wire.AgentFrame) bool { return f.GetHello() != nil }).GetHello()
	in, err := rpc.EnrolledInstance(testCluster, hello.GetEnrollment())
	if err != nil || in.Identity == before {
		t.Fatalf("introduced itself as %s again, %v", in.Identity, err)
	}
}

// Rubbish from a gateway is refused, counted and survived.
func TestSessionRubbish(t *testing.T) {
	g, opts, _ := newGateway(t)
	begin(t, g, opts)
	g.await("hello", func(f *wire.AgentFrame) bool { return f.GetHello() != nil })
	for _, f := range []*wire.GatewayFrame{
		{},
		{Kind: &wire.GatewayFrame_Answer{Answer: []byte("x")}},
		{Kind: &wire.GatewayFrame_Grant{Grant: &wire.Grant{Service: "orders", Certificate: []byte("x"), Admission: []byte("y")}}},
		{Kind: &wire.GatewayFrame_Order{Order: &wire.Order{Service: "orders", Kind: 9}}},
		{Kind: &wire.GatewayFrame_Order{Order: &wire.Order{Service: "orders", Kind: drainOrder, Decided: []byte("x")}}},
		{Kind: &wire.GatewayFrame_Refusal{Refusal: &wire.Refusal{Identity: []byte("x")}}},
	} {
		g.send(f)
	}
	g.send(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Ping{Ping: &wire.Ping{Ping: 7}}})
	g.await("status", func(f *wire.AgentFrame) bool { return f.GetStatus().GetPing() == 7 })
}
