// Package oracle judges recorded histories: whether two data centers ever
// served as master at once, and whether anything answered was lost. It shares
// no code with the product, so that one mistake cannot hide in both.
//
// It reads what instances and the load generator wrote by themselves, in raw
// CLOCK_MONOTONIC of one machine; histories of several machines or of
// several boots cannot be compared.
//
// It cannot see what was not recorded: a master that served only reads shows
// up only through the answers' terms.
package oracle

import "fmt"

// MaxViolations is how many violations a verdict tells in words by default.
const MaxViolations = 20

// Write is one line of an instance's write log: an order that it wrote at
// term, being master from Begin to End at the least (nanoseconds).
type Write struct {
	ID         string `json:"id"`
	Service    string `json:"service"` // empty where there is only one
	Instance   string `json:"instance"`
	DataCenter string `json:"data_center"`
	Term       uint64 `json:"term"`
	Begin      int64  `json:"begin_ns"`
	End        int64  `json:"end_ns"`
}

// Request is one line of the load generator's log: sent at Begin, answered in
// full at End (nanoseconds).
type Request struct {
	ID       string `json:"id"`
	Method   string `json:"method"`
	Status   int    `json:"status"` // 0: no answer
	Error    string `json:"error"`
	Begin    int64  `json:"begin_ns"`
	End      int64  `json:"end_ns"`
	Instance string `json:"instance"` // that says it answered, with its term
	Term     uint64 `json:"term"`
}

func (r *Request) answered() bool { return r.Status != 0 && r.Error == "" }

func (r *Request) wrote() bool {
	return r.Method == "POST" && r.answered() && r.Status >= 200 && r.Status < 300
}

// Certified says that a certificate gave a term of a service to a data center.
type Certified struct {
	Service    string `json:"service"`
	Term       uint64 `json:"term"`
	DataCenter string `json:"data_center"`
}

// History is everything recorded in one run.
type History struct {
	Writes   []Write   // in any order; Judge reorders them
	Requests []Request // of one load, or several with different ids
	// Certified, where any is given for a service, must name each term that
	// the service wrote at.
	Certified []Certified
	Truncated int // lines cut short by the death of a process

	// AllowUnanswered accepts requests that failed without an answer, for
	// runs in which what clients talk to is killed. They are counted.
	AllowUnanswered bool
	// Violations is how many to tell in words; 0: MaxViolations.
	Violations int
}

// Verdict is the judgement. Every count up to StaleAnswers is one of
// violations; those after it are for information.
type Verdict struct {
	OverlapMs          float64 `json:"overlap_ms"`           // time in which writes of several data centers were under way
	DualMasterRequests int     `json:"dual_master_requests"` // writes that overlap one of another data center
	TermsBackwards     int     `json:"terms_backwards"`      // writes begun after a higher term of another data center
	TermsShared        int     `json:"terms_shared"`         // writes at a term that belongs to another data center
	Uncertified        int     `json:"uncertified"`          // writes at a term without a certificate
	Malformed          int     `json:"malformed"`            // records that cannot be true by themselves
	Lost               int     `json:"lost"`                 // writes answered, but in no write log
	Misplaced          int     `json:"misplaced"`            // writes logged, but not as they were answered
	AnsweredTwice      int     `json:"answered_twice"`       // further answers to one request
	Unanswered         int     `json:"unanswered"`           // requests without an answer; no violation with AllowUnanswered
	StaleAnswers       int     `json:"stale_answers"`        // sent after another data center had answered at a higher term

	Writes     int `json:"writes"`
	Requests   int `json:"requests"`
	Answered   int `json:"answered"`         // requests
	Errors     int `json:"errors"`           // answered, with 5xx
	Duplicates int `json:"duplicate_writes"` // further lines of one id in the write logs
	Truncated  int `json:"truncated_lines"`

	Found      int      `json:"violations"`                    // of all kinds
	Violations []string `json:"violations_in_words,omitempty"` // the first of each check
	Notes      []string `json:"notes_in_words,omitempty"`      // what is suspicious, but allowed

	limit int
}

