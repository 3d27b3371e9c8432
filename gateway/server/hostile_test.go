package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// stranger is a connection to a gateway's rpc port with some bundle.
type stranger struct {
	t      *testing.T
	keeper *rpc.Keeper
	conn   *grpc.ClientConn
}

func (s *site) stranger(bundleDir, gateway string) *stranger {
	s.t.Helper()
	b, err := identity.Load(bundleDir)
	must(s.t, err)
	keeper, err := b.Keeper()
	must(s.t, err)
	config := keeper.Client("")
	config.VerifyConnection = nil // it does not care whom it talks to
	where, _, _ := s.cluster.Gateway(gateway)
	conn, err := grpc.NewClient(where.RPC, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	must(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return &stranger{s.t, keeper, conn}
}

func (x *stranger) agentSession() wire.Agents_SessionClient {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	x.t.Cleanup(cancel)
	stream, err := wire.NewAgentsClient(x.conn).Session(ctx)
	must(x.t, err)
	return stream
}

// tries opens a session and returns how it ended.
func (x *stranger) tries() codes.Code {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := wire.NewAgentsClient(x.conn).Session(ctx)
	if err != nil {
		return status.Code(err)
	}
	return ended(x.t, stream.Recv)
}

// ended returns how a stream ended.
func ended[T any](t *testing.T, recv func() (T, error)) codes.Code {
	t.Helper()
	for {
		if _, err := recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return codes.OK
			}
			return status.Code(err)
		}
	}
}

// refused waits until a refusal was counted and logged.
func (s *site) refused(metric, reason, logged string) {
	s.t.Helper()
	eventually(s.t, "a refusal to be counted: "+reason, func() bool { return s.counted(metric, reason) > 0 })
	eventually(s.t, "the refusal to be logged: "+logged, func() bool { return strings.Contains(s.logs.String(), logged) })
}

// otherCluster makes an agent's bundle of a cluster with the same names and
// another CA.
func otherCluster(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	a, err := identity.Init(filepath.Join(dir, "keys"), identity.Spec{Cluster: name, DataCenters: keys.Cluster().DataCenters}, time.Now())
	must(t, err)
	out := filepath.Join(dir, "bundle")
	must(t, a.Issue(rpc.Principal{Cluster: name, Role: rpc.RoleAgent, DataCenter: east, Name: "e9"}, out, identity.IssueOptions{Now: time.Now()}))
	return out
}

// TestStrangers: whoever has the wrong certificate for a port or a name is
// refused, counted and logged; the cluster goes on.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()

	for _, cluster := range []string{testCluster, "another"} {
		if code := s.stranger(otherCluster(t, cluster), "east-1").tries(); code != codes.Unavailable {
			t.Errorf("an agent of the other cluster %q: %s", cluster, code)
		}
	}
	s.refused("signalbox_refused_total", "handshake", "refused connection")

	for _, p := range []rpc.Principal{
		{Role: rpc.RoleAgent, DataCenter: west, Name: "w1"}, {Role: rpc.RoleProxy, DataCenter: east, Name: "p1"},
		{Role: rpc.RoleOperator, Name: "anna"}, {Role: rpc.RoleGateway, DataCenter: east, Name: "east-2"},
	} {
		if code := s.stranger(bundle(t, p), "east-1").tries(); code != codes.PermissionDenied {
			t.Errorf("%s on the agents' service: %s", p, code)
		}
	}
	s.refused("signalbox_refused_total", "wrong-role", "")

	proxy := s.stranger(bundle(t, rpc.Principal{Role: rpc.RoleProxy, DataCenter: east, Name: "p1"}), "east-1")
	gateways := wire.NewGatewaysClient(proxy.conn)
	_, err := gateways.Propose(t.Context(), &wire.ProposeRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a proxy proposes: %v", err)
	}
	if _, err := gateways.Ask(t.Context(), &wire.Question{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a proxy asks: %v", err)
	}
	s.refused("signalbox_refused_total", "gateway", "refused gateway")

	liar := s.stranger(bundle(t, rpc.Principal{Role: rpc.RoleGateway, DataCenter: east, Name: "east-2"}), "east-1")
	stream, err := wire.NewGatewaysClient(liar.conn).Exchange(t.Context())
	must(t, err)
	must(t, stream.Send(&wire.PeerFrame{Kind: &wire.PeerFrame_Hello{Hello: &wire.PeerHello{Gateway: "west-1", DataCenter: "west"}}}))
	if code := ended(t, stream.Recv); code != codes.PermissionDenied {
		t.Errorf("a gateway under another's name: %s", code)
	}
	s.refused("signalbox_refused_total", "wrong-name", `"claims":"west-1"`)
	s.works()
}

