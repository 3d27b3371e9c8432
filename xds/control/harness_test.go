package control_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
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
const patience = 20 * time.Second

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

// envoyProcess is a real Envoy.
type envoyProcess struct {
	t         testing.TB
	id        string
	bootstrap []byte
	log       *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func proxyOptions(t testing.TB, p *pki, name string, gateways ...string) resource.BootstrapOptions {
	t.Helper()
	o := resource.BootstrapOptions{
		Cluster: testCluster, DataCenter: "east", Name: name, Gateways: gateways, CAFile: filepath.Join(p.dir, "ca.pem"),
	}
	_, o.CertFile, o.KeyFile = p.issue(t, resource.ProxyURI(testCluster, o.NodeID()))
	return o
}

// startEnvoy runs Envoy with this bootstrap until the test ends.
func startEnvoy(t testing.TB, id string, bootstrap []byte) *envoyProcess {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.json")
	must(t, os.WriteFile(file, bootstrap, 0o600))
	e := &envoyProcess{t: t, id: id, bootstrap: bootstrap, log: &lockedBuffer{}}
	cmd := exec.Command(findEnvoy(t), "-c", file, "--disable-hot-restart", "--concurrency", "2",
		"--log-level", envOr("ENVOY_LOG_LEVEL", "warning"), "--drain-time-s", "1")
	cmd.Stdout, cmd.Stderr = e.log, e.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("envoy %s said:\n%s", id, e.log.String())
		}
	})
	return e
}

// startProxy runs an Envoy of data center east that follows these gateways.
func startProxy(t testing.TB, p *pki, name string, gateways ...string) *envoyProcess {
	t.Helper()
	o := proxyOptions(t, p, name, gateways...)
	b, err := resource.Bootstrap(o)
	must(t, err)
	return startEnvoy(t, o.NodeID(), b)
}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// instance is an HTTP backend that says who it is and what it was asked.
func startInstance(t testing.TB, name string, handler http.HandlerFunc) resource.Endpoint {
	t.Helper()
	if handler == nil {
		handler = func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%s term=%s read=%d proto=%d", name, r.Header.Get(resource.TermHeader), n, r.ProtoMajor)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: handler, Protocols: protocols, ReadHeaderTimeout: patience}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return endpointOf(l)
}

func endpointOf(l net.Listener) resource.Endpoint {
	addr := l.Addr().(*net.TCPAddr)
	return resource.Endpoint{Address: addr.IP.String(), Port: uint32(addr.Port)}
}

// freePort returns a port that nobody uses, for a listener of Envoy's.
func freePort(t testing.TB) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return endpointOf(l).Port
}

// awaitListening waits until Envoy accepts on a port: its listener is warm.
func awaitListening(t testing.TB, port uint32) {
	t.Helper()
	eventually(t, fmt.Sprintf("a listener on port %d", port), func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// answer is what a client got.
type answer struct {
	status int
	body   string
	err    error
}

func (a answer) String() string { return fmt.Sprintf("%d %q %v", a.status, a.body, a.err) }

func call(client *http.Client, method, url string, body io.Reader) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set(resource.TermHeader, "999") // what a client sends must not count
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, body: string(b), err: err}
}

// park sends a request that is expected to be held.
func park(client *http.Client, method, url string, body io.Reader) <-chan answer {
	done := make(chan answer, 1)
	go func() { done <- call(client, method, url, body) }()
	return done
}

func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
