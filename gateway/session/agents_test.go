package session

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for !ok() {
		select {
		case <-pace.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// book is a Handler that writes down who is there.
type book struct {
	mu      sync.Mutex
	here    map[signalbox.Identity]int // hellos less goings
	hellos  int
	refuses map[uint64]error // by incarnation
	stall   chan struct{}    // hellos wait for it, when set
	refused map[string]int
}

func newBook() *book {
	return &book{here: map[signalbox.Identity]int{}, refuses: map[uint64]error{}, refused: map[string]int{}}
}

func (b *book) AgentHello(in signalbox.Instance, h *wire.Hello) error {
	b.mu.Lock()
	stall, err := b.stall, b.refuses[h.GetIncarnation()]
	b.mu.Unlock()
	if stall != nil {
		<-stall
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.here[in.Identity] = 1
	b.hellos++
	return nil
}

func (b *book) AgentGone(id signalbox.Identity) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.here[id] = 0
}

func (b *book) AgentFrame(signalbox.Identity, *wire.AgentFrame) {}

func (b *book) PeerUp(string) []*wire.PeerFrame   { return nil }
func (b *book) PeerDown(string)                   {}
func (b *book) PeerFrame(string, *wire.PeerFrame) {}
func (b *book) present(id signalbox.Identity) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.here[id] == 1
}
func (b *book) countRefused(reason string) { b.mu.Lock(); defer b.mu.Unlock(); b.refused[reason]++ }
func (b *book) timesRefused(reason string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused[reason]
}
func (b *book) refuse(incarnation uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses[incarnation] = err
}

// rig is the agents' side of a gateway over mutual TLS, and an agent's
// certificate.
type rig struct {
	t      *testing.T
	book   *book
	agents *Agents
	server *grpc.Server
	keeper *rpc.Keeper
	addr   string
	key    ed25519.PrivateKey
	in     signalbox.Instance
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	authority, err := identity.Init(filepath.Join(dir, "keys"), identity.Spec{Cluster: "test", DataCenters: []identity.DataCenter{
		{Name: "east", Gateways: []identity.Gateway{identity.GatewayAt("east-1", "127.0.0.1", 7400)}},
	}}, time.Now())
	must(t, err)
	keeperOf := func(p rpc.Principal) *rpc.Keeper {
		out := authority.BundleDir(p)
		if p.Role != rpc.RoleGateway {
			must(t, authority.Issue(p, out, identity.IssueOptions{Now: time.Now()}))
		}
		b, err := identity.Load(out)
		must(t, err)
		k, err := b.Keeper()
		must(t, err)
		return k
	}
	r := &rig{t: t, book: newBook()}
	gateway := keeperOf(rpc.Principal{Cluster: "test", Role: rpc.RoleGateway, DataCenter: "east", Name: "east-1"})
	r.keeper = keeperOf(rpc.Principal{Cluster: "test", Role: rpc.RoleAgent, DataCenter: "east", Name: "e1"})
	r.agents = NewAgents(AgentsOptions{
		Cluster: "test", DataCenter: "east", Gateway: "east-1", Handler: r.book, Logger: zerolog.Nop(), Refused: r.book.countRefused,
		Roots: func() *x509.CertPool { return gateway.Roots() }, Ask: func(context.Context, *wire.Question, func([]byte)) {},
	})
	r.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(gateway.Server())), grpc.MaxRecvMsgSize(rpc.MaxMessage))
	wire.RegisterAgentsServer(r.server, r.agents)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r.addr = l.Addr().String()
	go func() { _ = r.server.Serve(l) }()
	t.Cleanup(r.server.Stop)
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	r.key, r.in = private, signalbox.Instance{Service: "orders", DataCenter: "east", Name: "e1", Identity: rpc.IdentityOf(public), PublicKey: public}
	return r
}

// session opens a stream of its own and says hello.
func (r *rig) session(incarnation uint64) (wire.Agents_SessionClient, context.CancelFunc) {
	r.t.Helper()
	conn, err := grpc.NewClient(r.addr, grpc.WithTransportCredentials(credentials.NewTLS(r.keeper.Client(rpc.RoleGateway))))
	must(r.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience) // whoever waits gives up first
	r.t.Cleanup(func() { cancel(); _ = conn.Close() })
	stream, err := wire.NewAgentsClient(conn).Session(ctx)
	must(r.t, err)
	r.hello(stream, incarnation)
	return stream, cancel
}

func (r *rig) hello(stream wire.Agents_SessionClient, incarnation uint64) {
	r.t.Helper()
	proof, err := rpc.SealEnrollment("test", r.in, time.Now(), r.key, r.keeper.Certificate())
	must(r.t, err)
	must(r.t, stream.Send(&wire.AgentFrame{Kind: &wire.AgentFrame_Hello{Hello: &wire.Hello{Enrollment: proof, Incarnation: incarnation}}}))
}

func (r *rig) awaitPresent(want bool) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("the instance to be here: %v", want), func() bool { return r.book.present(r.in.Identity) == want })
}

// TestFullQueueEndsTheSession: an agent that does not read loses its session,
// holds nobody up and is told as gone; it may start over.
func TestFullQueueEndsTheSession(t *testing.T) {
	r := newRig(t)
	stream, _ := r.session(1)
	r.awaitPresent(true)
	frame := &wire.GatewayFrame{Kind: &wire.GatewayFrame_Answer{Answer: make([]byte, 64<<10)}}
	sent := 0
	for r.agents.Send(r.in.Identity, frame) {
		if sent++; sent > 100*MaxQueue {
			t.Fatal("the queue has no end")
		}
	}
	r.awaitPresent(false)
	for err := error(nil); err == nil; {
		_, err = stream.Recv()
	}
	r.session(1)
	r.awaitPresent(true)
}

