package agent

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

const testCluster = "test"

// world makes what gateways and voters would: blocks, certificates, answers.
type world struct {
	t      testing.TB
	voters []ed25519.PrivateKey
	lists  []*signature.List
	trust  rpc.Trust
	index  uint64
	keys   map[string]ed25519.PrivateKey // of instances, by name
}

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func newWorld(t testing.TB, voters, quorum int) *world {
	w := &world{t: t, keys: map[string]ed25519.PrivateKey{}}
	var set []signature.Voter
	for i := range voters {
		key := testKey(fmt.Sprint("voter", i))
		w.voters = append(w.voters, key)
		set = append(set, signature.Voter{Name: fmt.Sprint("v", i), PublicKey: key.Public().(ed25519.PublicKey)})
	}
	for _, key := range w.voters {
		list, err := signature.NewList(set, quorum, key)
		w.must(err)
		w.lists = append(w.lists, list)
	}
	w.trust = rpc.Trust{Cluster: testCluster, Quorum: w.lists[0]}
	return w
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

func (w *world) voterKeys() (out []ed25519.PublicKey) {
	for _, key := range w.voters {
		out = append(out, key.Public().(ed25519.PublicKey))
	}
	return out
}

// key returns an instance's key, made from its name when it has none.
func (w *world) key(name string) ed25519.PrivateKey {
	if w.keys[name] == nil {
		w.keys[name] = testKey(name)
	}
	return w.keys[name]
}

func (w *world) id(name string) signalbox.Identity {
	return rpc.IdentityOf(w.key(name).Public().(ed25519.PublicKey))
}

func (w *world) decide(requests ...signalbox.Request) *signalbox.DecidedBlock {
	w.t.Helper()
	w.index++
	raw, err := rpc.EncodeBlock(&signalbox.Block{Cluster: testCluster, Epoch: 1, Index: w.index, At: time.Unix(1e9, 0), Requests: requests})
	w.must(err)
	var shares []signature.Share
	for _, list := range w.lists {
		share, err := list.Sign(rpc.SigningInput(rpc.DomainBlock, testCluster, raw))
		w.must(err)
		shares = append(shares, share)
	}
	sig, err := w.lists[0].Combine(shares)
	w.must(err)
	block, err := rpc.SealBlock(raw, signature.ListName, sig)
	w.must(err)
	return block
}

func (w *world) entry(name string, dc signalbox.DataCenter, admission uint64) signalbox.RosterEntry {
	public := w.key(name).Public().(ed25519.PublicKey)
	return signalbox.RosterEntry{Identity: w.id(name), PublicKey: public, Name: name, DataCenter: dc, Admission: admission}
}

// handover decides a voidable block from east to west, or the other way.
func (w *world) handover(term signalbox.Term, from, to signalbox.DataCenter, incoming []string, roster ...signalbox.RosterEntry) *signalbox.DecidedBlock {
	w.t.Helper()
	return w.decide(signalbox.Request{Handover: w.request(term, from, to, incoming, roster...)})
}

func (w *world) request(term signalbox.Term, from, to signalbox.DataCenter, incoming []string, roster ...signalbox.RosterEntry) *signalbox.Handover {
	h := &signalbox.Handover{
		ID: fmt.Sprintf("orders-%d", term), Service: "orders", Term: term, Fallback: term + 1, From: from, To: to,
		Roster: roster, Allowed: signalbox.AckOnly, HoldBudget: 5 * time.Second,
	}
	if from == "" {
		h.Fallback = 0
	}
	for _, name := range incoming {
		h.Incoming = append(h.Incoming, w.id(name))
	}
	return h
}

// certify makes a certificate with evidence signed for the whole roster (ack)
// or by its first entry (refuse).
func (w *world) certify(block *signalbox.DecidedBlock, fallback bool) []byte {
	w.t.Helper()
	h := block.Handover("orders")
	term, kind := h.Term, signalbox.SaysAck
	roster := h.Roster
	if fallback {
		term, kind, roster = h.Fallback, signalbox.SaysRefuse, roster[:1]
	}
	var evidence [][]byte
	for _, e := range roster {
		s := signalbox.Statement{Kind: kind, Service: "orders", Incarnation: 1, Term: h.Term, Block: block.Digest, Admission: e.Admission}
		sealed, err := rpc.SealStatement(testCluster, s, w.key(e.Name))
		w.must(err)
		evidence = append(evidence, sealed.Envelope)
	}
	cert, err := rpc.BuildCertificate(w.trust, block, "orders", term, evidence)
	w.must(err)
	return cert.Raw
}

// adopt is the certificate of term 1: east, from nowhere.
func (w *world) adopt(incoming ...string) (*signalbox.DecidedBlock, []byte) {
	w.t.Helper()
	block := w.handover(1, "", "east", incoming)
	return block, w.certify(block, false)
}

// answer is voter v's reply to a question.
func (w *world) answer(v int, id signalbox.Identity, nonce []byte, block *signalbox.DecidedBlock) []byte {
	a := rpc.Answer{Voter: fmt.Sprint("v", v), Service: "orders", Identity: id, Nonce: nonce}
	if block != nil {
		h := block.Handover("orders")
		a.Index, a.Block, a.Allowed, a.Term = block.Index, block.Digest, h.Allowed, h.Term
	}
	raw, err := rpc.SealAnswer(testCluster, a, w.voters[v])
	w.must(err)
	return raw
}

// open verifies a statement of an instance.
func (w *world) open(name string, raw []byte) signalbox.Statement {
	w.t.Helper()
	e, err := rpc.OpenStatement(testCluster, raw, func(signalbox.Identity) ed25519.PublicKey {
		return w.key(name).Public().(ed25519.PublicKey)
	})
	w.must(err)
	return e.Statement
}

// admission decides a block that admits an instance of east to a term.
func (w *world) admission(name string, term signalbox.Term) *signalbox.DecidedBlock {
	w.t.Helper()
	key := w.key(name)
	in := signalbox.Instance{Service: "orders", DataCenter: "east", Name: name, PublicKey: key.Public().(ed25519.PublicKey)}
	enrollment, err := rpc.SealEnrollment(testCluster, in, time.Unix(1e9, 0), key, w.agentCertificate())
	w.must(err)
	return w.decide(signalbox.Request{Admit: &signalbox.Admission{Term: term, Enrollment: enrollment, Instance: in}})
}

// agentCertificate is a certificate that nobody chains to a CA.
func (w *world) agentCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(2e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	w.must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
