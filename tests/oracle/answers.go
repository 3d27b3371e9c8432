package oracle

import (
	"cmp"
	"fmt"
	"slices"
)

// checkAnswers: every request got exactly one answer.
func (v *Verdict) checkAnswers(h History) {
	seen := make(map[string]struct{}, len(h.Requests))
	for i := range h.Requests {
		r := &h.Requests[i]
		if _, again := seen[r.ID]; again {
			v.violate(&v.AnsweredTwice, func() string { return "one more answer: " + r.String() })
		}
		seen[r.ID] = struct{}{}
		switch {
		case r.answered():
			v.Answered++
			if r.Status >= 500 {
				v.Errors++
			}
		case h.AllowUnanswered && r.Error != "":
			v.Unanswered++
			v.note(func() string { return "unanswered: " + r.String() })
		default:
			v.violate(&v.Unanswered, func() string { return "unanswered: " + r.String() })
		}
	}
}

// checkLost: every answered write is in a write log: by the instance and at
// the term that the answer names, within the time of the request. More lines
// of one id are counted, and no violation: a client or proxy may have sent
// it twice.
func (v *Verdict) checkLost(h History) {
	first := make(map[string]int32, len(h.Writes)) // id to its first write
	more := map[string][]int32{}
	for i := range h.Writes {
		w := &h.Writes[i]
		if earlier, again := first[w.ID]; again {
			v.Duplicates++
			more[w.ID] = append(more[w.ID], int32(i))
			v.note(func() string { return fmt.Sprintf("written twice: %s and %s", &h.Writes[earlier], w) })
			continue
		}
		first[w.ID] = int32(i)
	}
	for i := range h.Requests {
		r := &h.Requests[i]
		if !r.wrote() {
			continue
		}
		at, found := first[r.ID]
		switch {
		case !found:
			v.violate(&v.Lost, func() string { return "lost: no write log has " + r.String() })
		case r.caused(&h.Writes[at]):
		case !slices.ContainsFunc(more[r.ID], func(i int32) bool { return r.caused(&h.Writes[i]) }):
			v.violate(&v.Misplaced, func() string {
				return fmt.Sprintf("logged otherwise than answered: %s, but %s", r, &h.Writes[at])
			})
		}
	}
}

// caused reports whether w can be what r was answered for. An answer that
// does not say who gave it fits any.
func (r *Request) caused(w *Write) bool {
	return r.Begin <= w.Begin && w.End <= r.End &&
		(r.Instance == "" || r.Instance == w.Instance) &&
		(r.Term == 0 || r.Term == w.Term)
}

// checkStale: nobody is served by an old master after somebody was served by
// a newer one of another data center. This covers reads, too. Only requests
// that did not overlap in time say anything. It needs to know whose a term
// is, so it judges only histories of one service.
func (v *Verdict) checkStale(h History, owners map[serviceTerm]string) {
	service, dataCenters := "", map[uint64]string{}
	for key, dataCenter := range owners {
		if len(dataCenters) > 0 && key.service != service {
			return
		}
		service = key.service
		dataCenters[key.term] = dataCenter
	}
	var sent []*Request
	for i := range h.Requests {
		r := &h.Requests[i]
		if r.answered() && r.Status < 500 && dataCenters[r.Term] != "" {
			sent = append(sent, r)
		}
	}
	answered := slices.Clone(sent)
	slices.SortFunc(sent, func(a, b *Request) int { return cmp.Compare(a.Begin, b.Begin) })
	slices.SortFunc(answered, func(a, b *Request) int { return cmp.Compare(a.End, b.End) })
	highest := map[string]*Request{}
	over := 0
	for _, r := range sent {
		for ; answered[over].End < r.Begin; over++ {
			done := answered[over]
			of := dataCenters[done.Term]
			if high := highest[of]; high == nil || high.Term < done.Term {
				highest[of] = done
			}
		}
		for dataCenter, high := range highest {
			if dataCenter != dataCenters[r.Term] && high.Term > r.Term {
				v.violate(&v.StaleAnswers, func() string {
					return fmt.Sprintf("served by an old master: %s was sent after the answer to %s", r, high)
				})
				break
			}
		}
	}
}
