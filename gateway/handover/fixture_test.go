package handover_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
)

const (
	cluster = "test"
	orders  = signalbox.Service("orders")
	east    = signalbox.DataCenter("east")
	west    = signalbox.DataCenter("west")
	budget  = 5 * time.Second
)

// epoch is where virtual time begins.
var epoch = time.Unix(1_700_000_000, 0)

// anyQuorum takes every block as decided: signatures are tested in rpc.
type anyQuorum struct{}

func (anyQuorum) VerifyQuorum(string, []byte, []byte) error { return nil }

var trust = rpc.Trust{
	Cluster: cluster, Quorum: anyQuorum{},
	Fencers: signer("gateway"), FenceQuorum: 1, Operators: signer("ada"),
}

// signer knows one key, made from a name.
func signer(name string) rpc.SignerLookup {
	key := keyOf(name).Public().(ed25519.PublicKey)
	return func(id signalbox.Identity) (rpc.Signer, bool) {
		return rpc.Signer{Name: name, Key: key}, id == rpc.IdentityOf(key)
	}
}

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// agentKey stands for every agent's TLS key.
var agentKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// who is an instance with its key; names begin with e or w, for its data center.
type who struct {
	signalbox.Instance
	key        ed25519.PrivateKey
	enrollment []byte
}

var (
	castMu sync.Mutex
	cast   = map[string]*who{}
)

// actor returns the instance of a name, always with the same key.
func actor(name string) *who {
	castMu.Lock()
	defer castMu.Unlock()
	if w := cast[name]; w != nil {
		return w
	}
	key := keyOf(name)
	public := key.Public().(ed25519.PublicKey)
	w := &who{key: key, Instance: signalbox.Instance{
		Service: orders, DataCenter: map[byte]signalbox.DataCenter{'e': east, 'w': west}[name[0]], Name: name,
		Identity: rpc.IdentityOf(public), PublicKey: public,
	}}
	var err error
	w.enrollment, err = rpc.SealEnrollment(cluster, w.Instance, epoch, key, tls.Certificate{PrivateKey: agentKey(), Certificate: [][]byte{{1}}})
	if err != nil {
		panic(err)
	}
	cast[name] = w
	return w
}

// nameOf is the inverse of actor, for what is printed.
func nameOf(id signalbox.Identity) string {
	castMu.Lock()
	defer castMu.Unlock()
	for name, w := range cast {
		if w.Identity == id {
			return name
		}
	}
	return string(id)
}

func ids(names ...string) []signalbox.Identity {
	var out []signalbox.Identity
	for _, n := range names {
		out = append(out, actor(n).Identity)
	}
	return out
}

// enrolled is the voter's check of an enrollment, of the cast only.
func enrolled(raw []byte) (signalbox.Instance, error) {
	castMu.Lock()
	defer castMu.Unlock()
	for _, w := range cast {
		if string(w.enrollment) == string(raw) {
			return w.Instance, nil
		}
	}
	return signalbox.Instance{}, fmt.Errorf("%w: enrollment", signalbox.ErrUntrusted)
}

// says signs a statement of an instance.
func (w *who) says(s signalbox.Statement) signalbox.Evidence {
	s.Service = orders
	e, err := rpc.SealStatement(cluster, s, w.key)
	if err != nil {
		panic(err)
	}
	return e
}

// answer signs ack, refuse or drained to a block, as its roster has it.
func (w *who) answer(kind signalbox.StatementKind, b *signalbox.DecidedBlock) signalbox.Evidence {
	h := b.Handover(orders)
	e, _ := h.Entry(w.Identity)
	return w.says(signalbox.Statement{Kind: kind, Term: h.Term, Block: b.Digest, Admission: e.Admission})
}

// testify has others sign about an identity in its place.
func testify(kind signalbox.StatementKind, id signalbox.Identity, admission uint64, block signalbox.Digest, below signalbox.Term) signalbox.Evidence {
	t := rpc.Testimony{Statement: signalbox.Statement{Kind: kind, Service: orders, Identity: id, Admission: admission, Block: block, Term: below}}
	t.Witness = signalbox.Witness{Epoch: 1, Plugin: "power", By: []string{"ada"}, Reason: "it is off", At: epoch}
	payload, err := t.Encode()
	if err != nil {
		panic(err)
	}
	var raw []byte
	switch kind {
	case signalbox.SaysLapse:
		raw, err = rpc.SealLapse(payload, "any", nil)
	case signalbox.SaysFence:
		raw, err = rpc.SealFence(payload, []rpc.Share{rpc.SignTestimony(rpc.DomainFence, cluster, payload, keyOf("gateway"))})
	default:
		raw, err = rpc.SealAttest(cluster, t, keyOf("ada"))
	}
	if err != nil {
		panic(err)
	}
	e, err := rpc.OpenEvidence(trust, raw, nil)
	if err != nil {
		panic(err)
	}
	return e
}

// taken is others' evidence about an instance for a handover block.
func taken(kind signalbox.StatementKind, name string, block *signalbox.DecidedBlock) signalbox.Evidence {
	h := block.Handover(orders)
	e, _ := h.Entry(actor(name).Identity)
	return testify(kind, e.Identity, e.Admission, block.Digest, h.Term)
}

func (w *who) leaves(admission uint64, answered signalbox.Term) signalbox.Evidence {
	return w.says(signalbox.Statement{Kind: signalbox.SaysLeave, Term: answered, Admission: admission})
}

// book is a ledger with its log.
type book struct {
	*handover.Ledger
	log []*signalbox.DecidedBlock
}

func newBook() *book { return &book{Ledger: handover.NewLedger(trust, enrolled)} }

// seal makes the next block of the log without looking at the rules.
func (b *book) seal(r signalbox.Request) *signalbox.DecidedBlock { return b.sealAt(r, epoch) }