// works shows that the cluster was not harmed.
func (s *site) works() {
	s.t.Helper()
	o := s.order(west)
	s.begin("east-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
}

// enrolled opens a session of an agent e9 with an instance of its own.
func (x *stranger) enrolled(name string) (wire.Agents_SessionClient, ed25519.PrivateKey) {
	x.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	must(x.t, err)
	in := signalbox.Instance{Service: orders, DataCenter: east, Name: name, Identity: rpc.IdentityOf(public), PublicKey: public}
	proof, err := rpc.SealEnrollment(testCluster, in, time.Now(), private, x.keeper.Certificate())
	must(x.t, err)
	stream := x.agentSession()
	must(x.t, stream.Send(&wire.AgentFrame{Kind: &wire.AgentFrame_Hello{Hello: &wire.Hello{Enrollment: proof, Incarnation: 1, Address: "127.0.0.1:9"}}}))
	return stream, private
}

func statementFrame(raw []byte) *wire.AgentFrame {
	return &wire.AgentFrame{Kind: &wire.AgentFrame_Statement{Statement: raw}}
}

// TestHostileAgent: an agent of the cluster that sends garbage, replays, answers
// in others' names, floods and oversized frames is refused and counted, and is no
// evidence.
func TestHostileAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	x := s.stranger(bundle(t, rpc.Principal{Role: rpc.RoleAgent, DataCenter: east, Name: "e9"}), "east-1")
	stream, own := x.enrolled("e9")
	_, unknown, err := ed25519.GenerateKey(nil)
	must(t, err)
	ack := signalbox.Statement{Kind: signalbox.SaysAck, Service: orders, Incarnation: 1, Term: 2, Block: signalbox.Digest{1}, Admission: 1}
	good, err := rpc.SealStatement(testCluster, ack, own)
	must(t, err)
	strange, err := rpc.SealStatement(testCluster, ack, unknown)
	must(t, err)
	foreign, err := rpc.SealStatement("another", ack, own)
	must(t, err)
	for n := range len(good.Envelope) {
		must(t, stream.Send(statementFrame(good.Envelope[:n])))
	}
	want := float64(len(good.Envelope))
	for _, raw := range [][]byte{strange.Envelope, foreign.Envelope, append(good.Envelope[:0:0], make([]byte, rpc.MaxStatement+1)...)} {
		must(t, stream.Send(statementFrame(raw)))
		want++
	}
	for range 5000 { // a replay is one statement
		must(t, stream.Send(statementFrame(good.Envelope)))
	}
	eventually(t, "the statements to be refused", func() bool { return s.counted("signalbox_statements_refused_total", "") >= want })

	other, err := rpc.IdentityFromBytes(rpc.IdentityToBytes(signalbox.Identity(s.identity("e1"))))
	must(t, err)
	must(t, stream.Send(&wire.AgentFrame{Kind: &wire.AgentFrame_Status{Status: &wire.InstanceStatus{
		Identity: rpc.IdentityToBytes(other), Service: string(orders), State: "serving", Term: 1, Address: "127.0.0.1:6666",
	}}}))
	must(t, stream.Send(&wire.AgentFrame{Kind: &wire.AgentFrame_Question{Question: &wire.Question{
		Identity: rpc.IdentityToBytes(other), Service: string(orders), Nonce: make([]byte, rpc.NonceSize),
	}}}))
	must(t, stream.Send(&wire.AgentFrame{}))
	must(t, stream.Send(&wire.AgentFrame{Kind: &wire.AgentFrame_Hello{Hello: &wire.Hello{Enrollment: []byte("garbage")}}}))
	s.refused("signalbox_refused_total", "not-enrolled", "")
	s.refused("signalbox_refused_total", "question", "")
	s.refused("signalbox_refused_total", "enrollment", "refused instance")
	for _, in := range s.seen("east-1", "e1") {
		if in.Address == "127.0.0.1:6666" {
			t.Error("e9 moved e1's address")
		}
	}

	_ = stream.Send(statementFrame(make([]byte, rpc.MaxMessage+1)))
	if code := ended(t, stream.Recv); code != codes.ResourceExhausted {
		t.Errorf("an oversized frame: %s", code)
	}
	s.refused("signalbox_refused_total", "oversized", "refused frame")
	s.works()
}
