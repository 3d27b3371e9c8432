package oracle

import (
	"reflect"
	"strings"
	"testing"
)

// fine is a switchover from east to west with writes, a read and a failed
// request, in which nothing is wrong.
func fine() History {
	write := func(id, instance, dataCenter string, term uint64, begin, end int64) Write {
		return Write{ID: id, Service: "orders", Instance: instance, DataCenter: dataCenter, Term: term, Begin: begin, End: end}
	}
	request := func(id, method string, status int, begin, end int64, instance string, term uint64) Request {
		return Request{ID: id, Method: method, Status: status, Begin: begin, End: end, Instance: instance, Term: term}
	}
	return History{
		Writes: []Write{
			write("a", "east-1", "east", 7, 100, 200),
			write("b", "east-2", "east", 7, 150, 300),
			write("c", "west-1", "west", 8, 400, 500),
			write("d", "west-2", "west", 8, 450, 600),
		},
		Requests: []Request{
			request("a", "POST", 201, 90, 210, "east-1", 7),
			request("b", "POST", 201, 140, 310, "east-2", 7),
			request("c", "POST", 201, 180, 510, "west-1", 8), // parked
			request("d", "POST", 201, 440, 610, "west-2", 8),
			request("e", "GET", 404, 620, 630, "west-1", 8),
			request("f", "GET", 503, 620, 630, "", 0),
		},
		Certified: []Certified{
			{"orders", 7, "east"}, {"orders", 8, "west"}, {"orders", 9, "east"},
		},
	}
}

// Rule: a correct history is accepted, and counted.
func TestFineHistoryIsAccepted(t *testing.T) {
	got := Judge(fine())
	want := Verdict{Writes: 4, Requests: 6, Answered: 6, Errors: 1, limit: MaxViolations}
	if !reflect.DeepEqual(got, want) || !got.OK() {
		t.Errorf("%+v", got)
	}
	if empty := Judge(History{}); !empty.OK() {
		t.Errorf("%+v", empty)
	}
}

// Rule: each check rejects a history in which exactly its rule is broken.
func TestBrokenHistoriesAreRejected(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*History)
		want  Verdict // the counts of violations
		words string
	}{
		"two masters": {
			func(h *History) { h.Writes[1].End, h.Requests[1].End = 420, 430 },
			Verdict{DualMasterRequests: 2, OverlapMs: 20e-6}, "two masters",
		},
		"two masters in one nanosecond": {
			func(h *History) { h.Writes[1].End, h.Requests[1].End = 400, 430 },
			Verdict{DualMasterRequests: 2}, "two masters",
		},
		"terms went back": {
			func(h *History) {
				h.Writes = append(h.Writes, Write{ID: "x", Service: "orders", Instance: "east-1", DataCenter: "east", Term: 7, Begin: 700, End: 710})
			},
			Verdict{TermsBackwards: 1}, "terms went back",
		},
		"term of another data center": {
			func(h *History) { h.Writes[2].Term, h.Requests[2].Term = 7, 7 },
			Verdict{TermsShared: 1}, "term 7 belongs to east",
		},
		"term of two data centers, without certificates": {
			func(h *History) { h.Certified = nil; h.Writes[2].Term, h.Requests[2].Term = 7, 7 },
			Verdict{TermsShared: 1}, "term 7 belongs to east",
		},
		"term certified twice": {
			func(h *History) { h.Certified = append(h.Certified, Certified{"orders", 9, "west"}) },
			Verdict{TermsShared: 1}, "certified for both",
		},
		"uncertified term": {
			func(h *History) { h.Writes[3].Term, h.Requests[3].Term = 10, 10 },
			Verdict{Uncertified: 1}, "no certificate",
		},
		"lost write": {
			func(h *History) { h.Writes = h.Writes[1:] },
			Verdict{Lost: 1}, "lost",
		},
		"write by another instance than answered": {
			func(h *History) { h.Writes[0].Instance = "east-2" },
			Verdict{Misplaced: 1}, "otherwise than answered",
		},
		"write at another term than answered": {
			func(h *History) {
				h.Requests[0].Term = 6
				h.Certified = append(h.Certified, Certified{"orders", 6, "east"})
			},
			Verdict{Misplaced: 1}, "otherwise than answered",
		},
		"write after its answer": {
			func(h *History) { h.Requests[0].End = 150 },
			Verdict{Misplaced: 1}, "otherwise than answered",
		},
		"write before its request": {
			func(h *History) { h.Requests[0].Begin = 110 },
			Verdict{Misplaced: 1}, "otherwise than answered",
		},
		"two answers": {
			func(h *History) { h.Requests = append(h.Requests, h.Requests[4]) },
			Verdict{AnsweredTwice: 1}, "one more answer",
		},
		"no answer": {
			func(h *History) { h.Requests[4].Status, h.Requests[4].Error = 0, "timeout" },
			Verdict{Unanswered: 1}, "unanswered",
		},
		"answer broken off": {
			func(h *History) { h.Requests[4].Error = "body: unexpected EOF" },
			Verdict{Unanswered: 1}, "unanswered",
		},
		"stale read": {
			func(h *History) {
				h.Requests = append(h.Requests, Request{ID: "x", Method: "GET", Status: 200, Begin: 520, End: 530, Instance: "east-1", Term: 7})
			},
			Verdict{StaleAnswers: 1}, "old master",
		},
		"write that ends before it begins": {
			func(h *History) { h.Writes[3].End = 440 },
			Verdict{Malformed: 1}, "malformed",
		},
		"write at term 0": {
			func(h *History) { h.Writes[0].Term, h.Requests[0].Term, h.Certified = 0, 0, nil },
			Verdict{Malformed: 1}, "malformed",
		},
		"request without an id": {
			func(h *History) { h.Requests[4].ID = "" },
			Verdict{Malformed: 1}, "malformed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := fine()
			c.spoil(&h)
			got := Judge(h)
			if got.OK() || len(got.Violations) == 0 || !strings.Contains(got.Violations[0], c.words) {
				t.Errorf("%+v", got)
			}
			if counts(got) != counts(c.want) {
				t.Errorf("counts %v, want %v: %v", counts(got), counts(c.want), got.Violations)
			}
		})
	}
}

