package demo

import (
	"fmt"
	"math"

	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// A Result is what a run of the demo says of itself, as `signalbox demo -o json` prints it. Milliseconds have
// microseconds after the point.
type Result struct {
	Switches           []Switched `json:"switches"`
	Requests           Requests   `json:"requests"`
	OverlapMS          float64    `json:"overlap_ms"`           // time in which both data centers wrote
	DualMasterRequests int        `json:"dual_master_requests"` // writes that overlap one of the other data center
	Violations         []string   `json:"violations"`           // what the oracle found, in words
	OK                 bool       `json:"ok"`                   // no request failed, nothing overlapped, every switch went forward
}

// Switched is one switch of a run.
type Switched struct {
	ID      string `json:"id"`
	Service string `json:"service"`
	From    string `json:"from"`
	To      string `json:"to"`
	Term    uint64 `json:"term"`
	Outcome string `json:"outcome"`
	// Phases are how long each phase took, by its name.
	Phases map[string]float64 `json:"phases"`
	HoldMS float64            `json:"hold_ms"`
	// InterruptionMS is from the first parked request to the first answer of the new master; 0 when none was parked.
	InterruptionMS float64   `json:"interruption_ms"`
	Held           int       `json:"held"`
	Failed         int       `json:"failed"`
	AddedP50MS     float64   `json:"added_p50_ms"`
	AddedP99MS     float64   `json:"added_p99_ms"`
	Acks           []api.Ack `json:"acks"`
}

// Requests sums up the load of a run. Requests that asked to be slow are left out of latencies.
type Requests struct {
	Total      int            `json:"total"`
	Failed     int            `json:"failed"`
	Held       int            `json:"held"`
	P50MS      float64        `json:"p50_ms"`
	P99MS      float64        `json:"p99_ms"`
	MaxMS      float64        `json:"max_ms"`
	AddedP50MS float64        `json:"added_p50_ms"` // of requests that met a hold, less the median of the 5 s before
	AddedP99MS float64        `json:"added_p99_ms"`
	Failures   map[string]int `json:"failures,omitempty"` // by reason
}

// Sum makes a run's result from its switches, its load and the oracle's verdict. It also writes into each record what
// the load says of it, for the report.
func Sum(handovers []api.Handover, l *Load, verdict *oracle.Verdict) Result {
	report := l.Report(l.Window(handovers...))
	r := Result{
		Switches: []Switched{}, OverlapMS: verdict.OverlapMs, DualMasterRequests: verdict.DualMasterRequests,
		Violations: verdict.Violations, OK: verdict.OK() && report.Failed == 0 && report.Total > 0,
		Requests: Requests{
			Total: report.Total, Failed: report.Failed, Held: report.Held, P50MS: report.P50Ms, P99MS: report.P99Ms,
			MaxMS: report.MaxMs, AddedP50MS: report.AddedP50Ms, AddedP99MS: report.AddedP99Ms, Failures: report.Failures,
		},
	}
	if r.Violations == nil {
		r.Violations = []string{}
	}
	byID := map[string]load.Switch{}
	for _, one := range report.Switches {
		byID[one.ID] = one
	}
	for i := range handovers {
		h := &handovers[i]
		one := byID[h.ID]
		h.Requests = requestsOf(one, verdict)
		r.Switches = append(r.Switches, switched(h, one))
		r.OK = r.OK && h.Outcome == api.OutcomeForward
	}
	return r
}

func switched(h *api.Handover, one load.Switch) Switched {
	s := Switched{
		ID: h.ID, Service: h.Service, From: h.From, To: h.To, Term: h.CertifiedTerm, Outcome: h.Outcome, Phases: PhasesOf(h),
		InterruptionMS: one.InterruptionMs, Held: one.Held, Failed: one.Failed, AddedP50MS: one.AddedP50Ms, AddedP99MS: one.AddedP99Ms,
		Acks: h.Acks,
	}
	if h.HoldMS != nil {
		s.HoldMS = *h.HoldMS
	}
	if s.Acks == nil {
		s.Acks = []api.Ack{}
	}
	return s
}

// PhasesOf returns how long each phase took, in milliseconds by name.
func PhasesOf(h *api.Handover) map[string]float64 {
	out := map[string]float64{}
	for _, p := range h.Phases {
		if p.EndMS != nil {
			out[p.Name] = math.Round((*p.EndMS-p.BeginMS)*1000) / 1000
		}
	}
	return out
}

func requestsOf(one load.Switch, verdict *oracle.Verdict) *api.Requests {
	overlap, dual := verdict.OverlapMs, uint64(verdict.DualMasterRequests)
	return &api.Requests{
		Source: "load-generator", Total: uint64(one.Met), Held: uint64(one.Held), Failed: uint64(one.Failed),
		AddedP50MS: &one.AddedP50Ms, AddedP99MS: &one.AddedP99Ms, OverlapMS: &overlap, DualMasters: &dual,
	}
}

// Faults says in words what is wrong with a run, one line each; none when it is OK.
func (r *Result) Faults() (out []string) {
	for _, s := range r.Switches {
		if s.Outcome != api.OutcomeForward {
			out = append(out, fmt.Sprintf("switch %s to %s ended as %s", s.ID, s.To, s.Outcome))
		}
	}
	for reason, n := range r.Requests.Failures {
		out = append(out, fmt.Sprintf("%d requests failed: %s", n, reason))
	}
	if r.Requests.Total == 0 {
		out = append(out, "no request was answered")
	}
	return append(out, r.Violations...)
}
