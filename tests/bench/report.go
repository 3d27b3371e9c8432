package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/bench/peers"
)

// The systems' names in the table.
const (
	nameFloor     = "floor"
	nameObeying   = "floor, instances obey"
	nameSignalbox = "Signalbox"
)

// The goals.
const (
	goalMedian = 5.0  // ms over the floor
	goalP99    = 15.0 // ms over the floor
	goalExcess = 30.0 // ms over the slowest request in flight
	goalGuard  = 1000 // ns
	// goalPerRequest is what may be measured as a gateway's work per request, in µs: nothing, but a clock has its errors.
	goalPerRequest = 1.0
	// goalServices is by how much the median of a switch may differ between few and many services.
	goalServices = 1.15
	mib          = 1 << 20
	goalGateway  = 60 * mib
	goalAgent    = 15 * mib
)

// report collects the sections of a result.
type report struct {
	o       options
	machine *machine
	rows    []string // of the main table
	phases  []string // of the table of phases
	floors  map[config]*measured
	wan     []string // rows of the table of networks
	outages []string // rows of the table of failovers
	rest    []string // rows of the table of everything else
	notes   []string
	missed  []string
}

func newReport(ctx context.Context, o options) (*report, error) {
	m, err := look(ctx, o)
	return &report{o: o, machine: m, floors: map[config]*measured{}}, err
}

// judged writes a figure with its goal.
func (r *report) judged(figure string, met bool, goal, what string) string {
	if met {
		return fmt.Sprintf("%s (goal %s: met)", figure, goal)
	}
	r.missed = append(r.missed, what+": "+figure+", goal "+goal)
	return fmt.Sprintf("**%s (goal %s: missed)**", figure, goal)
}

func ms(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

// row is a line of the main table. Goals are for Signalbox only.
func (r *report) row(m *measured, goals bool) {
	floor := r.floors[m.of]
	name := m.of.String() + ", " + m.name
	p50, p99 := median(m.interruption), quantile(m.interruption, 0.99)
	ratio, over50, over99 := "-", "-", "-"
	if floor != nil && floor != m {
		d50, d99 := p50-median(floor.interruption), p99-quantile(floor.interruption, 0.99)
		ratio, over50, over99 = fmt.Sprintf("%.2f", p50/median(floor.interruption)), fmt.Sprintf("%+.1f", d50), fmt.Sprintf("%+.1f", d99)
		if goals {
			over50 = r.judged(over50, d50 <= goalMedian, "+5", name+", median over the floor in ms")
			over99 = r.judged(over99, d99 <= goalP99, "+15", name+", p99 over the floor in ms")
		}
	}
	failed, overlap := fmt.Sprint(m.failed), fmt.Sprintf("%.1f", m.verdict.OverlapMs)
	if goals {
		failed = r.judged(failed, m.failed == 0, "0", name+", failed requests")
		overlap = r.judged(overlap, m.verdict.OverlapMs == 0 && m.verdict.OK(), "0", name+", overlap in ms, and all other checks of the oracle")
	}
	r.rows = append(r.rows, line(m.of.String(), m.name, fmt.Sprint(len(m.interruption)), ms(p50), ms(p99), ms(quantile(m.interruption, 0)),
		ms(quantile(m.interruption, 1)), ratio, over50, over99, ms(quantile(m.added, 0.99)), fmt.Sprint(m.requests), failed, overlap))
	r.remark(name, m, goals)
}

// remark notes what the figures do not say.
func (r *report) remark(name string, m *measured, judge bool) {
	if m.back > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s: %d switches did not go forward", name, m.back))
	}
	if m.unmet > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%s: %d switches were met by no request", name, m.unmet))
	}
	for _, problem := range slices.Sorted(maps.Keys(m.problems)) {
		r.notes = append(r.notes, fmt.Sprintf("%s: %d times: %s", name, m.problems[problem], problem))
	}
	if judge {
		for _, violation := range m.verdict.Violations {
			r.notes = append(r.notes, name+": the oracle: "+violation)
		}
	}
}

