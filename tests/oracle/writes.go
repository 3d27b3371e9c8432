package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
)

// byService divides writes by service, each sorted by Begin.
func byService(writes []Write) [][]*Write {
	groups := map[string][]*Write{}
	for i := range writes {
		groups[writes[i].Service] = append(groups[writes[i].Service], &writes[i])
	}
	var sorted [][]*Write
	for _, service := range slices.Sorted(maps.Keys(groups)) {
		group := groups[service]
		slices.SortFunc(group, func(a, b *Write) int { return cmp.Compare(a.Begin, b.Begin) })
		sorted = append(sorted, group)
	}
	return sorted
}

// span is a time in which one data center's writes were under way without a
// gap: the union of writes[from:to] of that data center.
type span struct {
	begin, end int64
	from, to   int
}

// site is one data center's writes of one service, by Begin.
type site struct {
	name   string
	writes []*Write
	spans  []span // disjoint, in order
}

func sites(writes []*Write) []*site {
	byName := map[string]*site{}
	var all []*site
	for _, w := range writes {
		s := byName[w.DataCenter]
		if s == nil {
			s = &site{name: w.DataCenter}
			byName[w.DataCenter] = s
			all = append(all, s)
		}
		end := max(w.End, w.Begin)
		if last := len(s.spans) - 1; last >= 0 && w.Begin <= s.spans[last].end {
			s.spans[last].end = max(s.spans[last].end, end)
		} else {
			s.spans = append(s.spans, span{begin: w.Begin, end: end, from: len(s.writes)})
		}
		s.writes = append(s.writes, w)
		s.spans[len(s.spans)-1].to = len(s.writes)
	}
	return all
}

// meets returns the span that [begin, end] touches, if there is one.
func (s *site) meets(begin, end int64) (span, bool) {
	i := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].end >= begin })
	if i == len(s.spans) || s.spans[i].begin > end {
		return span{}, false
	}
	return s.spans[i], true
}

// witness returns the first write of sp that overlaps w. There is one: the
// writes of a span leave no gap.
func (s *site) witness(sp span, w *Write) *Write {
	for _, other := range s.writes[sp.from:sp.to] {
		if other.Begin <= max(w.End, w.Begin) && max(other.End, other.Begin) >= w.Begin {
			return other
		}
	}
	return nil
}

// checkOverlap: no two writes of different data centers overlap. Intervals are
// closed: a write that begins in the nanosecond in which another ends overlaps
// it.
func (v *Verdict) checkOverlap(writes []*Write) {
	all := sites(writes)
	for _, s := range all {
		for _, w := range s.writes {
			for _, other := range all {
				if other == s {
					continue
				}
				if sp, met := other.meets(w.Begin, max(w.End, w.Begin)); met {
					v.violate(&v.DualMasterRequests, func() string {
						return fmt.Sprintf("two masters: %s overlaps %s", w, other.witness(sp, w))
					})
					break
				}
			}
		}
	}
	v.OverlapMs += float64(overlap(all)) / 1e6
}

// overlap returns the nanoseconds in which writes of two data centers or more
// were under way.
func overlap(all []*site) int64 {
	type edge struct {
		at   int64
		step int
	}
	var edges []edge
	for _, s := range all {
		for _, sp := range s.spans {
			edges = append(edges, edge{sp.begin, 1}, edge{sp.end, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	var total, since int64
	masters := 0
	for _, e := range edges {
		if masters >= 2 {
			total += e.at - since
		}
		masters += e.step
		since = e.at
	}
	return total
}

// checkOrder: terms grow over time between data centers. A write at term s in
// one must not begin after a write at a higher term began in another. Within
// one data center it may: an instance that has not yet heard of its data
// center's new term (after a fallback) is no second master.
func (v *Verdict) checkOrder(writes []*Write) {
	highest := map[string]*Write{} // of each data center, among those begun earlier
	for i := 0; i < len(writes); {
		next := i
		for next < len(writes) && writes[next].Begin == writes[i].Begin {
			next++
		}
		for _, w := range writes[i:next] {
			for dataCenter, high := range highest {
				if dataCenter != w.DataCenter && high.Term > w.Term {
					v.violate(&v.TermsBackwards, func() string {
						return fmt.Sprintf("terms went back: %s began after %s", w, high)
					})
					break
				}
			}
		}
		for _, w := range writes[i:next] {
			if high := highest[w.DataCenter]; high == nil || high.Term < w.Term {
				highest[w.DataCenter] = w
			}
		}
		i = next
	}
}
