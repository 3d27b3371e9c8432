// Package report makes the one page that ends a handover, for the terminal and
// as HTML, out of its record. It shows what the record says and nothing else:
// what nobody counted is left out, never shown as zero.
package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// page is the report's content, for both forms.
type page struct {
	Title    string // "orders: east -> west"
	ID       string
	Verdict  string // forward, fallback, ...
	Good     bool
	Sentence string // what happened, in words
	Facts    []fact
	Phases   []phase
	Sections []section
	Next     []fact // a command, and what it is good for
}

type fact struct{ Label, Text string }

// A phase is one bar: Left and Width are percent of the interruption, from the
// hold's beginning to the release's end.
type phase struct {
	Name, Begin, End, Took string
	Left, Width            float64
	Interrupts             bool
}

// A section is a table; the first row is the heading. Note stands above it.
type section struct {
	Title, Note string
	Rows        [][]string
}

func newPage(h *api.Handover) *page {
	p := &page{
		Title: title(h), ID: h.ID, Verdict: h.Outcome, Good: h.Outcome == api.OutcomeForward,
		Sentence: sentence(h), Facts: facts(h), Phases: phases(h), Next: next(h),
	}
	for _, s := range []*section{acks(h), promotions(h), proxies(h), losses(h), problems(h), certificate(h)} {
		if s != nil {
			p.Sections = append(p.Sections, *s)
		}
	}
	return p
}

func title(h *api.Handover) string {
	if h.From == "" {
		return fmt.Sprintf("%s: adopted in %s", h.Service, h.To)
	}
	return fmt.Sprintf("%s: %s -> %s", h.Service, h.From, h.To)
}

func sentence(h *api.Handover) string {
	switch h.Outcome {
	case api.OutcomeForward:
		return fmt.Sprintf("%s is master of %s at term %d.", h.To, h.Service, h.CertifiedTerm)
	case api.OutcomeFallback:
		why := h.GivenUp
		if why == "" {
			why = "an instance refused"
		}
		return fmt.Sprintf("Given up (%s): %s is master of %s on, at term %d.", why, h.From, h.Service, h.CertifiedTerm)
	case api.OutcomeSuperseded:
		return fmt.Sprintf("Handover %s took over: see its report.", orNone(h.SupersededBy))
	}
	if len(h.Waiting) > 0 {
		return fmt.Sprintf("Still %s: waiting for %s.", h.State, strings.Join(h.Waiting, "; "))
	}
	return fmt.Sprintf("Still %s.", h.State)
}

func facts(h *api.Handover) []fact {
	asked := h.By
	if h.Signed {
		asked += " (signed)"
	}
	if h.Reason != "" {
		asked += ": " + h.Reason
	}
	list := []fact{{"asked by", asked}}
	if b := h.BreakGlass; b != nil {
		list = append(list, fact{"BREAK-GLASS", fmt.Sprintf("%s: %s (overrode %s)", b.By, b.Reason, strings.Join(b.Overrides, ", "))})
	}
	started := h.Started.UTC().Format("2006-01-02 15:04:05.000 UTC")
	if h.Ended != nil {
		started += ", took " + Milliseconds(float64(h.Ended.Sub(h.Started))/float64(time.Millisecond))
	}
	list = append(list, fact{"started", started})
	if h.HoldMS != nil {
		list = append(list, fact{"held", fmt.Sprintf("%s of at most %s", Milliseconds(*h.HoldMS), Milliseconds(float64(h.HoldBudgetMS)))})
	}
	if r := h.Requests; r != nil {
		list = append(list, fact{"requests", fmt.Sprintf("%s in all, %s held, %s failed (counted by %s)", count(r.Total), count(r.Held), count(r.Failed), r.Source)})
		list = append(list, latency(r)...)
	}
	if h.Supersedes != "" {
		list = append(list, fact{"supersedes", h.Supersedes})
	}
	if h.AllowLateProxies {
		list = append(list, fact{"late proxies", "allowed: it went on without them"})
	}
	return list
}

