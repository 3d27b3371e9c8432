package coordinator

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/rpc"
)

// leaver is an instance of the east that leaves, at a gateway with a log.
type leaver struct {
	t *testing.T
	*Coordinator
	s     *service
	voter *journal.Voter
	key   ed25519.PrivateKey
	in    signalbox.Instance
	proof []byte
	asked chan signalbox.Request // what the gateway proposed
}

// asks keeps what is proposed.
type asks struct {
	silence
	asked chan signalbox.Request
}

func (a asks) ProposeTo(_ context.Context, r signalbox.Request) error { a.asked <- r; return nil }

// newLeaver has the instance enrolled (block 1) and master since block 2.
func newLeaver(t *testing.T) *leaver {
	t.Helper()
	seed := sha256.Sum256([]byte("e1"))
	l := &leaver{t: t, key: ed25519.NewKeyFromSeed(seed[:]), asked: make(chan signalbox.Request, 8)}
	public := l.key.Public().(ed25519.PublicKey)
	l.in = signalbox.Instance{Service: "orders", DataCenter: "east", Name: "e1", Identity: rpc.IdentityOf(public), PublicKey: public}
	agent, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if l.proof, err = rpc.SealEnrollment("test", l.in, time.Now(), l.key, tls.Certificate{PrivateKey: agent, Certificate: [][]byte{{1}}}); err != nil {
		t.Fatal(err)
	}
	l.Coordinator, l.voter = aloneWith(t, t.TempDir(), l.in)
	l.opt.Links, l.ctx, l.loaded, l.s = asks{asked: l.asked}, t.Context(), true, l.services["orders"]
	l.decide(signalbox.Request{Admit: &signalbox.Admission{Instance: l.in, Enrollment: l.proof}})
	l.decide(signalbox.Request{Handover: &signalbox.Handover{
		ID: "adopt", Service: "orders", Term: 1, To: "east", Incoming: []signalbox.Identity{l.in.Identity}, Allowed: signalbox.AckOnly,
	}})
	return l
}

func (l *leaver) decide(r signalbox.Request) {
	l.t.Helper()
	if _, err := l.voter.Propose(l.t.Context(), r); err != nil {
		l.t.Fatal(err)
	}
	l.applyLog()
}

// leaves says that the instance left under an admission.
func (l *leaver) leaves(admission uint64, position string) {
	l.t.Helper()
	e, err := rpc.SealStatement("test", signalbox.Statement{
		Kind: signalbox.SaysLeave, Service: "orders", Identity: l.in.Identity, Admission: admission, Position: []byte(position), Incarnation: 1,
	}, l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	got, ok := l.newStatement(e.Envelope)
	if !ok {
		l.t.Fatal("the leave was refused")
	}
	l.said(got, l.opt.Now())
}

// kept is the admission of the leave that is kept, 0 for none.
func (l *leaver) kept() uint64 { return l.s.leaves[l.in.Identity].Admission }

func (l *leaver) outstanding() (out bool) {
	l.opt.Journal.View(func(ledger *handover.Ledger) { _, out = ledger.Service("orders").Entry(l.in.Identity) })
	return out
}

// announced has its removal announced, as of who is silent.
func (l *leaver) announced() {
	l.t.Helper()
	l.decide(signalbox.Request{Remove: &signalbox.Removal{
		Service: "orders", Identity: l.in.Identity, Admission: 2, Below: 2, Allowed: signalbox.EvidenceKinds(signalbox.Lapse), By: "operator/test", Reason: "silent",
	}})
}

// TestAnnouncedRemovalKeepsTheLeave guards rules 3 and 6: to announce the removal of
// an instance takes it out of nothing. The leave that it signed at its stop goes on
// counting, for the next handover and for its removal; were it forgotten, nobody
// could give it again, and handovers would wait for an instance that is gone.
func TestAnnouncedRemovalKeepsTheLeave(t *testing.T) {
	l := newLeaver(t)
	l.leaves(2, "")
	l.announced()
	if !l.outstanding() || l.kept() != 2 || len(l.s.machine.Statements()) != 1 {
		t.Fatalf("outstanding: %v; the leave that is kept is of admission %d, the machine has %d statements", l.outstanding(), l.kept(), len(l.s.machine.Statements()))
	}
	if silent := l.silentRoster(l.s, "west"); len(silent) > 0 {
		t.Errorf("%s counts as silent although it left", silent[0].Name)
	}
	l.removeLeft(l.s)
	r := <-l.asked
	if r.Remove == nil || r.Remove.Identity != l.in.Identity || r.Remove.Announces() {
		t.Fatalf("proposed: %+v", r)
	}
	l.decide(r)
	if l.outstanding() || l.kept() != 0 || len(l.s.machine.Statements()) != 0 {
		t.Errorf("after its removal: outstanding: %v; a leave of admission %d and %d statements are kept", l.outstanding(), l.kept(), len(l.s.machine.Statements()))
	}
}

// TestLeaveIsKeptUntilItIsOver guards rule 3: a leave is forgotten when the log has
// the removal, or a newer admission, and not before: neither because the own log is
// behind, nor for one that came before and is repeated.
func TestLeaveIsKeptUntilItIsOver(t *testing.T) {
	l := newLeaver(t)
	l.leaves(4, "") // this log has no block 4 yet
	l.leaves(2, "")
	l.removeLeft(l.s)
	if l.kept() != 4 {
		t.Fatalf("a leave of an admission that this log does not have yet: %d is kept", l.kept())
	}
	l.announced() // block 3
	l.decide(signalbox.Request{Admit: &signalbox.Admission{Instance: l.in, Enrollment: l.proof, Term: 1}})
	l.removeLeft(l.s)
	r := <-l.asked
	l.decide(r)
	if l.outstanding() || l.kept() != 0 {
		t.Fatalf("outstanding: %v; a leave of admission %d is kept", l.outstanding(), l.kept())
	}
	l.decide(signalbox.Request{Admit: &signalbox.Admission{Instance: l.in, Enrollment: l.proof, Term: 1}}) // block 6
	l.leaves(5, "where the data was")
	l.removeLeft(l.s)
	if l.kept() != 0 {
		t.Errorf("a leave of admission %d is kept, and the log has a newer admission", l.kept())
	}
	l.leaves(6, "where the data is")
	l.removeLeft(l.s)
	if l.kept() != 6 || len(l.asked) != 0 {
		t.Errorf("a leave with a position, which the next certificate needs: %d is kept, %d proposed", l.kept(), len(l.asked))
	}
}
