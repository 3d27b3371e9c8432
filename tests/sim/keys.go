package sim

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

const shareSize = 16

// tag is a voter's key, as far as its shares are concerned.
type tag [8]byte

func tagOf(public []byte) tag { return tag(public[:8]) }

// fake is a signature port without private keys: a voter's share is a hash of its
// public key and the message. That a voter signs for itself only is a matter of
// honour here. A voter that has another key in the next set has other shares.
type fake struct {
	self, quorum int
	tags         []tag
}

func shareOf(voter tag, message []byte) []byte { return shareOver(voter, sha256.Sum256(message)) }

func shareOver(voter tag, sum [32]byte) []byte {
	var both [40]byte
	copy(both[:], sum[:])
	copy(both[32:], voter[:])
	h := sha256.Sum256(both[:])
	return h[:shareSize]
}

func (f fake) Name() string { return "fake" }

func (f fake) Sign(message []byte) (signature.Share, error) {
	return signature.Share{Voter: f.self, Signature: shareOf(f.tags[f.self], message)}, nil
}

func (f fake) Combine(shares []signature.Share) ([]byte, error) {
	if len(shares) < f.quorum {
		return nil, signalbox.ErrUnavailable
	}
	var out []byte
	for _, s := range shares {
		out = append(append(out, byte(s.Voter)), s.Signature...)
	}
	return out, nil
}

func (f fake) VerifyShare(message []byte, s signature.Share) error {
	if s.Voter < 0 || s.Voter >= len(f.tags) || !bytes.Equal(s.Signature, shareOf(f.tags[s.Voter], message)) {
		return fmt.Errorf("%w: share of voter %d", signalbox.ErrUntrusted, s.Voter)
	}
	return nil
}

func (f fake) VerifyQuorum(_ string, message, combined []byte) error {
	sum, seen := sha256.Sum256(message), map[byte]bool{}
	const size = shareSize + 1
	for ; len(combined) >= size; combined = combined[size:] {
		if int(combined[0]) >= len(f.tags) || !bytes.Equal(combined[1:size], shareOver(f.tags[combined[0]], sum)) {
			return fmt.Errorf("%w: share of voter %d in a certificate", signalbox.ErrUntrusted, combined[0])
		}
		seen[combined[0]] = true
	}
	if len(combined) != 0 || len(seen) < f.quorum {
		return fmt.Errorf("%w: %d signers", signalbox.ErrUntrusted, len(seen))
	}
	return nil
}

// who is an instance with its key. Names begin with e or w, for its data center.
type who struct {
	signalbox.Instance
	key        ed25519.PrivateKey
	enrollment []byte
}

// keys is everybody's, made from names: the same in every run.
type keys struct {
	mu   sync.Mutex
	cast map[string]*who
	of   map[signalbox.Identity]*who
	by   map[string]*who // enrollment
	vote map[string]signalbox.Voter
}

var everybody = &keys{cast: map[string]*who{}, of: map[signalbox.Identity]*who{}, by: map[string]*who{}, vote: map[string]signalbox.Voter{}}

// voter returns a gateway with its n-th key to vote with, proven. The 0th is the one
// that it was installed with; it made the others.
func (k *keys) voter(name string, n int) signalbox.Voter {
	k.mu.Lock()
	defer k.mu.Unlock()
	full := fmt.Sprintf("%s.%d", name, n)
	v, ok := k.vote[full]
	if !ok {
		v = signalbox.Voter{Name: name, DataCenter: dataCenter(name)}
		rpc.ProveVoter(cluster, &v, keyOf("voter "+full))
		k.vote[full] = v
	}
	return v
}

// steady signs without chance, so that a seed is one history in every process.
type steady struct{ *ecdsa.PrivateKey }

func (k steady) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// agentKey stands for every agent's TLS key, agentCert is its certificate.
var agentKey, agentCert = func() (steady, []byte) {
	seed := sha256.Sum256([]byte("agent"))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: epoch, NotAfter: epoch.Add(time.Hour)}
	cert, err := x509.CreateCertificate(nil, template, template, key.Public(), steady{key})
	if err != nil {
		panic(err)
	}
	return steady{key}, cert
}()

