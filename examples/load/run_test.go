package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server of HTTP/1.1 and h2c.
func serve(t *testing.T, handler http.HandlerFunc, conns *atomic.Int64) Target {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if conns != nil && state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return Target{Name: "east-1", URL: server.URL}
}

// master answers as an instance does.
func master(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-served-by", "orders-east-1")
	w.Header().Set("x-served-term", "7")
	_, _ = io.Copy(w, r.Body)
}

func generator(t *testing.T, config Config) *Generator {
	t.Helper()
	g, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func run(t *testing.T, ctx context.Context, g *Generator) {
	t.Helper()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// Rule: the configured rate, mix and protocol, every request with one whole
// record, and connections that are reused.
func TestRunRecordsEveryRequest(t *testing.T) {
	for _, protocol := range []Protocol{HTTP1, H2C} {
		t.Run(string(protocol), func(t *testing.T) {
			var conns, asked, slow, posts, wrongProtocol atomic.Int64
			target := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if r.URL.Query().Get("slow") == "10ms" {
					slow.Add(1)
				}
				if r.Method == http.MethodPost {
					posts.Add(1)
				}
				if (r.ProtoMajor == 2) != (protocol == H2C) {
					wrongProtocol.Add(1)
				}
				master(w, r)
			}, &conns)
			config := Default(2000, target, target)
			config.Protocol, config.Duration = protocol, 200*time.Millisecond
			config.SlowFraction, config.SlowFor = 0.1, 10*time.Millisecond
			config.Connections = 8
			g := generator(t, config)
			run(t, t.Context(), g)

			var log bytes.Buffer
			if err := g.WriteLog(&log); err != nil {
				t.Fatal(err)
			}
			var n, slowLogged, postsLogged int64
			for decoder := json.NewDecoder(&log); ; n++ {
				var r Record
				if err := decoder.Decode(&r); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprintf("%s-%d", config.Prefix, n); r.ID != want {
					t.Fatalf("record %d is %s, want %s", n, r.ID, want)
				}
				if want := g.tape.at(0).sched + n*int64(500*time.Microsecond); r.Sched != want {
					t.Fatalf("record %d was due at %d, want %d: latency counts from the plan, not from the start", n, r.Sched, want)
				}
				if r.Failed() || r.Status != 200 || r.Instance != "orders-east-1" || r.Term != 7 || r.Target != "east-1" ||
					r.Sched > r.Begin || r.Begin > r.End {
					t.Fatalf("record %+v", r)
				}
				if r.Slow {
					slowLogged++
				}
				if r.Method == http.MethodPost {
					postsLogged++
				}
			}
			if n != 400 || asked.Load() != 400 || slow.Load() != slowLogged || posts.Load() != postsLogged {
				t.Errorf("%d records of %d requests; %d of %d slow, %d of %d posts", n, asked.Load(), slowLogged, slow.Load(), postsLogged, posts.Load())
			}
			if slowLogged < 10 || slowLogged > 80 || postsLogged < 140 || postsLogged > 260 {
				t.Errorf("mix of %d slow and %d posts in 400", slowLogged, postsLogged)
			}
			// With HTTP/2 the client dials several times before it knows that
			// one connection is enough.
			most := map[Protocol]int64{HTTP1: 8, H2C: 40}[protocol]
			if conns.Load() > most || wrongProtocol.Load() > 0 {
				t.Errorf("%d connections, %d requests over the wrong protocol", conns.Load(), wrongProtocol.Load())
			}
			if got := g.Stats(); got != (Stats{Scheduled: 400, Answered: 400}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Rule: requests start when due although nothing is answered (open loop), and
// latency counts from when they were due.
func TestOpenLoop(t *testing.T) {
	const parked = 50
	var inside, conns atomic.Int64
	enough, release := make(chan struct{}), make(chan struct{})
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == parked {
			close(enough)
		}
		<-release
		master(w, r)
	}, &conns)
	config := Default(1000, target)
	config.SlowFraction = 0
	g := generator(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	<-enough // a closed loop would never get here
	released := Now()
	close(release)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	report := g.Report(Window{})
	first := g.tape.at(0)
	if report.Total < parked || report.Failed != 0 || first.end-first.sched < released-first.sched || report.MaxMs < 49 {
		t.Errorf("%+v", report)
	}
}

// Rule: connections are bounded; what waits for one is late, not lost.
func TestConnectionsAreBounded(t *testing.T) {
	var conns atomic.Int64
	full, release := make(chan struct{}), make(chan struct{})
	var inside atomic.Int64
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == 3 {
			close(full)
		}
		<-release
		master(w, r)
	}, &conns)
	config := Default(1000, target)
	config.SlowFraction, config.Connections, config.Duration = 0, 3, 50*time.Millisecond
	g := generator(t, config)
	go func() {
		<-full
		for g.Stats().Scheduled < 50 {
			pause(context.Background(), Now()+int64(time.Millisecond))
		}
		close(release)
	}()
	run(t, t.Context(), g)
	if report := g.Report(Window{}); report.Total != 50 || report.Failed != 0 || conns.Load() != 3 {
		t.Errorf("%d connections, %+v", conns.Load(), report)
	}
}

// Rule: failed is no response, any 5xx, or a POST answered without its id.
func TestFailures(t *testing.T) {
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		post    float64
		failed  int
		reason  string
	}{
		"server error":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 0, 10, "status 503"},
		"not found":     {http.NotFound, 0, 0, ""},
		"without id":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, 1, 10, "answered without its id: status 201"},
		"refused write": {http.NotFound, 1, 10, "answered without its id: status 404"},
		"no response":   {hangUp, 1, 10, "EOF"},
		"cut body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("short"))
		}, 0, 10, "body: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Default(1000, serve(t, c.handler, nil))
			config.Duration, config.PostFraction, config.SlowFraction = 10*time.Millisecond, c.post, 0
			g := generator(t, config)
			run(t, t.Context(), g)
			report := g.Report(Window{})
			if report.Total != 10 || report.Failed != c.failed || (c.failed > 0 && report.Failures[c.reason] != c.failed) {
				t.Errorf("%+v", report)
			}
		})
	}
}

