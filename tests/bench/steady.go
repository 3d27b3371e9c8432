package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
)

// steady is what Signalbox costs while nobody switches.
type steady struct {
	services    int
	rate        int
	idle, busy  float64 // processor time of all gateways, ms per second
	perRequest  float64 // µs of all gateways, of the difference
	gateway     int64   // bytes, the largest
	agent       int64   // bytes, with all services
	agentSingle int64   // bytes, the largest of those with one instance
}

const (
	lookSteady = 5 * time.Second
	lookQuick  = time.Second
	looks      = 2 // of each, in turns
)

// runSteady measures the gateways without and under load, and memory.
func runSteady(ctx context.Context, o options, r *report) (err error) {
	o.say("steady state: starting with %d services", fewServices)
	w, err := startWhole(ctx, o, demo.Options{Services: fewServices})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ten, err := startAgent(ctx, o, w.site)
	if err != nil {
		return err
	}
	defer ten.close()
	s := steady{services: fewServices}
	if err := s.processor(ctx, o, w.site); err != nil {
		return err
	}
	if s.gateway, err = largestGateway(w.site); err != nil {
		return err
	}
	for _, in := range w.site.Instances() {
		if in.Agent == "" {
			continue
		}
		n, err := rssAnon(w.site.Pid(in.Agent))
		if err != nil {
			return err
		}
		s.agentSingle = max(s.agentSingle, n)
	}
	if s.agent, err = rssAnon(ten.pid()); err != nil {
		return err
	}
	r.steady(s)
	return nil
}

// largestGateway is the RssAnon of the gateway that has most.
func largestGateway(site *demo.Site) (most int64, err error) {
	for _, g := range site.Gateways() {
		n, err := rssAnon(site.Pid(g.Name))
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	return most, nil
}

// processor compares the gateways' processor time without load and under it, in turns.
func (s *steady) processor(ctx context.Context, o options, site *demo.Site) error {
	look := lookSteady
	if o.quick {
		look = lookQuick
	}
	for _, c := range o.configs {
		s.rate = max(s.rate, c.rate)
	}
	var idle, busy, idleFor, busyFor time.Duration
	var requests int64
	for range looks {
		ran, took, err := gatewaysRan(ctx, site, look)
		if err != nil {
			return err
		}
		idle, idleFor = idle+ran, idleFor+took
		o.say("steady state: %d/s", s.rate)
		l, err := site.Load(s.rate)
		if err != nil {
			return err
		}
		err = pause(ctx, warmUp)
		before := l.Stats().Answered
		if err == nil {
			ran, took, err = gatewaysRan(ctx, site, look)
		}
		requests += l.Stats().Answered - before
		if err := errors.Join(err, l.Stop()); err != nil {
			return err
		}
		busy, busyFor = busy+ran, busyFor+took
	}
	s.idle, s.busy = 1000*idle.Seconds()/idleFor.Seconds(), 1000*busy.Seconds()/busyFor.Seconds()
	s.perRequest = 1e3 * (s.busy - s.idle) * busyFor.Seconds() / float64(max(requests, 1))
	return nil
}

// gatewaysRan is the processor time of all gateways over a while.
func gatewaysRan(ctx context.Context, site *demo.Site, while time.Duration) (ran, took time.Duration, err error) {
	sum := func() (all time.Duration, err error) {
		for _, g := range site.Gateways() {
			n, err := cpu(site.Pid(g.Name))
			if err != nil {
				return 0, err
			}
			all += n
		}
		return all, nil
	}
	begin := time.Now()
	before, err := sum()
	if err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, while); err != nil {
		return 0, 0, err
	}
	after, err := sum()
	return after - before, time.Since(begin), err
}

// runGuard measures the Go library's hot path.
func runGuard(ctx context.Context, o options, r *report) error {
	o.say("guard")
	g := guard.New(guard.Options{})
	if err := g.Promote(ctx, driver.Promotion{Service: demo.Service, Term: 7}); err != nil {
		return err
	}
	handler := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r.guard(testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		w, request := discard{http.Header{}}, httptest.NewRequest(http.MethodGet, "/orders", nil)
		request.Header.Set("X-Signalbox-Term", "7")
		for b.Loop() {
			handler.ServeHTTP(w, request)
		}
	}))
	return nil
}

// discard is a response that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
