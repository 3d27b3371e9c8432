package guard

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// leaseFor gives the gate a lease that lasts so long from now; less than nothing
// is one that is over.
func leaseFor(t testing.TB, g *Gate, term signalbox.Term, d time.Duration) {
	t.Helper()
	order := driver.LeaseOrder{Service: "orders", Term: term, Deadline: time.Now().Add(d), Boot: driver.BootTime() + d}
	if err := g.Lease(t.Context(), order); err != nil {
		t.Fatal(err)
	}
}

// expire ends the gate's lease now, as if time had passed.
func expire(g *Gate) {
	t := *g.tenure.Load()
	t.deadline = g.clock.now()
	g.tenure.Store(&t)
}

func serve(g *Gate, f http.HandlerFunc) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	g.Wrap(f).ServeHTTP(w, get("7"))
	return w
}

func leasedGate(t testing.TB) *Gate {
	g := New(Options{})
	leaseFor(t, g, 7, time.Hour)
	promote(t, g, 7)
	return g
}

// Past its lease the gate admits nothing, by itself; a new lease opens it again.
func TestLeaseAtEntry(t *testing.T) {
	g := leasedGate(t)
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }
	if w := serve(g, ok); w.Code != 200 || w.Body.String() != "done" {
		t.Errorf("live: %d %q", w.Code, w.Body)
	}
	expire(g)
	served := false
	w := serve(g, func(http.ResponseWriter, *http.Request) { served = true })
	if w.Code != 503 || w.Header().Get(signalbox.HeaderNotMaster) != "7" || served {
		t.Errorf("over: %d %v, served %t", w.Code, w.Header(), served)
	}
	if s, _ := g.Status(t.Context()); s.Master || g.Live() {
		t.Error("over, and says that it is master")
	}
	leaseFor(t, g, 7, time.Hour)
	if w := serve(g, ok); w.Code != 200 {
		t.Errorf("renewed: %d", w.Code)
	}
	promote(t, g, 9) // a term without leases
	expire(g)
	if w := serve(g, ok); w.Code != 200 {
		t.Errorf("a term without leases: %d", w.Code)
	}
}

// A later deadline replaces an earlier one, never the other way; a lease of an
// older term is refused.
func TestLeaseOrder(t *testing.T) {
	g := leasedGate(t)
	deadline := g.tenure.Load().deadline
	leaseFor(t, g, 7, time.Minute)
	if g.tenure.Load().deadline != deadline {
		t.Error("an earlier deadline took the place of a later one")
	}
	if err := g.Lease(t.Context(), driver.LeaseOrder{Term: 6, Deadline: time.Now(), Boot: driver.BootTime()}); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("lease of an older term: %v", err)
	}
}

// A promotion to a term that uses leases needs a live one: it may have been given
// to another process.
func TestPromotionNeedsLease(t *testing.T) {
	g := New(Options{})
	order := driver.Promotion{Service: "orders", Term: 7, Leased: true}
	if err := g.Promote(t.Context(), order); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("without: %v", err)
	}
	leaseFor(t, g, 7, time.Hour)
	if err := g.Promote(t.Context(), order); err != nil {
		t.Errorf("with: %v", err)
	}
	expire(g)
	if err := g.Promote(t.Context(), order); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("run out: %v", err)
	}
}

// What a handler answers after the lease has run out goes out as 504, not as what
// it says, and not as "not processed".
func TestLateReply(t *testing.T) {
	for name, f := range map[string]func(g *Gate, w http.ResponseWriter){
		"written before": func(g *Gate, w http.ResponseWriter) {
			w.Header().Set("Secret", "x")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, "done")
			expire(g)
		},
		"written after": func(g *Gate, w http.ResponseWriter) {
			expire(g)
			_, _ = w.Write([]byte("done"))
		},
		"nothing written": func(g *Gate, _ http.ResponseWriter) { expire(g) },
		"flushed after": func(g *Gate, w http.ResponseWriter) {
			expire(g)
			if err := http.NewResponseController(w).Flush(); !errors.Is(err, ErrLeaseOver) {
				t.Errorf("flushed: %v", err)
			}
		},
		"a large body after": func(g *Gate, w http.ResponseWriter) {
			expire(g)
			if _, err := w.Write(make([]byte, maxHeld+1)); !errors.Is(err, ErrLeaseOver) {
				t.Errorf("written: %v", err)
			}
		},
	} {
		g := leasedGate(t)
		w := serve(g, func(w http.ResponseWriter, _ *http.Request) { f(g, w) })
		if w.Code != 504 || w.Header().Get(signalbox.HeaderNotMaster) != "" || w.Header().Get("Secret") != "" || strings.Contains(w.Body.String(), "done") {
			t.Errorf("%s: %d %v %q", name, w.Code, w.Header(), w.Body)
		}
		if g.Counts().Late != 1 {
			t.Errorf("%s: %d late replies counted", name, g.Counts().Late)
		}
		if s, _ := g.Status(t.Context()); s.InFlight != 0 {
			t.Errorf("%s: %d in flight", name, s.InFlight)
		}
	}
}

// A reply of which part went out is cut, so that nobody takes it for the whole.
func TestLateStream(t *testing.T) {
	g := leasedGate(t)
	server := httptest.NewServer(g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		expire(g)
		if _, err := io.WriteString(w, "second"); err == nil {
			t.Error("written past the lease")
		}
	})))
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil || string(body) != "first" {
		t.Errorf("read %q, %v: want a broken reply", body, err)
	}
}

// Replies that keep within the lease are what the handler wrote, whatever way.
func TestReplyPasses(t *testing.T) {
	g := leasedGate(t)
	large := strings.Repeat("x", 3*maxHeld)
	server := httptest.NewServer(g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			for i := 0; i < len(large); i += 1000 {
				_, _ = w.Write([]byte(large[i:min(i+1000, len(large))]))
			}
		case "/status":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		case "/hijack":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = conn.Close()
		}
	})))
	defer server.Close()
	for path, want := range map[string]struct {
		code int
		body string
	}{"/large": {200, large}, "/status": {418, ""}, "/hijack": {202, ""}, "/nothing": {200, ""}} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want.code || string(body) != want.body {
			t.Errorf("%s: %d, %d bytes, %v", path, resp.StatusCode, len(body), err)
		}
	}
}

// The clock that is read once costs nothing and shows what the system shows.
func TestClock(t *testing.T) {
	c := clock{epoch: time.Now()}
	for range 3 {
		before := driver.BootTime()
		i := c.now()
		if after := driver.BootTime(); i.Boot < before-steady || i.Boot > after+steady {
			t.Errorf("boot time %s, want %s to %s", i.Boot, before, after)
		}
	}
	o := *c.offset.Load()
	c.offset.Store(&offset{boot: o.boot - time.Hour, wall: o.wall - time.Hour}) // as after an hour of sleep
	if i := c.now(); i.Boot < driver.BootTime()-time.Minute {
		t.Error("a suspension is not noticed")
	}
}

// The bounds of the hot path hold with leases, too.
func TestLeasedGuardDoesNotAllocate(t *testing.T) {
	g := leasedGate(t)
	h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }))
	w, r := discard{http.Header{}}, get("7")
	h.ServeHTTP(w, r)
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n >= 1 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}

func BenchmarkGuardLeased(b *testing.B) {
	g := leasedGate(b)
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.ReportAllocs()
	w, r := discard{http.Header{}}, get("7")
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
