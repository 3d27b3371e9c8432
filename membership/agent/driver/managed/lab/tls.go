package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"time"
)

// authority signs a lab's certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // serial number
}

// Certificate is the files of one certificate, PEM.
type Certificate struct{ CA, Cert, Key string }

// Issue makes a certificate for servers and clients below the lab's directory.
// name is its subject; hosts are the names and addresses that it is good for. Its
// CA is the lab's own, the same each time.
func (l *Lab) Issue(name string, hosts ...string) (Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := Certificate{CA: l.Path("ca.pem"), Cert: l.Path(name + ".pem"), Key: l.Path(name + ".key")}
	if l.ca == nil {
		ca, err := newAuthority()
		if err != nil {
			return out, err
		}
		if err := l.Write(out.CA, encoded("CERTIFICATE", ca.cert.Raw)); err != nil {
			return out, err
		}
		l.ca = ca
	}
	l.ca.last++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(l.ca.last), Subject: pkix.Name{CommonName: name}, NotBefore: l.ca.cert.NotBefore, NotAfter: l.ca.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, err
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, l.ca.cert, key.Public(), l.ca.key)
	if err != nil {
		return out, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return out, err
	}
	return out, errors.Join(l.Write(out.Cert, encoded("CERTIFICATE", cert)), l.Write(out.Key, encoded("PRIVATE KEY", private)))
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	return &authority{cert: cert, key: key, last: 1}, err
}

func encoded(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}