// OK reports whether nothing forbidden was found.
func (v *Verdict) OK() bool { return v.Found == 0 }

// violate counts one violation in *count and tells it while there is room.
// One kind gets a quarter of the room at most, so that a flood of it leaves
// words for others.
func (v *Verdict) violate(count *int, words func() string) {
	v.Found++
	*count++
	if *count <= max(1, v.limit/4) && len(v.Violations) < v.limit {
		v.Violations = append(v.Violations, words())
	}
}

func (v *Verdict) note(words func() string) {
	if len(v.Notes) < v.limit {
		v.Notes = append(v.Notes, words())
	}
}

// Judge checks h. Which checks there are is in the fields of Verdict.
func Judge(h History) Verdict {
	v := Verdict{Writes: len(h.Writes), Requests: len(h.Requests), Truncated: h.Truncated, limit: h.Violations}
	if v.limit == 0 {
		v.limit = MaxViolations
	}
	v.checkRecords(h)
	owners := v.checkOwners(h)
	for _, writes := range byService(h.Writes) {
		v.checkOverlap(writes)
		v.checkOrder(writes)
	}
	v.checkAnswers(h)
	v.checkLost(h)
	v.checkStale(h, owners)
	return v
}

// checkRecords: a record must be possible by itself.
func (v *Verdict) checkRecords(h History) {
	for i := range h.Writes {
		w := &h.Writes[i]
		if w.ID == "" || w.Instance == "" || w.DataCenter == "" || w.Term == 0 || w.End < w.Begin {
			v.violate(&v.Malformed, func() string { return "malformed: " + w.String() })
		}
	}
	for i := range h.Requests {
		r := &h.Requests[i]
		if r.ID == "" || r.Method == "" || r.End < r.Begin && r.answered() {
			v.violate(&v.Malformed, func() string { return "malformed: " + r.String() })
		}
	}
}

type serviceTerm struct {
	service string
	term    uint64
}

// checkOwners: a term belongs to one data center, the certified one where
// certificates are given, else the first that wrote at it.
func (v *Verdict) checkOwners(h History) map[serviceTerm]string {
	owners := map[serviceTerm]string{}
	certified := map[string]bool{}
	for _, c := range h.Certified {
		key := serviceTerm{c.Service, c.Term}
		certified[c.Service] = true
		if owner, known := owners[key]; known && owner != c.DataCenter {
			v.violate(&v.TermsShared, func() string {
				return fmt.Sprintf("term %d of %q is certified for both %s and %s", c.Term, c.Service, owner, c.DataCenter)
			})
			continue
		}
		owners[key] = c.DataCenter
	}
	for i := range h.Writes {
		w := &h.Writes[i]
		key := serviceTerm{w.Service, w.Term}
		owner, known := owners[key]
		switch {
		case !known && certified[w.Service]:
			v.violate(&v.Uncertified, func() string { return "no certificate for the term of " + w.String() })
		case !known:
			owners[key] = w.DataCenter
		case owner != w.DataCenter:
			v.violate(&v.TermsShared, func() string {
				return fmt.Sprintf("term %d belongs to %s, but there is %s", w.Term, owner, w)
			})
		}
	}
	return owners
}

// String tells a write in words.
func (w *Write) String() string {
	return fmt.Sprintf("write %q by %s in %s at term %d from %d to %d ns", w.ID, w.Instance, w.DataCenter, w.Term, w.Begin, w.End)
}

// String tells a request in words.
func (r *Request) String() string {
	return fmt.Sprintf("%s %q from %d to %d ns, status %d, error %q, by %s at term %d",
		r.Method, r.ID, r.Begin, r.End, r.Status, r.Error, r.Instance, r.Term)
}
