package rpc

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// SealMandate has an operator sign an order: with the operator's own key, and
// with the TLS key whose certificate says that the cluster's CA lets this name
// give orders now. Key and Proof of m are not looked at.
func SealMandate(cluster string, m signalbox.Mandate, key ed25519.PrivateKey, operator tls.Certificate) ([]byte, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: operator's key has %d bytes", signalbox.ErrInvalid, len(key))
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("sign order: %w", err)
	}
	w := &wire.Mandate{
		Verb: string(m.Verb), Operator: m.Operator, Service: string(m.Service), Id: m.ID, From: string(m.From), To: string(m.To), Term: uint64(m.Term),
		HoldBudgetNano: int64(m.HoldBudget), AllowLateProxies: m.AllowLateProxies, Allowed: uint32(m.Allowed), UntilUnixNano: nano(m.Until),
		BreakGlass: breakGlassToWire(m.BreakGlass), Reason: m.Reason, AtUnixNano: nano(m.At), PublicKey: public,
	}
	if !m.Of.IsZero() {
		w.Of = m.Of[:]
	}
	payload, err := proto.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode order: %w", err)
	}
	env, err := Seal(DomainMandate, cluster, payload, key)
	if err != nil {
		return nil, fmt.Errorf("sign order: %w", err)
	}
	certificate, signature, err := vouch("operator", DomainMandate, cluster, env, operator)
	if err != nil {
		return nil, fmt.Errorf("sign order: %w", err)
	}
	raw, err := proto.Marshal(&wire.MandateProof{Envelope: env, OperatorCertificate: certificate, OperatorSignature: signature})
	if err == nil && len(raw) > MaxMandate {
		err = fmt.Errorf("%w: signed order has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxMandate)
	}
	return raw, err
}

// MandateDigest is what an approval names a mandate by.
func MandateDigest(proof []byte) signalbox.Digest { return sha256.Sum256(proof) }

// A MandateTrust is what checks operators' mandates.
type MandateTrust struct {
	Cluster string
	Roots   *x509.CertPool
	// Keys returns the keys that the cluster's description names for an operator;
	// none: a key counts that the operator's certificate vouches for.
	Keys func(operator string) []ed25519.PublicKey
}

// OpenMandate verifies a mandate: both signatures for this cluster, and the
// operator's certificate at a time. Errors wrap ErrInvalid (malformed) or
// ErrUntrusted, and say what to do.
func OpenMandate(trust MandateTrust, raw []byte, at time.Time) (*signalbox.Mandate, error) {
	m, public, proof, err := parseMandate(raw)
	if err != nil {
		return nil, fmt.Errorf("open signed order: %w", err)
	}
	key := func(signalbox.Identity) ed25519.PublicKey { return public }
	if _, _, err := Open(DomainMandate, trust.Cluster, proof.Envelope, MaxMandate, key); err != nil {
		return nil, fmt.Errorf("open signed order of operator %s: %w; give the order again, with a bundle of cluster %s", m.Operator, err, trust.Cluster)
	}
	if err := openOperator(trust, m, proof, at); err != nil {
		return nil, fmt.Errorf("open signed order of operator %s: %w", m.Operator, err)
	}
	listed := trust.Keys(m.Operator)
	for _, k := range listed {
		if k.Equal(public) {
			return m, nil
		}
	}
	if len(listed) > 0 {
		return nil, fmt.Errorf("open signed order: %w: cluster.json names other keys for operator %s; if the bundle was issued anew, rotate the gateways' bundles (signalbox keys rotate) and restart them", signalbox.ErrUntrusted, m.Operator)
	}
	return m, nil
}

