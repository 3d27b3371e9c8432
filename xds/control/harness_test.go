package control_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// patience is how long a test waits for something that must happen. It is
// never slept through: every wait ends with its condition.
const patience = time.Minute

const testCluster = "test"

// findEnvoy looks at $ENVOY, the PATH and .tools, in this order. A missing
// Envoy fails the test: what tests need is installed by make tools.
func findEnvoy(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("ENVOY"); path != "" {
		return path
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path
	}
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(file), "..", "..", ".tools", "envoy", "envoy", "_bin", "envoy")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Envoy: set $ENVOY, put envoy on the PATH, or run: make tools")
	}
	return path
}

// pki issues the certificates of one test.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	p := &pki{dir: t.TempDir(), cert: cert, key: key, pool: x509.NewCertPool()}
	p.pool.AddCert(cert)
	must(t, os.WriteFile(filepath.Join(p.dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return p
}

// issue returns a key pair for a SPIFFE URI, and the files that hold it.
func (p *pki) issue(t testing.TB, uri string) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	u, err := url.Parse(uri)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{u}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, &key.PublicKey, p.key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	base := filepath.Join(p.dir, strings.NewReplacer("/", "_", ":", "_").Replace(uri))
	certFile, keyFile = base+".pem", base+".key"
	must(t, os.WriteFile(certFile, certPEM, 0o600))
	must(t, os.WriteFile(keyFile, keyPEM, 0o600))
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	return pair, certFile, keyFile
}

// gateway is an xDS server as the gateway would wire it.
type gateway struct {
	t      testing.TB
	server *control.Server
	grpc   *grpc.Server
	addr   string
	once   sync.Once

	mu     sync.Mutex
	events []control.Event
	notify chan struct{}
}

// startGateway serves on addr; "" picks a port.
func startGateway(t testing.TB, p *pki, addr string, change ...func(*control.Options)) *gateway {
	t.Helper()
	g := &gateway{t: t, notify: make(chan struct{})}
	opts := control.Options{
		Authorize: control.SPIFFE(testCluster), OnEvent: g.event, Logger: zerolog.Nop(),
		LoadInterval: 100 * time.Millisecond,
	}
	for _, f := range change {
		f(&opts)
	}
	server, err := control.New(opts)
	must(t, err)
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	pair, _, _ := p.issue(t, "spiffe://"+testCluster+"/gateway/east/gw")
	creds := credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: p.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	})
	g.server, g.grpc = server, grpc.NewServer(append(control.GRPCOptions(opts.Limits), grpc.Creds(creds))...)
	server.Register(g.grpc)
	l, err := net.Listen("tcp", addr)
	must(t, err)
	g.addr = l.Addr().String()
	go func() { _ = g.grpc.Serve(l) }()
	t.Cleanup(g.stop)
	return g
}

// stop ends the gateway as kill would: connections are cut.
func (g *gateway) stop() {
	g.once.Do(func() {
		g.grpc.Stop()
		g.server.Close()
	})
}

func (g *gateway) event(e control.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
	close(g.notify)
	g.notify = make(chan struct{})
}

// await returns the first event for which match holds, old ones included.
func await[E control.Event](g *gateway, what string, match func(E) bool) E {
	g.t.Helper()
	deadline := time.After(patience)
	for at := 0; ; {
		g.mu.Lock()
		events, notify := g.events[at:], g.notify
		at = len(g.events)
		g.mu.Unlock()
		for _, e := range events {
			if typed, ok := e.(E); ok && match(typed) {
				return typed
			}
		}
		select {
		case <-notify:
		case <-deadline:
			g.t.Fatalf("waited in vain for %s; events: %v", what, g.events)
		}
	}
}

func (g *gateway) awaitRoute(proxy string, term uint64) {
	g.t.Helper()
	await(g, fmt.Sprintf("%s to acknowledge term %d", proxy, term), func(e control.RouteAcknowledged) bool {
		return e.Proxy == proxy && e.Term == term
	})
}

// awaitWaiting waits until the proxy has asked for a name that is held: a
// request is parked under it.
func (g *gateway) awaitWaiting(proxy, service string, term uint64) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%s to wait for %s@%d", proxy, service, term), func() bool {
		for _, p := range g.server.Proxies() {
			for _, s := range p.Services {
				for _, w := range s.Waiting {
					if p.ID == proxy && s.Service == service && w == term {
						return true
					}
				}
			}
		}
		return false
	})
}

func (g *gateway) set(s resource.Service) {
	g.t.Helper()
	must(g.t, g.server.Set(s))
}

// eventually polls a condition that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for !ok() {
		select {
		case <-pace.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
