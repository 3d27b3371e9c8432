package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/tests/lab"
)

// sectionWAN is the section of switches between data centers that are far from each other. It needs root.
const sectionWAN = "wan"

const (
	wanDelay = 20 * time.Millisecond // one way
	// goalTrips and goalBeyond bound by how much a switch may interrupt longer than the floor in the same network.
	goalTrips  = 1.5
	goalBeyond = 10.0 // ms
	// goalVoters bounds by how much several voters may interrupt longer than one, in ms: they agree outside of it.
	goalVoters = 1.0
	// nearTimes is how many times as many switches the small difference between one voter and several takes to show.
	nearTimes = 3
	perSite   = 2 // gateways, in each data center
	// wanConfig is what is measured where nothing else is asked for: up to six gateways and a whole network share the machine.
	wanConfig = "4:300"
)

// voting is a way to spread voters.
type voting struct {
	name   string
	voters int
	north  bool
}

func (v voting) options(o options, of config) demo.Options {
	return demo.Options{
		Binaries: o.binaries, Envoys: of.envoys / 2, Gateways: perSite, Voters: v.voters, North: v.north, NorthGateways: perSite,
	}
}

func near() []voting {
	return []voting{{"1 voter", 1, false}, {"4 voters, 2 in each data center", 4, false}}
}

func far() []voting {
	return []voting{{"4 voters, 2 in each data center", 4, false}, {"6 voters, 2 in each of three sites", 6, true}}
}

// runWAN compares the numbers of voters on loopback, and Signalbox with its floor across a slow network.
func runWAN(ctx context.Context, o options, r *report) error {
	if err := runNear(ctx, o, r); err != nil {
		return fmt.Errorf("on loopback: %w", err)
	}
	if err := runFar(ctx, o, r); err != nil {
		return fmt.Errorf("%s away: %w", wanDelay, err)
	}
	return nil
}

func runNear(ctx context.Context, o options, r *report) (err error) {
	of := o.configs[0]
	var all []*measured
	for _, v := range near() {
		o.say("loopback, %s: starting", v.name)
		w, err := startWhole(ctx, o, v.options(o, of))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		all = append(all, newMeasured(v.name, of, w))
	}
	if err := inTurns(ctx, o, nearTimes*o.switches, all, noSlow); err != nil {
		return err
	}
	r.across("loopback, "+of.String(), all, "over one voter", goalVoters)
	return nil
}

func runFar(ctx context.Context, o options, r *report) (err error) {
	of := o.configs[0]
	l, err := lab.New(wanDelay, demo.East, demo.West, demo.North)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	places := map[string]demo.Place{}
	for _, dc := range []string{demo.East, demo.West, demo.North} {
		places[dc] = demo.Place{Host: l.Host(dc), Enter: l.Enter(dc)}
	}
	f, err := startFloorAt(ctx, lab.Home, demo.Options{Binaries: o.binaries, Envoys: of.envoys / 2, Places: places})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	all := []*measured{newMeasured(nameFloor, of, f)}
	for _, v := range far() {
		o.say("%s away, %s: starting", wanDelay, v.name)
		opts := v.options(o, of)
		opts.Places = places
		w, err := startWhole(ctx, o, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		all = append(all, newMeasured(v.name, of, w))
	}
	if err := inTurns(ctx, o, o.switches, all, noSlow); err != nil {
		return err
	}
	trip := 2 * wanDelay.Seconds() * 1000
	r.across(fmt.Sprintf("%.0f ms there and back, %s", trip, of), all, "over the floor", goalTrips*trip+goalBeyond)
	return nil
}

const wanHead = `| network | system | switches | median, ms | p99, ms | min | max | median, ms more | p99, ms more | requests | failed | overlap, ms |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

// across adds the rows of one network: the first is what the others are compared with, by their medians.
func (r *report) across(network string, all []*measured, than string, goal float64) {
	first := all[0]
	for _, m := range all {
		name := network + ", " + m.name
		p50, p99 := median(m.interruption), quantile(m.interruption, 0.99)
		over50, over99, failed, overlap := "-", "-", fmt.Sprint(m.failed), ms(m.verdict.OverlapMs)
		if m != first {
			d := p50 - median(first.interruption)
			over50 = r.judged(fmt.Sprintf("%+.1f", d), d <= goal, fmt.Sprintf("%+.0f", goal), name+", median "+than+" in ms")
			over99 = fmt.Sprintf("%+.1f", p99-quantile(first.interruption, 0.99))
			r.notes = append(r.notes, fmt.Sprintf("%s: %+.1f ms %s, with a standard error of %.1f ms (both drawn anew %d times)",
				name, d, than, spread(first.interruption, m.interruption), resamples))
		}
		if m.name != nameFloor {
			failed = r.judged(failed, m.failed == 0, "0", name+", failed requests")
			overlap = r.judged(overlap, m.verdict.OverlapMs == 0 && m.verdict.OK(), "0", name+", overlap in ms, and all other checks of the oracle")
		}
		r.wan = append(r.wan, line(network, m.name, fmt.Sprint(len(m.interruption)), ms(p50), ms(p99), ms(quantile(m.interruption, 0)),
			ms(quantile(m.interruption, 1)), over50, over99, fmt.Sprint(m.requests), failed, overlap))
		r.remark(name, m, m.name != nameFloor)
		if m.name == nameFloor {
			r.breakdownOf(network, m.name, "both", m.interruption, m.phases)
			continue
		}
		for _, to := range demo.DataCenters() {
			r.breakdownOf(network, m.name, "to "+to, m.by[to], m.phasesTo[to])
		}
	}
}

// resamples is how often samples are drawn anew to see how far their medians would differ by chance.
const resamples = 1000

// spread is the standard error of the difference of two samples' medians: the bootstrap's, always with the same numbers.
func spread(a, b []float64) float64 {
	random := rand.New(rand.NewPCG(1, 2))
	again := func(from []float64) float64 {
		out := make([]float64, len(from))
		for i := range out {
			out[i] = from[random.IntN(len(from))]
		}
		slices.Sort(out)
		return median(out)
	}
	var sum, squares float64
	for range resamples {
		d := again(b) - again(a)
		sum, squares = sum+d, squares+d*d
	}
	mean := sum / resamples
	return math.Sqrt(max(0, squares/resamples-mean*mean))
}

const introWAN = `# What a switch costs across a slow network

Measured by ` + "`make bench BENCH_FLAGS='-only wan'`" + ` as root, which writes this page. Each data center has a network namespace of its
own; a process forwards the packets between them over TUN devices and delays each by %s, so a round trip takes twice that. Callers,
operators and the floor's server reach every data center without delay. All systems of one network run side by side, in turns,
with the same load, half of it through the Envoys of each data center.

    %s

%s
An interruption lasts from the first request that was parked to the first answer of the new master, as the load generator saw it,
wherever the two were. Far switches are %d, those on loopback three times as many; p99 is %s. *floor*: hold and release by bare xDS pushes from one server that is near to both
data centers at once, which nothing real is: so what Signalbox needs to tell one data center of the other counts in full.
The goals: at most 1.5 round trips and 10 ms over the floor, and several voters at most 1 ms over one, both in the median.

`