func (b *book) sealAt(r signalbox.Request, at time.Time) *signalbox.DecidedBlock {
	raw, err := rpc.EncodeBlock(&signalbox.Block{
		Cluster: cluster, Epoch: b.Voters().Epoch, Index: b.Index() + 1, Prev: b.Digest(), At: at, Requests: []signalbox.Request{r},
	})
	if err != nil {
		panic(err)
	}
	sealed, err := rpc.SealBlock(raw, "any", nil)
	if err != nil {
		panic(err)
	}
	return sealed
}

// decide is what a voter does: check, then append.
func (b *book) decide(r signalbox.Request) (*signalbox.DecidedBlock, error) {
	if err := b.Check(&r); err != nil {
		return nil, err
	}
	block := b.seal(r)
	if err := b.Apply(block); err != nil {
		return nil, err
	}
	b.log = append(b.log, block)
	return block, nil
}

func (b *book) must(t testing.TB, r signalbox.Request) *signalbox.DecidedBlock {
	t.Helper()
	block, err := b.decide(r)
	if err != nil {
		t.Fatalf("decide: %v", err)
	}
	return block
}

func admit(name string, term signalbox.Term) signalbox.Request {
	w := actor(name)
	return signalbox.Request{Admit: &signalbox.Admission{Instance: w.Instance, Term: term, Enrollment: w.enrollment}}
}

// adopted is a log in which east is master at term 1 by e1 and e2; west has w1
// and w2 as standbys.
func adopted(t testing.TB) *book {
	b := newBook()
	for _, n := range []string{"e1", "e2", "w1", "w2"} {
		b.must(t, admit(n, 0))
	}
	b.must(t, signalbox.Request{Handover: &signalbox.Handover{
		ID: "adopt", Service: orders, Term: 1, To: east, Incoming: ids("e1", "e2"), Allowed: signalbox.AckOnly,
	}})
	return b
}

// plan is a valid handover, superseding when one is open.
func (b *book) plan(id string, to signalbox.DataCenter, incoming ...string) *signalbox.Handover {
	st := b.Service(orders)
	h := &signalbox.Handover{
		ID: id, Service: orders, Term: st.Last + 1, Fallback: st.Last + 2, From: st.Master(), To: to, Incoming: ids(incoming...),
		Roster: b.Roster(orders, to), Allowed: signalbox.AckOnly, HoldBudget: budget,
	}
	if st.Certificate != nil {
		h.FallbackLeases = st.Certificate.Leases()
	}
	if n := len(st.Open); n > 0 {
		h.FallbackLeases = signalbox.Leases{}
		h.Fallback, h.From, h.AllowLateProxies = 0, st.Open[n-1].Handover(orders).To, true
	}
	return h
}

func (b *book) handover(t testing.TB, id string, to signalbox.DataCenter, incoming ...string) *signalbox.DecidedBlock {
	t.Helper()
	return b.must(t, signalbox.Request{Handover: b.plan(id, to, incoming...)})
}

// failover is a valid handover that allows others' evidence.
func (b *book) failover(id string, to signalbox.DataCenter, allowed signalbox.EvidenceKinds, incoming ...string) *signalbox.Handover {
	h := b.plan(id, to, incoming...)
	h.Allowed, h.Fallback, h.FallbackLeases = signalbox.AckOnly|allowed, 0, signalbox.Leases{}
	return h
}

// announce is the request that announces the removal of an outstanding instance.
func (b *book) announce(name string, allowed signalbox.EvidenceKinds) signalbox.Request {
	st, id := b.Service(orders), actor(name).Identity
	return signalbox.Request{Remove: &signalbox.Removal{
		Service: orders, Identity: id, Admission: st.Outstanding[id].Admission, Below: st.Last + 1, Allowed: allowed, By: "ada", Reason: "gone",
	}}
}

// remove is the request that removes it with what others signed for the
// announcement in block.
func (b *book) remove(name string, kind signalbox.StatementKind, block *signalbox.DecidedBlock) signalbox.Request {
	a, id := block.Announcement(orders), actor(name).Identity
	e := testify(kind, id, a.Admission, block.Digest, a.Below)
	return signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: id, Evidence: e.Envelope}}
}

// outcome is the request that logs how a block ended.
func outcome(block *signalbox.DecidedBlock, term signalbox.Term, evidence ...signalbox.Evidence) signalbox.Request {
	o := &signalbox.Outcome{Service: orders, Block: block.Digest, Certified: term}
	for _, e := range evidence {
		o.Evidence = append(o.Evidence, e.Envelope)
	}
	return signalbox.Request{Outcome: o}
}

// forward logs a block's forward outcome by acks of its whole roster.
func (b *book) forward(t testing.TB, block *signalbox.DecidedBlock) {
	t.Helper()
	h := block.Handover(orders)
	var acks []signalbox.Evidence
	for _, e := range h.Roster {
		acks = append(acks, actor(e.Name).answer(signalbox.SaysAck, block))
	}
	b.must(t, outcome(block, h.Term, acks...))
}

func certificate(t testing.TB, block *signalbox.DecidedBlock, term signalbox.Term, evidence ...signalbox.Evidence) *signalbox.Certificate {
	t.Helper()
	var raw [][]byte
	for _, e := range evidence {
		raw = append(raw, e.Envelope)
	}
	c, err := rpc.BuildCertificate(trust, block, orders, term, raw)
	if err != nil {
		t.Fatalf("certificate of %d: %v", term, err)
	}
	return c
}

func (b *book) outstanding() map[string]uint64 {
	out := map[string]uint64{}
	if st := b.Service(orders); st != nil {
		for _, h := range st.Outstanding {
			out[h.Name] = h.Admission
		}
	}
	return out
}
