package oracle

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var dataCenters = []string{"east", "west", "north"}

// reign is the time in which one data center is master at one term.
type reign struct {
	term       uint64
	dataCenter string
	begin, end int64
}

// correct draws a history in which nothing is wrong: reigns that do not
// touch, writes within them, requests around those.
func correct(t *rapid.T) (History, []reign) {
	var h History
	var reigns []reign
	now, term := int64(0), uint64(0)
	for n := range rapid.IntRange(2, 6).Draw(t, "reigns") {
		now += int64(rapid.IntRange(2, 50).Draw(t, "interruption"))
		term += uint64(rapid.IntRange(1, 2).Draw(t, "step"))
		r := reign{term: term, dataCenter: rapid.SampledFrom(dataCenters).Draw(t, "data center"), begin: now}
		if n == 1 && r.dataCenter == reigns[0].dataCenter { // at least one switch
			r.dataCenter = map[bool]string{true: "west", false: "east"}[r.dataCenter == "east"]
		}
		now += 100
		r.end = now
		reigns = append(reigns, r)
		h.Certified = append(h.Certified, Certified{"orders", r.term, r.dataCenter})
		for range rapid.IntRange(1, 8).Draw(t, "writes") {
			h.serve(t, r)
		}
	}
	return h, reigns
}

func (h *History) serve(t *rapid.T, r reign) {
	begin := rapid.Int64Range(r.begin, r.end).Draw(t, "begin")
	end := rapid.Int64Range(begin, r.end).Draw(t, "end")
	w := Write{
		ID: fmt.Sprint("r", len(h.Requests)), Service: "orders", Instance: fmt.Sprint(r.dataCenter, "-", begin%3),
		DataCenter: r.dataCenter, Term: r.term, Begin: begin, End: end,
	}
	q := Request{
		ID: w.ID, Method: "POST", Status: 201, Instance: w.Instance, Term: w.Term,
		Begin: begin - rapid.Int64Range(0, 200).Draw(t, "parked"), End: end + rapid.Int64Range(0, 20).Draw(t, "way back"),
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		q.Method = "GET"
		h.Requests = append(h.Requests, q)
		return
	case 1: // written, answer lost on the way, client told so
		q.Status, q.Instance, q.Term = 503, "", 0
	}
	h.Writes = append(h.Writes, w)
	h.Requests = append(h.Requests, q)
}

// Rule: correct histories are accepted.
func TestCorrectHistoriesAreAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, _ := correct(t)
		if v := Judge(h); !v.OK() || v.OverlapMs != 0 {
			t.Fatalf("%+v", v)
		}
	})
}

// Rule: a correct history with one lie in it is rejected for that lie.
func TestMutatedHistoriesAreRejected(t *testing.T) {
	lies := map[string]func(t *rapid.T, h *History, reigns []reign) func(Verdict) int{
		"a write lasts into the next reign": func(t *rapid.T, h *History, reigns []reign) func(Verdict) int {
			// The last write of one data center reaches to the first of the next.
			writes := slices.Clone(h.Writes)
			slices.SortFunc(writes, func(a, b Write) int { return int(a.Begin - b.Begin) })
			for i := 1; i < len(writes); i++ {
				if writes[i-1].DataCenter != writes[i].DataCenter {
					at := slices.Index(h.Writes, writes[i-1])
					h.Writes[at].End = writes[i].Begin
					return func(v Verdict) int { return v.DualMasterRequests }
				}
			}
			return nil
		},
		"a write at an old term": func(t *rapid.T, h *History, reigns []reign) func(Verdict) int {
			last := slices.MaxFunc(h.Writes, func(a, b Write) int { return int(a.Begin - b.Begin) })
			for _, r := range reigns {
				if r.dataCenter != last.DataCenter && r.term < last.Term {
					h.Writes = append(h.Writes, Write{
						ID: "late", Service: "orders", Instance: "x", DataCenter: r.dataCenter, Term: r.term,
						Begin: last.Begin + 1000, End: last.Begin + 1001,
					})
					return func(v Verdict) int { return v.TermsBackwards }
				}
			}
			return nil
		},
		"a write at another's term": func(t *rapid.T, h *History, reigns []reign) func(Verdict) int {
			at := rapid.IntRange(0, len(h.Writes)-1).Draw(t, "write")
			for _, r := range reigns {
				if r.dataCenter != h.Writes[at].DataCenter {
					h.Writes[at].Term = r.term
					return func(v Verdict) int { return v.TermsShared }
				}
			}
			return nil
		},
		"a certificate missing": func(t *rapid.T, h *History, _ []reign) func(Verdict) int {
			w := rapid.SampledFrom(h.Writes).Draw(t, "write")
			h.Certified = slices.DeleteFunc(h.Certified, func(c Certified) bool { return c.Term == w.Term })
			return func(v Verdict) int { return v.Uncertified }
		},
		"a write missing": func(t *rapid.T, h *History, _ []reign) func(Verdict) int {
			at := rapid.IntRange(0, len(h.Writes)-1).Draw(t, "write")
			id := h.Writes[at].ID
			h.Writes = slices.Delete(h.Writes, at, at+1)
			if !slices.ContainsFunc(h.Requests, func(r Request) bool { return r.ID == id && r.wrote() }) {
				return nil
			}
			return func(v Verdict) int { return v.Lost }
		},
		"an answer missing": func(t *rapid.T, h *History, _ []reign) func(Verdict) int {
			at := rapid.IntRange(0, len(h.Requests)-1).Draw(t, "request")
			h.Requests[at].Status = 0
			return func(v Verdict) int { return v.Unanswered }
		},
		"an answer too many": func(t *rapid.T, h *History, _ []reign) func(Verdict) int {
			h.Requests = append(h.Requests, rapid.SampledFrom(h.Requests).Draw(t, "request"))
			return func(v Verdict) int { return v.AnsweredTwice }
		},
		"an answer by an old master": func(t *rapid.T, h *History, reigns []reign) func(Verdict) int {
			last := slices.MaxFunc(h.Requests, func(a, b Request) int { return int(a.Term) - int(b.Term) })
			of := func(term uint64) string {
				for _, r := range reigns {
					if r.term == term {
						return r.dataCenter
					}
				}
				return ""
			}
			for _, r := range reigns {
				if r.dataCenter != of(last.Term) && r.term < last.Term {
					h.Requests = append(h.Requests, Request{ID: "late", Method: "GET", Status: 200, Term: r.term, Begin: last.End + 1, End: last.End + 2})
					return func(v Verdict) int { return v.StaleAnswers }
				}
			}
			return nil
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			told := 0
			rapid.Check(t, func(t *rapid.T) {
				h, reigns := correct(t)
				if len(h.Writes) == 0 {
					return
				}
				count := lie(t, &h, reigns)
				if count == nil {
					return
				}
				told++
				if v := Judge(h); v.OK() || count(v) == 0 || len(v.Violations) == 0 {
					t.Fatalf("accepted: %+v", v)
				}
			})
			if told < 20 {
				t.Errorf("only %d histories had room for the lie", told)
			}
		})
	}
}

