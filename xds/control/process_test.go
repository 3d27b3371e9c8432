package control_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/rpc/ports"
	"github.com/signalbox-io/signalbox/xds/resource"
)

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

// block is where this process's tests take ports for Envoy's listeners from.
var block struct {
	sync.Mutex
	*ports.Block
}

// freePort returns a port that nobody uses or will be given, for a listener of
// Envoy's.
func freePort(t testing.TB) uint32 {
	t.Helper()
	block.Lock()
	defer block.Unlock()
	if block.Block != nil {
		if port, err := block.Ports(1); err == nil {
			return uint32(port)
		}
		block.Close()
	}
	var err error
	block.Block, err = ports.Take()
	must(t, err)
	port, err := block.Ports(1)
	must(t, err)
	return uint32(port)
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
