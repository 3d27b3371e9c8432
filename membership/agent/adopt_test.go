package agent

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
)

// direct asks past any proxy: a caller of a service that is not adopted yet.
func direct(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w
}

// TestAdoptLiveLibrary: a live Go service is adopted without an interruption,
// and having been adopted once it never again serves without a certificate
// (rule 2).
func TestAdoptLiveLibrary(t *testing.T) {
	g, opts, _ := newGateway(t)
	opts.Instances[0].Unmanaged = true
	a, h := begin(t, g, opts)
	if w := direct(h); w.Code != http.StatusOK || w.Body.String() != "0" {
		t.Fatalf("before the adoption: %d %s", w.Code, w.Body)
	}
	var failed atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if direct(h).Code != http.StatusOK {
					failed.Add(1)
				}
			}
		}
	}()
	g.awaitState(StateServing)
	_, cert := g.w.adopt("a")
	g.grant(cert, nil)
	if s := g.awaitSaid("a", signalbox.SaysServing); s.Term != 1 {
		t.Fatalf("said %+v", s)
	}
	close(stop)
	<-done
	if n := failed.Load(); n != 0 {
		t.Errorf("%d requests failed during the adoption", n)
	}
	if w := request(h, "1"); w.Code != http.StatusOK || w.Body.String() != "1" {
		t.Errorf("after the adoption: %d %s", w.Code, w.Body)
	}
	if a.runners[0].core.untouched() {
		t.Error("the adopted instance would open without a certificate at its next start")
	}
}

// TestUnmanagedElsewhere: the adoption of another data center closes an instance
// that serves unmanaged.
func TestUnmanagedElsewhere(t *testing.T) {
	g, opts, _ := newGateway(t)
	opts.Instances[0].Unmanaged = true
	_, h := begin(t, g, opts)
	g.awaitState(StateServing)
	_, cert := g.w.adopt("another")
	g.grant(cert, nil)
	g.awaitState(StateStandby)
	deadline := time.Now().Add(5 * time.Second) // the gate closes when it was idle
	for direct(h).Code != http.StatusServiceUnavailable {
		if time.Now().After(deadline) {
			t.Fatal("not listed by the adoption, and serves")
		}
		runtime.Gosched()
	}
}