// Rule: the sweep counts exactly what comparing each write with each other
// finds.
func TestSweepAgreesWithBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h History
		for i := range rapid.IntRange(0, 30).Draw(t, "writes") {
			begin := rapid.Int64Range(0, 100).Draw(t, "begin")
			h.Writes = append(h.Writes, Write{
				ID: fmt.Sprint(i), Service: "orders", Instance: "x",
				DataCenter: rapid.SampledFrom(dataCenters).Draw(t, "data center"),
				Term:       rapid.Uint64Range(1, 4).Draw(t, "term"),
				Begin:      begin, End: begin + rapid.Int64Range(0, 15).Draw(t, "length"),
			})
		}
		dual, backwards, overlapped := 0, 0, int64(0)
		for _, w := range h.Writes {
			elsewhere := func(f func(Write) bool) int {
				if slices.ContainsFunc(h.Writes, func(o Write) bool { return o.DataCenter != w.DataCenter && f(o) }) {
					return 1
				}
				return 0
			}
			dual += elsewhere(func(o Write) bool { return o.Begin <= w.End && w.Begin <= o.End })
			backwards += elsewhere(func(o Write) bool { return o.Begin < w.Begin && o.Term > w.Term })
		}
		for at := range int64(120) { // each nanosecond [at, at+1)
			masters := map[string]bool{}
			for _, w := range h.Writes {
				if w.Begin <= at && at < w.End {
					masters[w.DataCenter] = true
				}
			}
			if len(masters) > 1 {
				overlapped++
			}
		}
		v := Judge(h)
		if v.DualMasterRequests != dual || v.TermsBackwards != backwards || int64(v.OverlapMs*1e6+0.5) != overlapped {
			t.Fatalf("sweep: %d dual, %d backwards, %v ms; brute force: %d, %d, %d ns",
				v.DualMasterRequests, v.TermsBackwards, v.OverlapMs, dual, backwards, overlapped)
		}
	})
}

// BenchmarkJudge judges a million writes and a million requests.
func BenchmarkJudge(b *testing.B) {
	const n = 1_000_000
	var h History
	for i := range int64(n) {
		term, begin := uint64(i/100_000), i*1000
		w := Write{ID: fmt.Sprint(i), Instance: "x", DataCenter: dataCenters[term%2], Term: term + 1, Begin: begin, End: begin + 900}
		h.Writes = append(h.Writes, w)
		h.Requests = append(h.Requests, Request{ID: w.ID, Method: "POST", Status: 201, Begin: begin - 10, End: w.End + 10, Instance: "x", Term: w.Term})
	}
	for b.Loop() {
		if v := Judge(h); !v.OK() {
			b.Fatalf("%+v", v)
		}
	}
}
