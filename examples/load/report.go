package load

import (
	"math"
	"slices"
	"strconv"
	"time"
)

const (
	// DefaultHeldAfter is the latency above which a request that met a hold
	// counts as held.
	DefaultHeldAfter = 2 * time.Millisecond
	// before is the time before a hold whose median latency is the norm.
	before = 5 * time.Second
)

// Hold is when proxies held requests in one handover, in raw CLOCK_MONOTONIC
// nanoseconds, and the term whose master then served them (of the fallback,
// if it was that one).
type Hold struct {
	ID         string
	Term       uint64
	Begin, End int64
}

// Window selects the requests of a report: those scheduled in [Begin, End],
// in raw CLOCK_MONOTONIC nanoseconds; End 0 means until now.
type Window struct {
	Begin, End int64
	Holds      []Hold
	HeldAfter  time.Duration // 0: DefaultHeldAfter
	WithSlow   bool          // count requests that asked to be slow in latencies, too
}

// Report sums up a window. Latencies count from the scheduled time; requests
// that asked to be slow are left out of them unless the window has WithSlow.
// Added latencies are those of requests that met a hold, less the median of
// the 5 s before that hold.
type Report struct {
	Total      int            `json:"total"` // finished requests
	Failed     int            `json:"failed"`
	Held       int            `json:"held"`
	P50Ms      float64        `json:"p50_ms"`
	P99Ms      float64        `json:"p99_ms"`
	MaxMs      float64        `json:"max_ms"`
	AddedP50Ms float64        `json:"added_p50_ms"`
	AddedP99Ms float64        `json:"added_p99_ms"`
	Failures   map[string]int `json:"failures,omitempty"` // by reason
	Switches   []Switch       `json:"switches,omitempty"` // one for each hold, in their order
}

// Switch is what one hold did to the load.
type Switch struct {
	ID     string `json:"id"`
	Term   uint64 `json:"term"`
	Met    int    `json:"met"`    // in flight at some time of the hold
	Parked int    `json:"parked"` // of these, served by the new term
	Held   int    `json:"held"`
	Failed int    `json:"failed"`
	// InterruptionMs is from the start of the first parked request to the
	// first answer of the new master; 0 when none was parked.
	InterruptionMs float64 `json:"interruption_ms"`
	FirstParked    int64   `json:"first_parked_ns,omitempty"`
	FirstAnswered  int64   `json:"first_answered_ns,omitempty"`
	NormMs         float64 `json:"norm_ms"` // median of the 5 s before
	AddedP50Ms     float64 `json:"added_p50_ms"`
	AddedP99Ms     float64 `json:"added_p99_ms"`
}

// Report may be called while the load runs: it counts what is finished.
func (g *Generator) Report(window Window) Report { return g.tape.report(window) }

func (t *tape) report(window Window) Report {
	if window.End == 0 {
		window.End = Now()
	}
	if window.HeldAfter == 0 {
		window.HeldAfter = DefaultHeldAfter
	}
	var report Report
	var latencies []int64
	for i := t.search(window.Begin); i < t.n.Load(); i++ {
		s := t.at(i)
		if s.sched > window.End {
			break
		}
		if s.done.Load() == 0 {
			continue
		}
		report.Total++
		if s.failed() {
			report.Failed++
			report.blame(t.reason(s))
		}
		if window.counts(s) {
			latencies = append(latencies, s.end-s.sched)
		}
		if slices.ContainsFunc(window.Holds, func(h Hold) bool { return t.held(s, h, window) }) {
			report.Held++
		}
	}
	slices.Sort(latencies)
	report.P50Ms, report.P99Ms, report.MaxMs = ms(quantile(latencies, 0.5)), ms(quantile(latencies, 0.99)), ms(quantile(latencies, 1))
	var added []int64
	for _, hold := range window.Holds {
		one, of := t.switched(hold, window)
		report.Switches = append(report.Switches, one)
		added = append(added, of...)
	}
	slices.Sort(added)
	report.AddedP50Ms, report.AddedP99Ms = ms(quantile(added, 0.5)), ms(quantile(added, 0.99))
	return report
}

func (w Window) counts(s *slot) bool { return w.WithSlow || !s.slow() }

func (r *Report) blame(reason string) {
	if r.Failures == nil {
		r.Failures = map[string]int{}
	}
	r.Failures[reason]++
}

func (t *tape) reason(s *slot) string {
	if s.failure != 0 {
		return t.names.name(s.failure)
	}
	return "status " + strconv.Itoa(int(s.status))
}

func (s *slot) met(h Hold) bool { return s.sched <= h.End && s.end >= h.Begin }

// held leaves out of a slow request's latency what it asked for.
func (t *tape) held(s *slot, h Hold, w Window) bool {
	latency := s.end - s.sched
	if s.slow() {
		latency -= int64(t.config.SlowFor)
	}
	return s.met(h) && latency > int64(w.HeldAfter)
}

// switched looks at one hold, and returns its added latencies as well.
func (t *tape) switched(hold Hold, window Window) (Switch, []int64) {
	out := Switch{ID: hold.ID, Term: hold.Term}
	norm := t.norm(hold, window)
	var added []int64
	// A request that met the hold was due at most a timeout earlier.
	for i := t.search(hold.Begin - int64(t.config.Timeout) - int64(before)); i < t.n.Load(); i++ {
		s := t.at(i)
		// Beyond the hold only a master's first answer is of interest, until
		// one is found.
		if s.sched > hold.End && (out.FirstAnswered != 0 || s.sched > hold.End+int64(t.config.Timeout)) {
			break
		}
		if s.done.Load() == 0 {
			continue
		}
		served := s.status != 0 && s.status < 500 && s.term == hold.Term
		if served && s.end >= hold.Begin && (out.FirstAnswered == 0 || s.end < out.FirstAnswered) {
			out.FirstAnswered = s.end
		}
		if !s.met(hold) {
			continue
		}
		out.Met++
		if s.failed() {
			out.Failed++
		}
		if t.held(s, hold, window) {
			out.Held++
		}
		if served && s.begin <= hold.End {
			out.Parked++
			if out.FirstParked == 0 || s.begin < out.FirstParked {
				out.FirstParked = s.begin
			}
		}
		if window.counts(s) {
			added = append(added, s.end-s.sched-norm)
		}
	}
	if out.Parked > 0 {
		out.InterruptionMs = ms(out.FirstAnswered - out.FirstParked)
	}
	slices.Sort(added)
	out.NormMs, out.AddedP50Ms, out.AddedP99Ms = ms(norm), ms(quantile(added, 0.5)), ms(quantile(added, 0.99))
	return out, added
}

// norm is the median latency of the requests that were over before the hold,
// due in the 5 s before it.
func (t *tape) norm(hold Hold, window Window) int64 {
	var latencies []int64
	for i := t.search(hold.Begin - int64(before)); i < t.n.Load(); i++ {
		s := t.at(i)
		if s.sched >= hold.Begin {
			break
		}
		if s.done.Load() != 0 && s.end < hold.Begin && window.counts(s) {
			latencies = append(latencies, s.end-s.sched)
		}
	}
	slices.Sort(latencies)
	return quantile(latencies, 0.5)
}

// quantile returns the smallest of sorted that is not below the fraction q of
// them (nearest rank); 0 when there are none.
func quantile(sorted []int64, q float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func ms(ns int64) float64 { return float64(ns) / 1e6 }