// openOperator wants the signature of the operator's TLS key, with a certificate
// of the cluster's CA that is valid at the time.
func openOperator(trust MandateTrust, m *signalbox.Mandate, proof *wire.MandateProof, at time.Time) error {
	leaf, err := vouched("operator", DomainMandate, trust.Cluster, proof.Envelope, proof.OperatorCertificate, proof.OperatorSignature)
	if err != nil {
		return err
	}
	p, err := PrincipalOf(leaf)
	if err != nil {
		return err
	}
	renew := "renew it (signalbox keys rotate BUNDLE) and give the order again"
	switch {
	case p.Cluster != trust.Cluster || p.Role != RoleOperator || p.Name != m.Operator:
		return fmt.Errorf("%w: the certificate is of %s: an operator signs with the own bundle of cluster %s", signalbox.ErrUntrusted, p, trust.Cluster)
	case at.After(leaf.NotAfter):
		return fmt.Errorf("%w: the certificate expired on %s: %s", signalbox.ErrUntrusted, leaf.NotAfter.UTC().Format(time.RFC3339), renew)
	case at.Before(leaf.NotBefore):
		return fmt.Errorf("%w: the certificate is valid from %s on: look at the clocks", signalbox.ErrUntrusted, leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: trust.Roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("%w: the certificate is not of this cluster's CA (another cluster, or a CA that was retired): %w; %s", signalbox.ErrUntrusted, err, renew)
	}
	return nil
}

// InspectMandate reads a mandate without verifying its signatures: for showing
// it, never for acting on it.
func InspectMandate(raw []byte) (*signalbox.Mandate, error) {
	m, _, _, err := parseMandate(raw)
	return m, err
}

func parseMandate(raw []byte) (*signalbox.Mandate, ed25519.PublicKey, *wire.MandateProof, error) {
	if len(raw) == 0 || len(raw) > MaxMandate {
		return nil, nil, nil, fmt.Errorf("%w: signed order has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxMandate)
	}
	var proof wire.MandateProof
	if err := proto.Unmarshal(raw, &proof); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: signed order: %w", signalbox.ErrInvalid, err)
	}
	env, signer, err := peek(DomainMandate, proof.Envelope, MaxMandate)
	if err != nil {
		return nil, nil, nil, err
	}
	var w wire.Mandate
	if err := proto.Unmarshal(env.Payload, &w); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: signed order: %w", signalbox.ErrInvalid, err)
	}
	if len(w.PublicKey) != ed25519.PublicKeySize || IdentityOf(w.PublicKey) != signer {
		return nil, nil, nil, fmt.Errorf("%w: the signed order's public key is not the signer's", signalbox.ErrUntrusted)
	}
	if w.Allowed > 0xff {
		return nil, nil, nil, fmt.Errorf("%w: evidence kinds %#x", signalbox.ErrInvalid, w.Allowed)
	}
	of, err := digestFrom(w.Of)
	if err != nil {
		return nil, nil, nil, err
	}
	m := &signalbox.Mandate{
		Verb: signalbox.Verb(w.Verb), Operator: w.Operator, Service: signalbox.Service(w.Service), ID: w.Id,
		From: signalbox.DataCenter(w.From), To: signalbox.DataCenter(w.To), Term: signalbox.Term(w.Term),
		HoldBudget: time.Duration(w.HoldBudgetNano), AllowLateProxies: w.AllowLateProxies, Allowed: signalbox.EvidenceKinds(w.Allowed),
		Until: fromNano(w.UntilUnixNano), Of: of, Reason: w.Reason, At: fromNano(w.AtUnixNano), Key: signer, Proof: raw,
	}
	if m.BreakGlass, err = breakGlassFromWire(w.BreakGlass); err != nil {
		return nil, nil, nil, err
	}
	return m, w.PublicKey, &proof, m.Check()
}

// mandateFromWire reads the mandate that a request carries; nil without one. The
// signatures are for voters to verify, before they vote for the request.
func mandateFromWire(raw []byte) (*signalbox.Mandate, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return InspectMandate(raw)
}

func startedFromWire(raw []byte) (*signalbox.Request, error) {
	m, err := InspectMandate(raw)
	if err == nil && m.Verb != signalbox.VerbStart {
		err = fmt.Errorf("%w: a signed %s is no start", signalbox.ErrInvalid, m.Verb)
	}
	return &signalbox.Request{Started: m}, err
}

// StartChallenge is what an operator signs to start an instance without a quorum
// of voters: of this identity, this start (the nonce of its question), this
// incarnation, and the newest term that it holds.
func StartChallenge(cluster string, id signalbox.Identity, incarnation uint64, nonce []byte, cert *signalbox.Certificate) signalbox.Digest {
	h := sha256.New()
	h.Write([]byte("signalbox start\n" + cluster + "\n" + string(id) + "\n"))
	var b []byte
	b = binary.BigEndian.AppendUint64(b, incarnation)
	b = binary.BigEndian.AppendUint64(b, uint64(cert.Term))
	h.Write(append(append(b, cert.Block.Digest[:]...), nonce...))
	return signalbox.Digest(h.Sum(nil))
}

func mandateToWire(m *signalbox.Mandate) []byte {
	if m == nil {
		return nil
	}
	return m.Proof
}
