package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Files are the paths of a process's TLS identity, PEM.
type Files struct {
	Certificate, Key, CA string
}

// A Keeper holds a process's TLS identity and reads it again when the files
// change, so that certificates are rotated without a restart. Safe for
// concurrent use.
type Keeper struct {
	cluster string
	files   Files

	mu      sync.Mutex
	checked time.Time
	stamp   [3]time.Time
	cert    *tls.Certificate
	roots   *x509.CertPool
	self    Principal
	problem error
	seen    map[Principal]time.Time // ends of others' certificates
}

// recheck is how often, at most, the files' times are looked at.
const recheck = time.Second

// NewKeeper reads the files; the certificate must be of this cluster.
func NewKeeper(cluster string, files Files) (*Keeper, error) {
	k := &Keeper{cluster: cluster, files: files}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Keeper) load() error {
	stamp := k.times() // before reading: what changes meanwhile is read again
	cert, err := tls.LoadX509KeyPair(k.files.Certificate, k.files.Key)
	if err != nil {
		return fmt.Errorf("read TLS identity: %w", err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return fmt.Errorf("read TLS identity %s: %w", k.files.Certificate, err)
	}
	cert.Leaf = leaf
	self, err := PrincipalOf(leaf)
	if err != nil {
		return fmt.Errorf("read TLS identity %s: %w", k.files.Certificate, err)
	}
	if self.Cluster != k.cluster {
		return fmt.Errorf("read TLS identity %s: %w: certificate of cluster %q, configured is %q", k.files.Certificate, signalbox.ErrUntrusted, self.Cluster, k.cluster)
	}
	if k.cert != nil && self != k.self {
		return fmt.Errorf("read TLS identity %s: %w: certificate of %s in the place of %s", k.files.Certificate, signalbox.ErrUntrusted, self, k.self)
	}
	pem, err := os.ReadFile(k.files.CA)
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read CA %s: %w: no PEM certificate in it", k.files.CA, signalbox.ErrInvalid)
	}
	k.cert, k.roots, k.self, k.stamp = &cert, roots, self, stamp
	return nil
}

func (k *Keeper) times() (t [3]time.Time) {
	for i, name := range []string{k.files.Certificate, k.files.Key, k.files.CA} {
		if info, err := os.Stat(name); err == nil {
			t[i] = info.ModTime()
		}
	}
	return t
}

// current returns certificate and roots, read again when the files changed. A
// half-written rotation keeps the old identity until it is whole.
func (k *Keeper) current() (*tls.Certificate, *x509.CertPool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.checked) >= recheck {
		k.checked = now
		if k.times() != k.stamp {
			k.problem = k.load() // the old identity stays until the new one is readable
		}
	}
	return k.cert, k.roots
}

// Self returns who this process is.
func (k *Keeper) Self() Principal {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.self
}

// Problem returns why the files, which have changed, could not be taken; nil
// when what the Keeper holds is what they say.
func (k *Keeper) Problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.problem
}

// Certificate returns the current certificate with its key.
func (k *Keeper) Certificate() tls.Certificate { c, _ := k.current(); return *c }

// Roots returns the cluster's CA pool.
func (k *Keeper) Roots() *x509.CertPool { _, r := k.current(); return r }

// Server returns a TLS configuration that demands a client certificate of this
// cluster.
func (k *Keeper) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots := k.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
				Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
				VerifyConnection: func(s tls.ConnectionState) error { return k.check(s.PeerCertificates, "") },
			}, nil
		},
	}
}

// Client returns a TLS configuration that presents this process's certificate
// and accepts only a server of this cluster with the given role.
func (k *Keeper) Client(role Role) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS12,
		InsecureSkipVerify:   true, //nolint:gosec // names are SPIFFE URIs, not hosts: VerifyConnection chains and checks them.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { c, _ := k.current(); return c, nil },
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("server sent no certificate")
			}
			_, roots := k.current()
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			if err != nil {
				return fmt.Errorf("verify server: %w", err)
			}
			return k.check(s.PeerCertificates, role)
		},
	}
}

func (k *Keeper) check(chain []*x509.Certificate, role Role) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: no certificate", signalbox.ErrUntrusted)
	}
	p, err := PrincipalOf(chain[0])
	if err != nil {
		return err
	}
	if p.Cluster != k.cluster {
		return fmt.Errorf("%w: certificate of cluster %q, this is %q", signalbox.ErrUntrusted, p.Cluster, k.cluster)
	}
	if role != "" && p.Role != role {
		return fmt.Errorf("%w: %s is no %s", signalbox.ErrUntrusted, p, role)
	}
	k.note(p, chain[0])
	return nil
}
