package rpc

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// domains are those of others' evidence, by what it says.
var domains = map[signalbox.StatementKind]Domain{
	signalbox.SaysLapse: DomainLapse, signalbox.SaysFence: DomainFence, signalbox.SaysAttest: DomainAttest,
}

// A Testimony is what others say of an identity, as it is signed: encode it
// once, have the bytes signed, and join both with the Seal function of its kind.
type Testimony struct {
	// Kind is SaysLapse, SaysFence or SaysAttest. Term is the one below which the
	// identity will not serve, Block the block that the evidence is for.
	signalbox.Statement
	// Witness holds what the kind needs of it: Epoch; Plugin and Output; By (one
	// operator), Reason and At.
	Witness signalbox.Witness
}

// Encode returns the bytes that are signed, after SigningInput with Domain.
func (t *Testimony) Encode() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", t.Kind, err)
	}
	id, err := identityBytes(t.Identity)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", t.Kind, err)
	}
	m := &wire.Testimony{
		Service: string(t.Service), Identity: id, Admission: t.Admission, Block: t.Block[:], Below: uint64(t.Term),
	}
	switch w := t.Witness; t.Kind {
	case signalbox.SaysLapse:
		m.Epoch = w.Epoch
	case signalbox.SaysFence:
		m.Plugin, m.Output = w.Plugin, w.Output[:]
	case signalbox.SaysAttest:
		m.Operator, m.Reason, m.AtUnixNano = w.By[0], w.Reason, w.At.UnixNano()
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", t.Kind, err)
	}
	return raw, nil
}

// Domain returns the domain in which the testimony is signed.
func (t *Testimony) Domain() Domain { return domains[t.Kind] }

func (t *Testimony) check() error {
	if err := signalbox.CheckName("service", string(t.Service)); err != nil {
		return err
	}
	w := t.Witness
	switch {
	case domains[t.Kind] == 0:
		return fmt.Errorf("%w: a %s is not for others to sign", signalbox.ErrInvalid, t.Kind)
	case t.Block.IsZero() || t.Term == 0 || t.Admission == 0:
		return fmt.Errorf("%w: it names no block, term or admission", signalbox.ErrInvalid)
	case t.Kind == signalbox.SaysLapse && w.Epoch == 0:
		return fmt.Errorf("%w: it names no voter set", signalbox.ErrInvalid)
	case t.Kind == signalbox.SaysFence:
		return signalbox.CheckName("fencing plugin", w.Plugin)
	case t.Kind == signalbox.SaysAttest && len(w.By) != 1:
		return fmt.Errorf("%w: one operator signs it, not %d", signalbox.ErrInvalid, len(w.By))
	case t.Kind == signalbox.SaysAttest && (w.Reason == "" || len(w.Reason) > signalbox.MaxReason):
		return fmt.Errorf("%w: the reason has %d bytes: give one, of at most %d", signalbox.ErrInvalid, len(w.Reason), signalbox.MaxReason)
	case t.Kind == signalbox.SaysAttest:
		return signalbox.CheckName("operator", w.By[0])
	}
	return nil
}

// SealLapse joins an encoded lapse with the voters' combined signature over
// SigningInput(DomainLapse, cluster, payload).
func SealLapse(payload []byte, scheme string, signature []byte) ([]byte, error) {
	return sealEvidence(&wire.Envelope{
		Version: Version, Domain: uint32(DomainLapse), Payload: payload, Scheme: scheme, Signature: signature,
	})
}

// A Share is one signer's signature over a testimony.
type Share struct {
	Signer    signalbox.Identity
	Signature []byte
}

// SignTestimony signs an encoded testimony in its domain.
func SignTestimony(d Domain, cluster string, payload []byte, key ed25519.PrivateKey) Share {
	return Share{Signer: IdentityOf(key.Public().(ed25519.PublicKey)), Signature: ed25519.Sign(key, SigningInput(d, cluster, payload))}
}

// SealFence joins an encoded fence with the gateways' signatures over it.
func SealFence(payload []byte, shares []Share) ([]byte, error) {
	m := &wire.Envelope{Version: Version, Domain: uint32(DomainFence), Payload: payload}
	for _, s := range shares {
		signer, err := identityBytes(s.Signer)
		if err != nil {
			return nil, fmt.Errorf("seal fence: %w", err)
		}
		m.Shares = append(m.Shares, &wire.Share{Signer: signer, Signature: s.Signature})
	}
	return sealEvidence(m)
}

// SealAttest has an operator's key sign for an identity that cannot speak.
func SealAttest(cluster string, t Testimony, key ed25519.PrivateKey) ([]byte, error) {
	payload, err := t.Encode()
	if err != nil {
		return nil, fmt.Errorf("seal attest: %w", err)
	}
	raw, err := Seal(DomainAttest, cluster, payload, key)
	if err == nil && len(raw) > MaxEvidence {
		err = tooLarge(raw)
	}
	return raw, err
}

func sealEvidence(m *wire.Envelope) ([]byte, error) {
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("seal evidence: %w", err)
	}
	if len(raw) > MaxEvidence {
		return nil, tooLarge(raw)
	}
	return raw, nil
}

func tooLarge(raw []byte) error {
	return fmt.Errorf("%w: evidence has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxEvidence)
}

// testimonyFrom reads a testimony of a kind; nothing is verified but its form.
func testimonyFrom(kind signalbox.StatementKind, payload []byte) (Testimony, error) {
	var m wire.Testimony
	if err := proto.Unmarshal(payload, &m); err != nil {
		return Testimony{}, fmt.Errorf("%w: %s: %w", signalbox.ErrInvalid, kind, err)
	}
	id, err := IdentityFromBytes(m.Identity)
	if err != nil {
		return Testimony{}, err
	}
	block, err := digestFrom(m.Block)
	if err != nil {
		return Testimony{}, err
	}
	output, err := digestFrom(m.Output)
	if err != nil {
		return Testimony{}, err
	}
	t := Testimony{Statement: signalbox.Statement{
		Kind: kind, Service: signalbox.Service(m.Service), Identity: id,
		Term: signalbox.Term(m.Below), Block: block, Admission: m.Admission,
	}}
	t.Witness = signalbox.Witness{Epoch: m.Epoch, Plugin: m.Plugin, Output: output, Reason: m.Reason}
	if kind == signalbox.SaysAttest {
		t.Witness.By, t.Witness.At = []string{m.Operator}, time.Unix(0, m.AtUnixNano)
	}
	return t, t.check()
}
