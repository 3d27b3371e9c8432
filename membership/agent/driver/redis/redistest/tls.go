package redistest

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
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// Files of the lab's TLS: who signed, and a certificate for loopback that servers
// and clients share.
const (
	caFile   = "ca.pem"
	certFile = "cert.pem"
	keyFile  = "key.pem"
)

// Encrypt makes the lab's certificates.
func (l *Lab) Encrypt() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		caFile: {Type: "CERTIFICATE", Bytes: cert}, certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		path := filepath.Join(l.Dir, name)
		if err := errors.Join(os.WriteFile(path, pem.EncodeToMemory(block), 0o600), l.Own(path)); err != nil {
			return err
		}
	}
	return nil
}

// Encrypted has a node's server speak TLS only, with client certificates.
func (n *Node) Encrypted() error {
	raw, err := os.ReadFile(n.File())
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(n.Lab.Dir, name) }
	text := string(raw) + "port 0\ntls-port " + strconv.Itoa(n.Port) + "\ntls-cert-file " + path(certFile) + "\ntls-key-file " + path(keyFile) +
		"\ntls-ca-cert-file " + path(caFile) + "\ntls-auth-clients yes\n"
	return os.WriteFile(n.File(), []byte(text), 0o600)
}

// TLS adds the lab's certificates to a login.
func (l *Lab) TLS(login redis.Login) redis.Login {
	login.CA, login.Cert, login.Key = filepath.Join(l.Dir, caFile), filepath.Join(l.Dir, certFile), filepath.Join(l.Dir, keyFile)
	return login
}
