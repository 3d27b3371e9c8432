package rpc

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// vouch has the TLS key of an agent or operator (who) sign an envelope, and returns
// its certificate with the signature: whoever knows the cluster's CA can check that
// it let this one speak.
func vouch(who string, domain Domain, cluster string, envelope []byte, by tls.Certificate) (certificate, signature []byte, err error) {
	key, ok := by.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || len(by.Certificate) == 0 {
		return nil, nil, fmt.Errorf("%w: the %s's TLS key is no ECDSA key", signalbox.ErrInvalid, who)
	}
	sum := sha256.Sum256(SigningInput(domain, cluster, envelope))
	signature, err = ecdsa.SignASN1(rand.Reader, key, sum[:])
	return by.Certificate[0], signature, err
}

// vouched verifies such a signature and returns the certificate of the key that
// made it. Whether the cluster's CA signed that, and for whom, is the caller's to
// check.
func vouched(who string, domain Domain, cluster string, envelope, certificate, signature []byte) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: %s's certificate: %w", signalbox.ErrInvalid, who, err)
	}
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(SigningInput(domain, cluster, envelope))
	if !ok || !ecdsa.VerifyASN1(public, sum[:], signature) {
		return nil, fmt.Errorf("%w: the signature of the %s's TLS key does not fit", signalbox.ErrUntrusted, who)
	}
	return leaf, nil
}
