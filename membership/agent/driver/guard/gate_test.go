package guard

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

func promote(t testing.TB, g *Gate, term signalbox.Term) {
	t.Helper()
	if err := g.Promote(context.Background(), driver.Promotion{Term: term}); err != nil {
		t.Fatal(err)
	}
}

func stepDown(t testing.TB, g *Gate, term signalbox.Term) {
	t.Helper()
	if _, err := g.StepDown(context.Background(), driver.StepDown{Term: term}); err != nil {
		t.Fatal(err)
	}
}

func get(term string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if term != "" {
		r.Header.Set(signalbox.HeaderTerm, term)
	}
	return r
}

// Rule 4: once drained, nothing is in flight and nothing gets in, however many
// requests race with the closing.
func TestNothingInFlightAfterDrained(t *testing.T) {
	g := New(Options{})
	var inside, bad, served atomic.Int64
	var drained atomic.Bool
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside.Add(1)
		if drained.Load() {
			bad.Add(1)
		}
		for range 50 { // be inside for a moment without a clock
			_ = inside.Load()
		}
		inside.Add(-1)
		served.Add(1)
	}))
	g.Hold(time.Hour, 0)
	promote(t, g, 1)
	ctx, stop := context.WithCancel(context.Background())
	var senders sync.WaitGroup
	for range 2 {
		senders.Go(func() {
			w, r := discard{http.Header{}}, get("1").WithContext(ctx)
			for n := 0; ctx.Err() == nil; n++ {
				h.ServeHTTP(w, r)
				if n%8 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	for term := signalbox.Term(1); term <= 10000; term++ {
		for before := served.Load(); served.Load() < before+5; {
			runtime.Gosched() // close it in full swing
		}
		// Without the wait for a quiet moment, so that there are many races.
		if err := g.drain(ctx, uint64(term), term, signalbox.StreamsWait); err != nil {
			t.Fatal(err)
		}
		drained.Store(true)
		for range 10 { // let a latecomer come, if there is one
			if n := inside.Load(); n != 0 {
				t.Fatalf("%d requests in flight after drained", n)
			}
			runtime.Gosched()
		}
		status, _ := g.Status(ctx)
		if status.Master {
			t.Fatal("master after drained")
		}
		drained.Store(false)
		promote(t, g, term+1)
	}
	stop()
	senders.Wait()
	if bad.Load() != 0 {
		t.Fatalf("%d requests were served after drained", bad.Load())
	}
}

// Design, section 3: the gate closes when 2 ms have passed without a request,
// after 50 ms at most.
func TestQuietBounds(t *testing.T) {
	for _, c := range []struct {
		name     string
		every    time.Duration // between requests
		from, to time.Duration
	}{
		{"no request", time.Hour, driver.Idle, driver.Idle},
		{"rare requests", 10 * time.Millisecond, driver.Idle, driver.Idle},
		{"steady requests", time.Millisecond, driver.MaxIdle, driver.MaxIdle},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(Options{})
				promote(t, g, 1)
				h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				ctx, stop := context.WithCancel(t.Context())
				var sender sync.WaitGroup
				sender.Go(func() {
					tick := time.NewTicker(c.every)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							h.ServeHTTP(httptest.NewRecorder(), get("1"))
						case <-ctx.Done():
							return
						}
					}
				})
				began := time.Now()
				stepDown(t, g, 1)
				if took := time.Since(began); took < c.from || took > c.to {
					t.Errorf("closed after %v, want %v to %v", took, c.from, c.to)
				}
				stop()
				sender.Wait()
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	var stale []signalbox.Term
	g := New(Options{Stale: func(t signalbox.Term) { stale = append(stale, t) }})
	h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if TermFrom(r) != 7 {
			t.Errorf("served at term %d, want 7", TermFrom(r))
		}
	}))
	ask := func(term string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, get(term))
		return w
	}
	if w := ask("1"); w.Code != 503 || w.Header().Get(signalbox.HeaderNotMaster) != "0" {
		t.Errorf("new gate: %d %v", w.Code, w.Header())
	}
	promote(t, g, 7)
	for _, term := range []string{"", "1", "7"} {
		if w := ask(term); w.Code != 200 {
			t.Errorf("term %q: %d", term, w.Code)
		}
	}
	for range 2 {
		if w := ask("8"); w.Code != 503 || w.Header().Get(signalbox.HeaderNotMaster) != "7" {
			t.Errorf("from above: %d %v", w.Code, w.Header())
		}
	}
	if len(stale) != 1 || stale[0] != 8 {
		t.Errorf("stale was told %v, want 8 once", stale)
	}
	for _, term := range []string{"x", "-1", "99999999999999999999", " 1"} {
		if w := ask(term); w.Code != 400 {
			t.Errorf("term %q: %d, want 400", term, w.Code)
		}
	}
	stepDown(t, g, 7)
	g.Hold(0, 9)
	if w := ask("7"); w.Code != 503 || w.Header().Get(signalbox.HeaderNotMaster) != "9" {
		t.Errorf("standby: %d %v, want the newest term known", w.Code, w.Header())
	}
	if err := g.Promote(t.Context(), driver.Promotion{Term: 6}); err == nil {
		t.Error("promoted below the term served before")
	}
	if _, err := g.StepDown(t.Context(), driver.StepDown{Term: 6}); err == nil {
		t.Error("stepped down for a term below its own")
	}
	promote(t, g, 7)
	if w := ask("7"); w.Code != 200 {
		t.Errorf("reopened: %d", w.Code)
	}
}

