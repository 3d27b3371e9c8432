package rpc

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// SealEnrollment has an instance introduced by its agent: signed by the
// instance's key and by the agent's TLS key, so that every voter can check by
// itself that the cluster's CA let this agent speak for this data center.
func SealEnrollment(cluster string, in signalbox.Instance, now time.Time, key ed25519.PrivateKey, agent tls.Certificate) ([]byte, error) {
	payload, err := proto.Marshal(&wire.Enrollment{
		Service: string(in.Service), DataCenter: string(in.DataCenter), Name: in.Name,
		PublicKey: in.PublicKey, AtUnixNano: now.UnixNano(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode enrollment: %w", err)
	}
	env, err := Seal(DomainEnrollment, cluster, payload, key)
	if err != nil {
		return nil, fmt.Errorf("seal enrollment: %w", err)
	}
	certificate, signature, err := vouch("agent", DomainEnrollment, cluster, env, agent)
	if err != nil {
		return nil, fmt.Errorf("sign enrollment: %w", err)
	}
	return proto.Marshal(&wire.EnrollmentProof{Envelope: env, AgentCertificate: certificate, AgentSignature: signature})
}

// OpenEnrollment verifies an enrollment against the cluster's CA and returns
// the instance and the agent that vouched for it. The agent's certificate may
// have expired since (the log keeps enrollments for ever); that it was valid
// when the enrollment was made is checked.
func OpenEnrollment(cluster string, roots *x509.CertPool, raw []byte) (signalbox.Instance, Principal, error) {
	in, leaf, at, err := parseEnrollment(cluster, raw)
	if err != nil {
		return signalbox.Instance{}, Principal{}, fmt.Errorf("open enrollment: %w", err)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return signalbox.Instance{}, Principal{}, fmt.Errorf("open enrollment: %w: agent's certificate: %w", signalbox.ErrUntrusted, err)
	}
	p, err := PrincipalOf(leaf)
	if err != nil {
		return signalbox.Instance{}, Principal{}, fmt.Errorf("open enrollment: %w", err)
	}
	if p.Cluster != cluster || p.Role != RoleAgent || p.DataCenter != in.DataCenter {
		return signalbox.Instance{}, Principal{}, fmt.Errorf("open enrollment: %w: %s may not speak for instances of data center %q", signalbox.ErrUntrusted, p, in.DataCenter)
	}
	return in, p, nil
}

// EnrolledInstance reads an enrollment whose proof was verified before (it
// stands in a decided block): signatures of instance and agent are checked, the
// agent's certificate is not chained to a CA.
func EnrolledInstance(cluster string, raw []byte) (signalbox.Instance, error) {
	in, _, _, err := parseEnrollment(cluster, raw)
	return in, err
}

func parseEnrollment(cluster string, raw []byte) (signalbox.Instance, *x509.Certificate, time.Time, error) {
	fail := func(err error) (signalbox.Instance, *x509.Certificate, time.Time, error) {
		return signalbox.Instance{}, nil, time.Time{}, err
	}
	if len(raw) == 0 || len(raw) > MaxEnrollment {
		return fail(fmt.Errorf("%w: enrollment has %d bytes, at most %d", signalbox.ErrInvalid, len(raw), MaxEnrollment))
	}
	var proof wire.EnrollmentProof
	if err := proto.Unmarshal(raw, &proof); err != nil {
		return fail(fmt.Errorf("%w: enrollment: %w", signalbox.ErrInvalid, err))
	}
	env, signer, err := peek(DomainEnrollment, proof.Envelope, MaxEnrollment)
	if err != nil {
		return fail(err)
	}
	var m wire.Enrollment
	if err := proto.Unmarshal(env.Payload, &m); err != nil {
		return fail(fmt.Errorf("%w: enrollment: %w", signalbox.ErrInvalid, err))
	}
	if err := checkEnrollment(&m, signer); err != nil {
		return fail(err)
	}
	key := func(signalbox.Identity) ed25519.PublicKey { return m.PublicKey }
	if _, _, err := Open(DomainEnrollment, cluster, proof.Envelope, MaxEnrollment, key); err != nil {
		return fail(err)
	}
	leaf, err := vouched("agent", DomainEnrollment, cluster, proof.Envelope, proof.AgentCertificate, proof.AgentSignature)
	if err != nil {
		return fail(err)
	}
	in := signalbox.Instance{
		Service: signalbox.Service(m.Service), DataCenter: signalbox.DataCenter(m.DataCenter), Name: m.Name,
		Identity: signer, PublicKey: m.PublicKey,
	}
	return in, leaf, time.Unix(0, m.AtUnixNano), nil
}

func admissionFromWire(m *wire.Admission) (*signalbox.Admission, error) {
	if len(m.GetEnrollment()) > MaxEnrollment {
		return nil, fmt.Errorf("%w: enrollment has %d bytes", signalbox.ErrInvalid, len(m.GetEnrollment()))
	}
	var proof wire.EnrollmentProof
	if err := proto.Unmarshal(m.GetEnrollment(), &proof); err != nil {
		return nil, fmt.Errorf("%w: enrollment: %w", signalbox.ErrInvalid, err)
	}
	env, signer, err := peek(DomainEnrollment, proof.Envelope, MaxEnrollment)
	if err != nil {
		return nil, err
	}
	var e wire.Enrollment
	if err := proto.Unmarshal(env.Payload, &e); err != nil {
		return nil, fmt.Errorf("%w: enrollment: %w", signalbox.ErrInvalid, err)
	}
	if err := checkEnrollment(&e, signer); err != nil {
		return nil, err
	}
	return &signalbox.Admission{
		Instance: signalbox.Instance{
			Service: signalbox.Service(e.Service), DataCenter: signalbox.DataCenter(e.DataCenter),
			Name: e.Name, Identity: signer, PublicKey: e.PublicKey,
		},
		Term: signalbox.Term(m.GetTerm()), Enrollment: m.GetEnrollment(),
	}, nil
}

// checkEnrollment checks the form of an enrollment that the identity signed.
func checkEnrollment(m *wire.Enrollment, signer signalbox.Identity) error {
	for what, name := range map[string]string{"service": m.Service, "data center": m.DataCenter, "instance": m.Name} {
		if err := signalbox.CheckName(what, name); err != nil {
			return err
		}
	}
	if len(m.PublicKey) != ed25519.PublicKeySize || IdentityOf(m.PublicKey) != signer {
		return fmt.Errorf("%w: enrollment's public key is not the signer's", signalbox.ErrUntrusted)
	}
	return nil
}