// Rule: when the context ends nothing new starts, and what is in flight is
// answered.
func TestCancelLetsRequestsFinish(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		master(w, r)
	}, nil)
	config := Default(100, target)
	config.SlowFraction = 0
	g := generator(t, config)
	run(t, ctx, g)
	if report := g.Report(Window{}); report.Total < 1 || report.Failed != 0 {
		t.Errorf("%+v", report)
	}
	if err := g.Run(t.Context()); err == nil {
		t.Error("it ran twice")
	}
}

// Rule: what is still in flight after the grace is cut and failed.
func TestGraceCutsRequests(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}, nil)
	config := Default(100, target)
	config.Grace, config.PostFraction = 0, 0
	g := generator(t, config)
	run(t, ctx, g)
	report := g.Report(Window{})
	if report.Total < 1 || report.Failed != report.Total || report.Failures["cut off at the end of the load"] != report.Total {
		t.Errorf("%+v", report)
	}
}

// Rule: memory in flight is bounded; what is due beyond it counts as failed.
func TestInFlightIsBounded(t *testing.T) {
	release := make(chan struct{})
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		master(w, r)
	}, nil)
	config := Default(1000, target)
	config.InFlight, config.Duration, config.SlowFraction = 2, 20*time.Millisecond, 0
	g := generator(t, config)
	go func() {
		for g.Stats().Scheduled < 20 {
			pause(context.Background(), Now()+int64(time.Millisecond))
		}
		close(release)
	}()
	run(t, t.Context(), g)
	if report := g.Report(Window{}); report.Total != 20 || report.Failures["not sent: too many in flight"] < 17 {
		t.Errorf("%+v", report)
	}
}

// Rule: a wrong configuration is refused in words.
func TestConfigIsChecked(t *testing.T) {
	good := Target{Name: "a", URL: "http://127.0.0.1:1"}
	for want, change := range map[string]func(*Config){
		"targets":     func(c *Config) { c.Targets = nil },
		"rate":        func(c *Config) { c.Rate = 0 },
		"prefix":      func(c *Config) { c.Prefix = "" },
		"fractions":   func(c *Config) { c.SlowFraction = 1.1 },
		"protocol":    func(c *Config) { c.Protocol = "smoke" },
		"connections": func(c *Config) { c.Connections = MaxConnections + 1 },
		"in flight":   func(c *Config) { c.InFlight = 0 },
		"timeout":     func(c *Config) { c.Timeout = 0 },
		"http://":     func(c *Config) { c.Targets = []Target{{URL: "https://x"}} },
	} {
		config := Default(10, good)
		change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
