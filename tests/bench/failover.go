package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

const (
	failoverTTL     = 3 * time.Second // of a lease
	goalFailover    = failoverTTL + 500*time.Millisecond
	failoverAfter   = 2 * time.Second        // of silence, with mode: automatic
	failoverRate    = 200                    // requests per second
	failoverEnvoys  = 2                      // in each data center
	failoverMasters = 2                      // instances in each data center
	oneOutage       = 2 * time.Minute        // from one steady site to the next
	lookEvery       = 100 * time.Millisecond // for the new master's first answer, in what the load saw
)

// outages are data centers that were killed while they were master, with all that was in them, each time the other one.
type outages struct {
	*whole
	name      string
	automatic bool

	took      []float64 // ms, from the kill to the first answer of the new master
	agreed    []float64 // ms, from the kill until the failover was agreed on, as the record has it
	decided   []float64 // ms, from the kill until its certificate was complete
	requests  int
	failed    int
	unordered int            // orders that were refused before one was taken
	failures  map[string]int // by reason
	latest    float64        // ms after a kill that a request began which failed
	killed    int64          // load.Now
	verdict   oracle.Verdict
}

// runFailover kills the master's data center, with a voter in each of three, and has it failed over by lapse: ordered at
// once, then by itself.
func runFailover(ctx context.Context, o options, r *report) error {
	for _, one := range []struct {
		name, config string
		automatic    bool
		runs         int
	}{
		{"ordered at once", "{evidence: [lapse], lease_ttl: %s}", false, o.failovers},
		{"by itself, silence " + failoverAfter.String(), "{mode: automatic, silence: " + failoverAfter.String() + ", evidence: [lapse], lease_ttl: %s}", true,
			(o.failovers + 5) / 6},
	} {
		f := &outages{name: one.name, automatic: one.automatic, failures: map[string]int{}}
		if err := f.all(ctx, o, fmt.Sprintf(one.config, failoverTTL), one.runs); err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		r.failover(f)
	}
	return nil
}

func (f *outages) all(ctx context.Context, o options, config string, runs int) (err error) {
	o.say("failover %s: starting", f.name)
	if f.whole, err = startWhole(ctx, o, demo.Options{North: true, Envoys: failoverEnvoys, Instances: failoverMasters, Failover: config}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	dead := demo.East
	for n := range runs {
		o.say("failover %s: %d of %d, killing %s", f.name, n+1, runs, dead)
		if err := f.one(ctx, dead); err != nil {
			return fmt.Errorf("run %d: %w", n+1, err)
		}
		dead = other(dead)
	}
	for _, v := range [][]float64{f.took, f.agreed, f.decided} {
		slices.Sort(v)
	}
	judging, cancel := context.WithTimeout(ctx, toJudge)
	defer cancel()
	f.verdict, err = f.site.JudgeLenient(judging, f.loads...)
	f.loads = nil
	return err
}

// one kills a data center, waits until the other one answers, and brings the dead one back.
func (f *outages) one(ctx context.Context, dead string) error {
	ctx, cancel := context.WithTimeout(ctx, oneOutage)
	defer cancel()
	living := other(dead)
	steady := func(dc string) error {
		return demo.Await(ctx, "a steady site with master "+dc, func(ctx context.Context) error {
			if err := f.site.AllReady(ctx); err != nil {
				return err
			}
			return f.site.Steady(ctx, demo.Service, dc)
		})
	}
	if err := steady(dead); err != nil {
		return err
	}
	before, err := f.site.API().Service(ctx, demo.Service)
	if err != nil {
		return err
	}
	l, err := f.site.Load(failoverRate, noSlow, f.site.Through(living))
	if err != nil {
		return err
	}
	err = pause(ctx, warmUp)
	if err == nil {
		err = f.outage(ctx, dead, before.Term, l)
	}
	if err := errors.Join(err, l.Stop()); err != nil {
		return err
	}
	f.loads = append(f.loads, l)
	report := l.Report(l.Window())
	f.requests, f.failed = f.requests+report.Total, f.failed+report.Failed
	for reason, n := range report.Failures {
		f.failures[reason] += n
	}
	for r := range l.Records {
		if r.Failed() {
			f.latest = max(f.latest, float64(r.Begin-f.killed)/1e6)
		}
	}
	if err := f.site.UpAll(dead); err != nil {
		return err
	}
	return steady(living)
}

// outage kills, orders and waits for the first answer of the new master.
func (f *outages) outage(ctx context.Context, dead string, before uint64, l *demo.Load) error {
	gateway := f.site.ClientOf(f.site.GatewayIn(other(dead)))
	began := time.Now()
	killed, err := f.site.DownAll(dead)
	f.killed = killed
	if err != nil {
		return err
	}
	if !f.automatic {
		if err := f.order(ctx, gateway, other(dead)); err != nil {
			return err
		}
	}
	h, err := newer(ctx, gateway, before)
	if err != nil {
		return err
	}
	window := load.Window{Begin: killed, Holds: []load.Hold{{Term: h.Term, Begin: killed}}}
	for {
		window.Holds[0].End = load.Now()
		if first := l.Report(window).Switches[0].FirstAnswered; first != 0 {
			f.took = append(f.took, float64(first-killed)/1e6)
			break
		}
		if err := pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("no answer of the new master in term %d: %w", h.Term, err)
		}
	}
	if h, err = f.site.Follow(ctx, h.ID); err != nil {
		return err
	}
	f.agreed = append(f.agreed, h.Started.Sub(began).Seconds()*1000)
	for _, p := range h.Phases {
		if p.Name == api.PhaseAck && p.EndMS != nil {
			f.decided = append(f.decided, h.Started.Sub(began).Seconds()*1000+*p.EndMS)
		}
	}
	return f.keep(&h)
}