// enroll is rpc.SealEnrollment, without chance.
func enroll(w *who) []byte {
	payload, err := proto.Marshal(&wire.Enrollment{
		Service: string(w.Service), DataCenter: string(w.DataCenter), Name: w.Name, PublicKey: w.PublicKey, AtUnixNano: epoch.UnixNano(),
	})
	if err != nil {
		panic(err)
	}
	env, err := rpc.Seal(rpc.DomainEnrollment, cluster, payload, w.key)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(rpc.SigningInput(rpc.DomainEnrollment, cluster, env))
	sig, err := agentKey.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	raw, err := proto.Marshal(&wire.EnrollmentProof{Envelope: env, AgentCertificate: agentCert, AgentSignature: sig})
	if err != nil {
		panic(err)
	}
	return raw
}

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// signer knows one key.
func signer(name string, private ed25519.PrivateKey) rpc.SignerLookup {
	key := private.Public().(ed25519.PublicKey)
	own := rpc.IdentityOf(key)
	return func(id signalbox.Identity) (rpc.Signer, bool) { return rpc.Signer{Name: name, Key: key}, id == own }
}

// serviceOf an instance's name: s stands behind those of the second one.
func serviceOf(name string) signalbox.Service {
	if strings.HasSuffix(name, "s") {
		return stock
	}
	return orders
}

// actor returns an instance with its n-th key.
func (k *keys) actor(name string, n int) *who {
	k.mu.Lock()
	defer k.mu.Unlock()
	full := fmt.Sprintf("%s.%d", name, n)
	if w := k.cast[full]; w != nil {
		return w
	}
	key := keyOf(full)
	public := key.Public().(ed25519.PublicKey)
	dc := east
	if name[0] == 'w' {
		dc = west
	}
	w := &who{key: key, Instance: signalbox.Instance{
		Service: serviceOf(name), DataCenter: dc, Name: name, Identity: rpc.IdentityOf(public), PublicKey: public,
	}}
	w.enrollment = enroll(w)
	k.by[string(w.enrollment)] = w
	k.cast[full], k.of[w.Identity] = w, w
	return w
}

func (k *keys) byIdentity(id signalbox.Identity) *who {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.of[id]
}

func nameOf(id signalbox.Identity) string {
	if w := everybody.byIdentity(id); w != nil {
		return w.Name + "/" + string(id[:4])
	}
	return string(id)
}

// enrolled is the voter's check of an enrollment: a port, as the ledger has it.
func enrolled(raw []byte) (signalbox.Instance, error) {
	everybody.mu.Lock()
	defer everybody.mu.Unlock()
	if w := everybody.by[string(raw)]; w != nil {
		return w.Instance, nil
	}
	return signalbox.Instance{}, fmt.Errorf("%w: enrollment", signalbox.ErrUntrusted)
}

// says signs a statement of an instance.
func (w *who) says(s signalbox.Statement) signalbox.Evidence {
	s.Service, s.Identity = w.Service, w.Identity
	payload := marshal(&wire.Statement{
		Kind: uint32(s.Kind), Service: string(s.Service), Term: uint64(s.Term), Admission: s.Admission, Block: blockOf(s.Block),
	})
	return signalbox.Evidence{Statement: s, Envelope: seal(rpc.DomainStatement, payload, w.key)}
}

func blockOf(d signalbox.Digest) []byte {
	if d.IsZero() {
		return nil
	}
	return d[:]
}

func marshal(m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}

// seal is rpc.Seal with a signature without a key: a hash of the public key and
// the message, which everybody could make and nobody here does for another.
func seal(d rpc.Domain, payload []byte, key ed25519.PrivateKey) []byte {
	public := key.Public().(ed25519.PublicKey)
	fp := rpc.Fingerprint(public)
	return marshal(&wire.Envelope{
		Version: rpc.Version, Domain: uint32(d), Payload: payload, Signer: fp[:], Signature: stamp(public, rpc.SigningInput(d, cluster, payload)),
	})
}

// stamp stands for an Ed25519 signature, and is as long.
func stamp(key ed25519.PublicKey, message []byte) []byte {
	inner := sha256.Sum256(message)
	sum := sha256.Sum256(append(inner[:], key...))
	return append(sum[:], inner[:]...)
}

func stamped(key ed25519.PublicKey, message, signature []byte) bool {
	return bytes.Equal(signature, stamp(key, message))
}

// answer signs ack, refuse or drained to a block, as its roster has it.
func (w *who) answer(kind signalbox.StatementKind, b *signalbox.DecidedBlock) signalbox.Evidence {
	h := b.Handover(w.Service)
	e, _ := h.Entry(w.Identity)
	return w.says(signalbox.Statement{Kind: kind, Term: h.Term, Block: b.Digest, Admission: e.Admission})
}

func (w *who) leaves(admission uint64, answered signalbox.Term) signalbox.Evidence {
	return w.says(signalbox.Statement{Kind: signalbox.SaysLeave, Term: answered, Admission: admission})
}

func (w *who) admit(term signalbox.Term) signalbox.Request {
	return signalbox.Request{Admit: &signalbox.Admission{Instance: w.Instance, Term: term, Enrollment: w.enrollment}}
}
