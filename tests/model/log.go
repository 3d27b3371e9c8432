package model

// right is what the log gives an identity: it may serve at term once that is certified and the agent's own rules allow it.
type right struct {
	term      uint8
	block     int // index of the block that establishes the term
	admission int // index of the entry that listed or admitted the identity
	fallback  bool
}

// before is the log with its entries below index k only.
func (l Log) before(k int) Log {
	for i := k; i < int(l.Len); i++ {
		l.E[i] = Entry{}
	}
	l.Len = uint8(min(k, int(l.Len)))
	return l
}

// remembered is the log as the voters know it: without what they forgot.
func (l Log) remembered() Log {
	for i := range int(l.Len) {
		if l.E[i].has(Forgotten) {
			l.E[i] = Entry{}
		}
	}
	return l
}

// admission is the newest entry below index k that listed x as incoming or admitted it; -1 if there is none.
func (l *Log) admission(x ID, k int) int {
	for i := min(k, int(l.Len)) - 1; i >= 0; i-- {
		if e := &l.E[i]; e.isBlock() && e.Incoming.Has(x) || e.Kind == Admit && ID(e.Ref) == x {
			return i
		}
	}
	return -1
}

// firstAdmission is the oldest such entry.
func (l *Log) firstAdmission(x ID) int {
	for i := range int(l.Len) {
		if e := &l.E[i]; e.isBlock() && e.Incoming.Has(x) || e.Kind == Admit && ID(e.Ref) == x {
			return i
		}
	}
	return -1
}

// rights appends everything that the log ever gave x.
func (l *Log) rights(x ID, out []right) []right {
	for i := range int(l.Len) {
		e := &l.E[i]
		switch {
		case e.isBlock():
			if e.Incoming.Has(x) {
				out = append(out, right{term: e.Term, block: i, admission: i})
			}
			if e.Fallback.Has(x) {
				out = append(out, right{term: e.Term + 1, block: i, admission: l.admission(x, i), fallback: true})
			}
		case e.Kind == Admit && ID(e.Ref) == x:
			out = append(out, right{term: e.Term, block: int(e.Of), admission: i, fallback: e.Term != l.E[e.Of].Term})
		}
	}
	return out
}

// outcome says how the block at k ended, as far as the log knows.
func (l *Log) outcome(k int) (forward, logged bool) {
	if l.E[k].Kind == Adopt {
		return true, true
	}
	for i := k + 1; i < int(l.Len); i++ {
		if e := &l.E[i]; e.Kind == Outcome && int(e.Of) == k {
			return e.has(Forward), true
		}
	}
	return false, false
}

// newestBlock is the index of the newest block.
func (l *Log) newestBlock() int {
	for i := int(l.Len) - 1; i > 0; i-- {
		if l.E[i].Kind == Handover {
			return i
		}
	}
	return 0
}

// open says whether a block waits for its outcome: only a superseding block may follow then.
func (l *Log) open() bool {
	_, logged := l.outcome(l.newestBlock())
	return !logged
}

// master is the identities that the newest block with a logged outcome made master. A late outcome of an older block changes nothing.
func (l *Log) master() Set {
	for i := int(l.Len) - 1; i > 0; i-- {
		if l.E[i].Kind != Handover {
			continue
		}
		if forward, logged := l.outcome(i); forward {
			return l.E[i].Incoming
		} else if logged {
			return l.E[i].Fallback
		}
	}
	return l.E[0].Incoming
}

// topTerm is the highest term that any block uses.
func (l *Log) topTerm(countFallback bool) uint8 {
	var top uint8
	for i := range int(l.Len) {
		e := &l.E[i]
		if !e.isBlock() {
			continue
		}
		top = max(top, e.Term)
		if countFallback && e.Fallback != 0 {
			top = max(top, e.Term+1)
		}
	}
	return top
}

// evidenceTerm is the highest term for which evidence of x is logged: by the outcome of a block whose roster named it.
func (l *Log) evidenceTerm(x ID) uint8 {
	var top uint8
	for i := range int(l.Len) {
		if e := &l.E[i]; e.Kind == Outcome && e.has(Forward) && l.E[e.Of].Roster.Has(x) {
			top = max(top, l.E[e.Of].Term)
		}
	}
	return top
}

// removed is the newest entry that removed x; -1 if there is none.
func (l *Log) removed(x ID) int {
	for i := int(l.Len) - 1; i > 0; i-- {
		if e := &l.E[i]; e.Kind == Remove && ID(e.Ref) == x {
			return i
		}
	}
	return -1
}

// possible says whether the term of r was or can still be certified, as far as the log knows. Only a logged outcome rules one out;
// that a newer block was decided, or even certified, does not.
func (l *Log) possible(r right) bool {
	forward, logged := l.outcome(r.block)
	return !logged || forward != r.fallback
}

// outstanding is rule 3's set: who might still serve. Identities in lost (those whose disk was restored elsewhere, those who acked
// without that being logged) stay; only broken rules drop them.
func (r Rules) outstanding(l *Log, lost Set) Set {
	var set Set
	var buf [8]right
	for x := range ID(idents) {
		evidence, removed := l.evidenceTerm(x), l.removed(x)
		for _, right := range l.rights(x, buf[:0]) {
			if evidence > right.term || removed > right.admission || !l.possible(right) || r.overlooks(l, right) {
				continue
			}
			set |= one(x)
		}
	}
	return set &^ lost
}

// overlooks are the ways to get outstanding wrong.
func (r Rules) overlooks(l *Log, right right) bool {
	_, logged := l.outcome(right.block)
	switch newerClosed := l.newerClosed(right.block); {
	case logged && newerClosed:
		return !r.InsideStaysOutstanding
	case newerClosed:
		return !r.SupersededStaysPossible
	case !logged && !right.fallback:
		return !r.OpenBlockIsOutstanding
	}
	return false
}

// couldServeUnleased says whether x might, as far as the log knows, serve a term that uses no leases.
func (l *Log) couldServeUnleased(x ID) bool {
	var buf [8]right
	evidence, removed := l.evidenceTerm(x), l.removed(x)
	for _, t := range l.rights(x, buf[:0]) {
		if evidence <= t.term && removed <= t.admission && l.possible(t) && !l.leased(t) {
			return true
		}
	}
	return false
}

// announced is the newest announcement about x that is still good: no newer entry admitted it, and no handover block was decided
// since; -1 if there is none.
func (r Rules) announced(l *Log, x ID) int {
	for k := int(l.Len) - 1; k > 0; k-- {
		switch e := &l.E[k]; {
		case e.Kind == Announce && ID(e.Ref) == x:
			return k
		case e.Kind == Handover && r.HandoverVoidsAnnounced, e.Kind == Admit && ID(e.Ref) == x && r.AdmissionVoidsAnnounced:
			return -1
		}
	}
	return -1
}

// masterLeased says whether the term of the master uses leases.
func (l *Log) masterLeased() bool {
	for i := int(l.Len) - 1; i > 0; i-- {
		if l.E[i].Kind != Handover {
			continue
		}
		if forward, logged := l.outcome(i); logged {
			return l.leased(right{block: i, fallback: !forward})
		}
	}
	return l.E[0].has(Leased)
}

// newerClosed says whether the outcome of a block after k is logged.
func (l *Log) newerClosed(k int) bool {
	for i := k + 1; i < int(l.Len); i++ {
		if l.E[i].Kind == Handover {
			if _, logged := l.outcome(i); logged {
				return true
			}
		}
	}
	return false
}