type tally struct {
	overlap                                                  float64
	dual, backwards, shared, uncertified, malformed          int
	lost, misplaced, answeredTwice, unanswered, staleAnswers int
}

func counts(v Verdict) tally {
	return tally{
		v.OverlapMs, v.DualMasterRequests, v.TermsBackwards, v.TermsShared, v.Uncertified, v.Malformed,
		v.Lost, v.Misplaced, v.AnsweredTwice, v.Unanswered, v.StaleAnswers,
	}
}

// Rule: what may happen is told, and is no violation.
func TestAllowedThings(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*History)
		notes  int
		check  func(Verdict) bool
	}{
		"written twice, one after the other": {
			func(h *History) {
				h.Writes = append(h.Writes, Write{ID: "a", Service: "orders", Instance: "east-2", DataCenter: "east", Term: 7, Begin: 205, End: 206})
			}, 1, func(v Verdict) bool { return v.Duplicates == 1 },
		},
		"answered by the second of two writes": {
			func(h *History) {
				h.Writes = append([]Write{{ID: "c", Service: "orders", Instance: "east-2", DataCenter: "east", Term: 7, Begin: 205, End: 206}}, h.Writes...)
			}, 1, func(v Verdict) bool { return v.Duplicates == 1 },
		},
		"written, but not answered": {
			func(h *History) { h.Requests[0].Status, h.Requests[0].Error, h.AllowUnanswered = 0, "EOF", true },
			1, func(v Verdict) bool { return v.Unanswered == 1 && v.Answered == 5 },
		},
		"an instance late with its data center's fallback term": {
			func(h *History) {
				h.Writes = append(h.Writes,
					Write{ID: "x", Service: "orders", Instance: "east-1", DataCenter: "east", Term: 9, Begin: 700, End: 720},
					Write{ID: "y", Service: "orders", Instance: "east-2", DataCenter: "east", Term: 7, Begin: 710, End: 730})
				h.Writes[2], h.Writes[3] = h.Writes[4], h.Writes[5]
				h.Writes, h.Requests = h.Writes[:4], h.Requests[:2]
			}, 0, func(v Verdict) bool { return v.Writes == 4 },
		},
		"another service's master elsewhere": {
			func(h *History) {
				h.Writes = append(h.Writes, Write{ID: "p", Service: "payments", Instance: "west-1", DataCenter: "west", Term: 3, Begin: 100, End: 500})
			}, 0, func(v Verdict) bool { return v.Writes == 5 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := fine()
			c.change(&h)
			if got := Judge(h); !got.OK() || len(got.Notes) != c.notes || !c.check(got) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Rule: a request without an outcome is never accepted.
func TestNoOutcomeIsNeverAccepted(t *testing.T) {
	h := fine()
	h.Requests[4].Status, h.AllowUnanswered = 0, true
	if got := Judge(h); got.Unanswered != 1 || got.OK() {
		t.Errorf("%+v", got)
	}
}

// Rule: a flood of violations is counted in full, told in part, and leaves
// words for other kinds.
func TestWordsAreBounded(t *testing.T) {
	h := fine()
	for range 1000 {
		h.Requests = append(h.Requests, h.Requests[4])
	}
	h.Writes = h.Writes[1:]
	got := Judge(h)
	if got.AnsweredTwice != 1000 || got.Found != 1001 || len(got.Violations) > MaxViolations ||
		!strings.Contains(strings.Join(got.Violations, "\n"), "lost") {
		t.Errorf("%+v", got)
	}
}