func latency(r *api.Requests) []fact {
	var list []fact
	add := func(label string, parts ...string) {
		var known []string
		for i := 0; i < len(parts); i += 2 {
			if parts[i+1] != "" {
				known = append(known, parts[i]+parts[i+1])
			}
		}
		if len(known) > 0 {
			list = append(list, fact{label, strings.Join(known, ", ")})
		}
	}
	add("latency", "p50 ", msOr(r.P50MS, ""), "p99 ", msOr(r.P99MS, ""), "max ", msOr(r.MaxMS, ""))
	add("added", "p50 ", msOr(r.AddedP50MS, ""), "p99 ", msOr(r.AddedP99MS, ""))
	dual := ""
	if r.DualMasters != nil {
		dual = count(*r.DualMasters) + " requests served by two masters"
	}
	add("overlap", "", msOr(r.OverlapMS, ""), "", dual)
	return list
}

func phases(h *api.Handover) []phase {
	from, to := interruption(h)
	var list []phase
	for _, p := range h.Phases {
		row := phase{Name: p.Name, Begin: number(p.BeginMS), Took: "lasts"}
		row.Interrupts = p.Name != api.PhasePrepare && p.Name != api.PhaseSettle
		end := to
		if p.EndMS != nil {
			end = *p.EndMS
			row.End, row.Took = number(end), number(end-p.BeginMS)
		}
		if row.Interrupts && to > from {
			row.Left = 100 * (p.BeginMS - from) / (to - from)
			row.Width = 100 * (end - p.BeginMS) / (to - from)
		}
		list = append(list, row)
	}
	return list
}

// interruption is from the first beginning to the last end of the phases in
// which requests are parked.
func interruption(h *api.Handover) (from, to float64) {
	first := true
	for _, p := range h.Phases {
		if p.Name == api.PhasePrepare || p.Name == api.PhaseSettle {
			continue
		}
		if first || p.BeginMS < from {
			from, first = p.BeginMS, false
		}
		to = max(to, p.BeginMS)
		if p.EndMS != nil {
			to = max(to, *p.EndMS)
		}
	}
	return from, to
}

func next(h *api.Handover) []fact {
	list := []fact{{"signalbox cutover report " + h.ID + " -o json", "every event with its time"}}
	if !h.Done() {
		list = append(list, fact{"signalbox watch " + h.Service, "follow it"},
			fact{"signalbox cutover give-up " + h.ID, "stay with " + orNone(h.From) + ", while it is not certified"})
	}
	if h.Outcome == api.OutcomeSuperseded && h.SupersededBy != "" {
		list = append(list, fact{"signalbox cutover report " + h.SupersededBy, "what took over"})
	}
	if c := h.Certificate; c != nil {
		file := fmt.Sprintf("%s-%d.json", c.Service, c.Term)
		list = append(list, fact{fmt.Sprintf("signalbox cutover report %s --certificate %s", h.ID, file), "save the proof"},
			fact{"signalbox verify " + file + " --keys KEYS", "check it offline"})
	}
	if h.Outcome == api.OutcomeFallback {
		list = append(list, fact{"signalbox plan " + h.Service + " " + h.To, "what blocks the next attempt"})
	}
	if h.Outcome == api.OutcomeForward && h.From != "" {
		list = append(list, fact{"signalbox cutover revert " + h.ID, "the way back"})
	}
	return list
}

// Milliseconds writes milliseconds for a person, seconds from 1000 on.
func Milliseconds(v float64) string {
	if v >= 1000 || v <= -1000 {
		return number(v/1000) + " s"
	}
	return number(v) + " ms"
}

func msOr(v *float64, none string) string {
	if v == nil {
		return none
	}
	return Milliseconds(*v)
}

// number writes milliseconds with microseconds where they matter.
func number(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(v, 'f', 3, 64), "0"), ".")
}

// count groups a number's digits by threes, so that it can be read.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