// Stragglers wait while the instance drains; the fallback serves them, the
// other side's certificate refuses them with its term, the bounds hold.
func TestParking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{MaxParked: 3})
		h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Served", r.Header.Get(signalbox.HeaderTerm))
		}))
		promote(t, g, 7)
		g.Hold(5*time.Second, 7)
		stepDown(t, g, 7)
		var all sync.WaitGroup
		send := func(n int) []*httptest.ResponseRecorder {
			out := make([]*httptest.ResponseRecorder, n)
			for i := range out {
				out[i] = httptest.NewRecorder()
				all.Go(func() { h.ServeHTTP(out[i], get("7")) })
				synctest.Wait()
			}
			return out
		}
		check := func(what string, w *httptest.ResponseRecorder, code int, header, value string) {
			t.Helper()
			if w.Code != code || w.Header().Get(header) != value {
				t.Errorf("%s: %d %v", what, w.Code, w.Header())
			}
		}
		first := send(4)
		check("one too many", first[3], 503, signalbox.HeaderNotMaster, "7")
		promote(t, g, 9)
		all.Wait()
		for _, w := range first[:3] {
			check("after the fallback", w, 200, "Served", "9")
		}
		stepDown(t, g, 9)
		second := send(2)
		g.Hold(0, 10)
		all.Wait()
		for _, w := range second {
			check("mastership elsewhere", w, 503, signalbox.HeaderNotMaster, "10")
		}
		g.Hold(5*time.Second, 10)
		third := send(1)
		began := time.Now()
		all.Wait()
		check("waited long enough", third[0], 503, signalbox.HeaderNotMaster, "10")
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("parked for %v, want 5s", waited)
		}
		if n := g.Counts().Waiting; n != 0 {
			t.Errorf("%d still counted as parked", n)
		}
	})
}

// A step-down that is given up while it waits leaves the gate to the promotion
// that overtook it.
func TestPromotionOvertakesStepDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{})
		hold := make(chan struct{})
		h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
		promote(t, g, 7)
		var all sync.WaitGroup
		all.Go(func() { h.ServeHTTP(httptest.NewRecorder(), get("7")) })
		synctest.Wait()
		done := make(chan error, 1)
		go func() {
			_, err := g.StepDown(t.Context(), driver.StepDown{Term: 7})
			done <- err
		}()
		time.Sleep(time.Second)
		promote(t, g, 7)
		if err := <-done; err == nil {
			t.Error("the overtaken step-down claims that the gate is drained")
		}
		close(hold)
		all.Wait()
		if status, _ := g.Status(t.Context()); !status.Master {
			t.Error("the overtaken step-down closed the gate")
		}
	})
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkGuard is the hot path: at most 1 µs, no allocation.
func BenchmarkGuard(b *testing.B) {
	g := New(Options{})
	promote(b, g, 7)
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		w, r := discard{http.Header{}}, get("7")
		for b.Loop() {
			h.ServeHTTP(w, r)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			w, r := discard{http.Header{}}, get("7")
			for pb.Next() {
				h.ServeHTTP(w, r)
			}
		})
	})
}

// The bound, held by a test and not by a benchmark alone.
func TestGuardDoesNotAllocate(t *testing.T) {
	g := New(Options{})
	promote(t, g, 7)
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w, r := discard{http.Header{}}, get("7")
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}