// order orders the failover, again where the gateway is not ready for it yet: that counts in the time.
func (f *outages) order(ctx context.Context, gateway *client.Client, to string) error {
	key := client.NewKey()
	return demo.Await(ctx, "the failover to be taken", func(ctx context.Context) error {
		_, err := gateway.Failover(ctx, key, api.FailoverRequest{Service: demo.Service, To: to, Reason: "bench"})
		if err != nil {
			f.unordered++
		}
		return err
	})
}

// newer waits for the record of a handover above a term.
func newer(ctx context.Context, gateway *client.Client, above uint64) (h api.Handover, err error) {
	for {
		list, err := gateway.Handovers(ctx, demo.Service, 1)
		if err == nil && len(list) > 0 && list[0].Term > above {
			return list[0], nil
		}
		if stopped := pause(ctx, lookEvery); stopped != nil {
			return h, fmt.Errorf("no handover above term %d: %w", above, errors.Join(stopped, err))
		}
	}
}

// failover adds a row for outages. Only orders at once have a goal: silence is configured.
func (r *report) failover(f *outages) {
	name := "failover " + f.name
	most := quantile(f.took, 1)
	worst := ms(most)
	if !f.automatic {
		goal := fmt.Sprintf("%d", goalFailover.Milliseconds())
		worst = r.judged(worst, len(f.took) > 0 && most <= float64(goalFailover.Milliseconds()), goal, name+", the slowest in ms")
		within := 0
		for _, v := range f.took {
			if v <= float64(goalFailover.Milliseconds()) {
				within++
			}
		}
		r.notes = append(r.notes, fmt.Sprintf("%s: %d of %d within %s ms", name, within, len(f.took), goal))
	}
	r.outages = append(r.outages, line(f.name, fmt.Sprint(len(f.took)), ms(quantile(f.took, 0)), ms(median(f.took)), ms(quantile(f.took, 0.99)), worst,
		ms(median(f.agreed))+" / "+ms(quantile(f.agreed, 1)), ms(median(f.decided))+" / "+ms(quantile(f.decided, 1)), fmt.Sprint(f.requests), fmt.Sprint(f.failed),
		r.judged(fmt.Sprintf("%.1f", f.verdict.OverlapMs), f.verdict.OverlapMs == 0 && f.verdict.DualMasterRequests == 0 && f.verdict.OK(), "0",
			name+", overlap in ms, and all other checks of the oracle")))
	if f.unordered > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s: %d orders were refused at first; the time until one was taken counts", name, f.unordered))
	}
	if f.failed > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s: the last request that failed began %.1f ms after the kill", name, f.latest))
	}
	for _, reason := range slices.Sorted(maps.Keys(f.failures)) {
		r.notes = append(r.notes, fmt.Sprintf("%s: %d requests failed: %s", name, f.failures[reason], reason))
	}
	for _, violation := range f.verdict.Violations {
		r.notes = append(r.notes, name+": the oracle: "+violation)
	}
}