func line(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// config adds what was measured in one configuration: the floor first, then Signalbox, then others.
func (r *report) config(all []*measured) {
	r.floors[all[0].of] = all[0]
	for _, m := range all {
		r.row(m, m.name == nameSignalbox)
		if m.name != nameSignalbox {
			r.breakdown(m, "both", m.interruption, m.phases)
			continue
		}
		for _, to := range demo.DataCenters() {
			r.breakdown(m, "to "+to, m.by[to], m.phasesTo[to])
		}
	}
}

// inPhases are the phases of an interruption in their order.
func inPhases() []string {
	return []string{api.PhaseHold, api.PhaseDrain, api.PhaseAck, api.PhaseSeal, api.PhasePromote, api.PhaseRelease}
}

func (r *report) breakdown(m *measured, direction string, interruption []float64, phases map[string][]float64) {
	r.breakdownOf(m.of.String(), m.name, direction, interruption, phases)
}

func (r *report) breakdownOf(where, name, direction string, interruption []float64, phases map[string][]float64) {
	cells := []string{where, name, direction, ms(median(interruption))}
	for _, phase := range inPhases() {
		cell := "-"
		if v := phases[phase]; len(v) > 0 {
			cell = fmt.Sprintf("%.1f / %.1f", median(v), quantile(v, 0.99))
		}
		cells = append(cells, cell)
	}
	r.phases = append(r.phases, line(cells...))
}

func (r *report) peers(all []*measured, kinds []peers.Kind) {
	for i, m := range all {
		r.row(m, false)
		r.notes = append(r.notes, m.name+": "+kinds[i].About)
	}
}

// slow tells of a load with slow requests. A hold ends with the release; until the first answer, the proxies work off
// what they parked, which the floor's do as well.
func (r *report) slow(m, floor *measured, c load.Config) {
	name := fmt.Sprintf("%s, %.0f%% slow (%s)", m.of, 100*c.SlowFraction, c.SlowFor)
	most := quantile(m.excess, 1)
	r.other(fmt.Sprintf("%s: hold less the slowest request in flight, worst of %d, ms", name, len(m.excess)), ms(median(m.excess))+" in the median",
		r.judged(ms(most), most <= goalExcess, "+30", name+", worst hold over the slowest request in flight in ms"))
	for _, of := range []*measured{m, floor} {
		r.other(fmt.Sprintf("%s: %s: until the first answer, less the slowest request in flight, median / worst of %d, ms", name, of.name, len(of.excessSeen)),
			ms(median(of.excessSeen))+" / "+ms(quantile(of.excessSeen, 1)), "")
		r.other(fmt.Sprintf("%s: %s: interruption, median / p99, ms", name, of.name), ms(median(of.interruption))+" / "+ms(quantile(of.interruption, 0.99)), "")
	}
	r.other(name+": failed requests", fmt.Sprintf("of %d", m.requests), r.judged(fmt.Sprint(m.failed), m.failed == 0, "0", name+", failed requests"))
	r.other(name+": overlap, ms", fmt.Sprintf("%d writes", m.verdict.Writes),
		r.judged(ms(m.verdict.OverlapMs), m.verdict.OverlapMs == 0 && m.verdict.OK(), "0", name+", overlap in ms, and all other checks of the oracle"))
	r.remark(name, m, true)
}

func (r *report) services(few, many *measured, gateway int64) {
	name := func(m *measured) string { return fmt.Sprintf("%s, %d services", m.of, m.services) }
	for _, m := range []*measured{few, many} {
		r.other(name(m)+": interruption, median / p99, ms", ms(median(m.interruption))+" / "+ms(quantile(m.interruption, 0.99)),
			r.judged(fmt.Sprintf("%d failed", m.failed), m.failed == 0 && m.verdict.OK(), "0", name(m)+", failed requests and overlap"))
		r.remark(name(m), m, true)
	}
	ratio := median(many.interruption) / median(few.interruption)
	r.other("a switch with "+fmt.Sprint(many.services)+" services to one with "+fmt.Sprint(few.services), "",
		r.judged(fmt.Sprintf("%.2f", ratio), ratio <= goalServices, "the same, up to 1.15", "1,000 services, ratio of medians"))
	r.other(fmt.Sprintf("gateway with %d services: RssAnon, MiB", many.services), fmt.Sprintf("%.1f", float64(gateway)/mib), "")
}

func (r *report) steady(s steady) {
	r.other(fmt.Sprintf("processor time of all gateways, ms per second: idle / at %d requests per second", s.rate), fmt.Sprintf("%.1f / %.1f", s.idle, s.busy), "")
	r.other("that is per request, all gateways, µs", "", r.judged(fmt.Sprintf("%.2f", s.perRequest), s.perRequest <= goalPerRequest, "nothing, up to 1 of error",
		"gateways' work per request in µs"))
	size := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/mib) }
	r.other(fmt.Sprintf("gateway with %d services: RssAnon, MiB", s.services), "the largest", r.judged(size(s.gateway), s.gateway <= goalGateway, "60", "RssAnon of a gateway in MiB"))
	r.other(fmt.Sprintf("agent with %d services: RssAnon, MiB", s.services), size(s.agentSingle)+" with one",
		r.judged(size(s.agent), s.agent <= goalAgent, "15", "RssAnon of an agent in MiB"))
}

func (r *report) guard(b testing.BenchmarkResult) {
	r.other("Guard, ns per request", fmt.Sprintf("%d requests", b.N), r.judged(fmt.Sprint(b.NsPerOp()), b.NsPerOp() <= goalGuard, "1000", "Guard in ns"))
	r.other("Guard, allocations per request", "", r.judged(fmt.Sprint(b.AllocsPerOp()), b.AllocsPerOp() == 0, "0", "Guard's allocations"))
}

func (r *report) other(what, figure, judged string) {
	r.rest = append(r.rest, line(what, figure, judged))
}
