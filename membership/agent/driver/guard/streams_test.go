package guard

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// streaming is a gate with one stream open, which ends with its context or close.
func streaming(t *testing.T, o Options) (g *Gate, h http.Handler, end func()) {
	g = New(o)
	over := make(chan struct{})
	h = g.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(time.Second)
			return
		}
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	promote(t, g, 1)
	r := get("1")
	r.Header.Set("Accept", "text/event-stream")
	var all sync.WaitGroup
	all.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r) })
	synctest.Wait()
	return g, h, sync.OnceFunc(func() { close(over); all.Wait() })
}

// Streams are cut by the service's own choice or by its policy.
func TestStreamsAreCut(t *testing.T) {
	for _, c := range []struct {
		own    Streams
		policy signalbox.StreamPolicy
	}{{StreamsCut, signalbox.StreamsWait}, {StreamsWait, signalbox.StreamsCut}, {StreamsCut, signalbox.StreamsAbort}} {
		synctest.Test(t, func(t *testing.T) {
			g, _, end := streaming(t, Options{Streams: c.own})
			defer end()
			if _, err := g.StepDown(t.Context(), driver.StepDown{Term: 1, Streams: c.policy}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// With abort, requests are drained and streams alone make it fail at once; with
// wait it takes as long as they do.
func TestStreamsOutliveTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, h, end := streaming(t, Options{})
		defer end()
		var slow sync.WaitGroup
		r := get("1")
		r.URL.Path = "/slow"
		slow.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r) })
		synctest.Wait()
		began := time.Now()
		_, err := g.StepDown(t.Context(), driver.StepDown{Term: 1, Streams: signalbox.StreamsAbort})
		if !errors.Is(err, driver.ErrStreams) || time.Since(began) < 900*time.Millisecond || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("%v after %v: the slow request takes 1 s", err, time.Since(began))
		}
		slow.Wait()
		promote(t, g, 1) // the handover was given up
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := g.StepDown(ctx, driver.StepDown{Term: 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a stream in flight: %v", err)
		}
		end()
		if _, err := g.StepDown(t.Context(), driver.StepDown{Term: 1, Streams: signalbox.StreamsAbort}); err != nil {
			t.Error(err)
		}
	})
}