// TestNewerSessionReplaces: an agent that connects again before its old stream
// broke is not gone when that one breaks.
func TestNewerSessionReplaces(t *testing.T) {
	r := newRig(t)
	old, _ := r.session(1)
	r.awaitPresent(true)
	r.session(2)
	for err := error(nil); err == nil; { // the gateway ends the old one
		_, err = old.Recv()
	}
	if !r.book.present(r.in.Identity) || !r.agents.Send(r.in.Identity, &wire.GatewayFrame{}) {
		t.Error("the newer session was lost with the older one")
	}
}

// TestOldCopyDoesNotReplace: an old copy of an agent that is refused neither
// takes the session of the newer one nor ends it; it is told to make a new key
// (rule 8).
func TestOldCopyDoesNotReplace(t *testing.T) {
	r := newRig(t)
	r.book.refuse(1, fmt.Errorf("%w: incarnation 2 was seen", ErrRolledBack))
	current, cancel := r.session(2)
	r.awaitPresent(true)
	copied, _ := r.session(1)
	for {
		f, err := copied.Recv()
		must(t, err)
		if refusal := f.GetRefusal(); refusal != nil {
			if !refusal.GetNewKey() {
				t.Error("the old copy is not told to make a new key")
			}
			break
		}
	}
	if !r.agents.Send(r.in.Identity, &wire.GatewayFrame{Kind: &wire.GatewayFrame_Ping{Ping: &wire.Ping{Ping: 7}}}) {
		t.Fatal("nobody has the session")
	}
	for {
		f, err := current.Recv()
		must(t, err)
		if f.GetPing().GetPing() == 7 {
			break
		}
	}
	cancel()
	r.awaitPresent(false)
	if n := r.book.timesRefused("enrollment"); n != 1 {
		t.Errorf("%d refusals counted", n)
	}
}

// TestHelloOfAnEndedSession: a hello that is handled while its session ends does
// not leave the instance here without a session.
func TestHelloOfAnEndedSession(t *testing.T) {
	r := newRig(t)
	stall := make(chan struct{})
	r.book.mu.Lock()
	r.book.stall = stall
	r.book.mu.Unlock()
	stream, cancel := r.session(1)
	_, err := stream.Recv() // welcomed: the hello is next
	must(t, err)
	eventually(t, "the hello to be handled", func() bool { return r.agents.Send(r.in.Identity, &wire.GatewayFrame{}) })
	cancel() // the session ends while its hello is with the handler
	r.agents.mu.Lock()
	ending := r.agents.sessions[r.in.Identity]
	r.agents.mu.Unlock()
	eventually(t, "nothing to be sent any more", func() bool {
		ending.send(&wire.GatewayFrame{})
		return len(ending.out) > MaxQueue/2
	})
	close(stall)
	eventually(t, "the hello to be over and the session to be forgotten", func() bool {
		r.book.mu.Lock()
		over := r.book.hellos == 1
		r.book.mu.Unlock()
		r.agents.mu.Lock()
		defer r.agents.mu.Unlock()
		return over && r.agents.count == 0
	})
	r.awaitPresent(false)
	if r.agents.Send(r.in.Identity, &wire.GatewayFrame{}) {
		t.Error("a session that ended takes frames")
	}
}

// TestSendAllOnce: an agent with many instances is told once.
func TestSendAllOnce(t *testing.T) {
	r := newRig(t)
	stream, _ := r.session(1)
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	r.awaitPresent(true)
	r.key, r.in = private, signalbox.Instance{Service: "orders", DataCenter: "east", Name: "e2", Identity: rpc.IdentityOf(public), PublicKey: public}
	r.hello(stream, 1)
	r.awaitPresent(true)
	r.agents.SendAll(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Ping{Ping: &wire.Ping{Ping: 1}}})
	r.agents.SendAll(&wire.GatewayFrame{Kind: &wire.GatewayFrame_Ping{Ping: &wire.Ping{Ping: 2}}})
	var pings []uint64
	for len(pings) == 0 || pings[len(pings)-1] != 2 {
		f, err := stream.Recv()
		must(t, err)
		if p := f.GetPing(); p != nil {
			pings = append(pings, p.GetPing())
		}
	}
	if len(pings) != 2 {
		t.Errorf("pings %v", pings)
	}
}

// TestTooManyInstances: an agent speaks for so many instances and no more.
func TestTooManyInstances(t *testing.T) {
	r := newRig(t)
	stream, _ := r.session(1)
	for range MaxInstances {
		public, private, err := ed25519.GenerateKey(nil)
		must(t, err)
		r.key, r.in.Identity, r.in.PublicKey = private, rpc.IdentityOf(public), public
		r.hello(stream, 1)
	}
	eventually(t, "one to be refused", func() bool { return r.book.timesRefused("enrollment") == 1 })
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	if len(r.book.here) != MaxInstances {
		t.Errorf("%d instances", len(r.book.here))
	}
}

// TestEndOfStreamIsNoError: an agent that ends its session in an orderly way is
// answered in kind.
func TestEndOfStreamIsNoError(t *testing.T) {
	r := newRig(t)
	stream, _ := r.session(1)
	r.awaitPresent(true)
	must(t, stream.CloseSend())
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	if code := status.Code(err); code != codes.Unknown || err.Error() != "EOF" {
		t.Errorf("the stream ended with %v", err)
	}
	r.awaitPresent(false)
}
