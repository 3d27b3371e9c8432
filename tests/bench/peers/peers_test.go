package peers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// backend answers every request with the name of its data center.
func backend(t *testing.T, dc string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, dc)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func ask(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestEachPeerSwitches guards that the comparison is with working peers: each serves east, then west, then east again,
// on every proxy, with one backend or two a side.
func TestEachPeerSwitches(t *testing.T) {
	for _, kind := range All() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			o := Options{
				Ports: []int{0, 0},
				East:  []string{backend(t, East), backend(t, East)},
				West:  []string{backend(t, West)},
			}
			peer, err := kind.Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := peer.Close(); err != nil {
					t.Error(err)
				}
				gone(t, peer)
			}()
			if n := len(peer.Targets()); n != 2 {
				t.Fatalf("%d targets, want 2", n)
			}
			serves(t, peer, East)
			for _, to := range []string{West, East} {
				if err := peer.Switch(t.Context(), to); err != nil {
					t.Fatal(err)
				}
				serves(t, peer, to)
			}
			if err := peer.Switch(t.Context(), "north"); !errors.Is(err, ErrUnknownDataCenter) {
				t.Errorf("switch to north: %v, want %v", err, ErrUnknownDataCenter)
			}
		})
	}
}

// serves waits until dc answers on every proxy. Envoy's workers take the routes a moment after its main thread reports them.
func serves(t *testing.T, peer Peer, dc string) {
	t.Helper()
	for _, target := range peer.Targets() {
		deadline := time.Now().Add(time.Minute)
		for got := ask(t, target); got != dc; got = ask(t, target) {
			if time.Now().After(deadline) {
				t.Fatalf("%s answers %q, want %s", target, got, dc)
			}
		}
	}
}

// gone guards that Close leaves no process behind and no files.
func gone(t *testing.T, peer Peer) {
	t.Helper()
	f := peer.(*fleet)
	for _, target := range peer.Targets() {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(target, "http://"), time.Second)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s still listens after Close", target)
		}
	}
	if _, err := os.Stat(f.dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there after Close: %v", f.dir, err)
	}
}

// TestBadOptions guards that what a peer is given is checked before anything starts.
func TestBadOptions(t *testing.T) {
	good := []string{"http://127.0.0.1:1"}
	for name, o := range map[string]Options{
		"no west":  {East: good},
		"no port":  {East: good, West: []string{"http://127.0.0.1"}},
		"not http": {East: good, West: []string{"tcp://127.0.0.1:1"}},
		"long dir": {East: good, West: good, Dir: longDir(t)},
	} {
		if peer, err := startMap(t.Context(), o); err == nil {
			t.Errorf("%s: started", name)
			_ = peer.Close()
		}
	}
}

func longDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir() + "/" + strings.Repeat("x", 90)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestStartFails guards that a proxy that does not come up is an error with its own words, and leaves nothing behind.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	good := []string{"http://127.0.0.1:1"}
	dir := t.TempDir()
	for _, kind := range All() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		peer, err := kind.Start(ctx, Options{Ports: []int{port}, East: good, West: good, Dir: dir})
		cancel()
		if err == nil {
			t.Errorf("%s started on a port that is taken", kind.Name)
			_ = peer.Close()
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
