package model

// voters appends every entry that passes the voters' check. What is proposed is anything; the rules decide.
func (st *stepper) voters() {
	s := st.from
	st.outcomes()
	st.removals()
	view := s.Log.remembered()
	st.entries(&view)
	if !st.rules.WholeLogApplied && s.Log.Len > 1 {
		stale := s.Log.before(int(s.Log.Len) - 1)
		st.entries(&stale)
	}
	if k := int(s.Log.Len) - 1; !st.rules.VotersKeepTheLog && k > 0 && !s.Log.E[k].has(Forgotten) &&
		s.Log.count(func(e *Entry) bool { return e.has(Forgotten) }) < st.bounds.Forgets {
		next := *s
		next.Log.E[k].Flags |= Forgotten
		st.visit(Action{Op: opForget, K: k}, next)
	}
}

func (st *stepper) append(e Entry) {
	next := *st.from
	next.Log.E[next.Log.Len] = e
	next.Log.Len++
	st.visit(Action{Op: opAppend, Entry: e}, next)
}

// entries appends what is checked against the voters' view of the log: handover blocks and admissions.
func (st *stepper) entries(view *Log) {
	if st.from.Log.count(func(e *Entry) bool { return e.Kind == Handover }) < st.bounds.Blocks {
		for _, to := range []DC{East, West} {
			for _, flags := range []uint8{0, AllowsMore, Leased, AllowsMore | Leased} {
				if flags&AllowsMore != 0 && st.bounds.Fences+st.bounds.Lapses == 0 || flags&Leased != 0 && st.bounds.Lapses == 0 {
					continue
				}
				st.handovers(view, to, flags)
			}
		}
	}
	if st.from.Log.count(func(e *Entry) bool { return e.Kind == Admit }) < st.bounds.Admits {
		for x := range ID(idents) {
			if st.from.Alive.Has(x) {
				st.admissions(view, x)
			}
		}
	}
}

// handovers appends the blocks that move mastership to a data center.
func (st *stepper) handovers(view *Log, to DC, flags uint8) {
	open, master := view.open(), view.master()
	if open && !st.rules.OpenUntilOutcome {
		open, master = false, view.E[view.newestBlock()].Incoming
	}
	if open {
		flags |= Superseding
	}
	if to == West {
		flags |= ToWest
	}
	e := Entry{Kind: Handover, Flags: flags, Term: view.topTerm(st.rules.TermAboveFallback) + 1}
	outstanding := st.rules.outstanding(view, st.lost())
	ids := st.from.Alive & in(to)
	for e.Incoming = ids; e.Incoming != 0; e.Incoming = (e.Incoming - 1) & ids {
		if st.from.Singleton && e.Incoming&(e.Incoming-1) != 0 {
			continue
		}
		inside := st.from.inside(to, e.Incoming)
		if open || inside&master == 0 || !st.rules.FromIsTheMaster {
			st.rosters(e, outstanding&^inside, master)
		}
	}
}

// rosters appends a block with its roster: all of it, or without rule 3 any part of it ("who is seen").
func (st *stepper) rosters(e Entry, full, master Set) {
	r := st.rules
	restores := st.from.Log.masterLeased()
	voidable := (!e.has(Superseding) || !r.SupersedingHasNoFallback) && (!e.has(AllowsMore) || !r.OnlyAckBlocksVoidable)
	for e.Roster = full; ; e.Roster = (e.Roster - 1) & full {
		e.Fallback = 0
		e.Flags &^= FallbackLeased
		if voidable && restores {
			e.Flags |= FallbackLeased
		}
		if voidable {
			e.Fallback = e.Roster & in(e.To().Other())
		}
		if voidable && st.from.Singleton {
			e.Fallback = e.Roster & master
		}
		st.append(e)
		if r.RosterFromLog || e.Roster == 0 {
			return
		}
	}
}

// lost is the identities that broken rules no longer count as outstanding.
func (st *stepper) lost() Set {
	s := st.from
	var set Set
	for x := range ID(idents) {
		if !st.rules.OnlyLoggedEvidenceCounts && s.Inst[x].SaidAck != 0 {
			set |= one(x)
		}
	}
	if st.rules.OldKeyStaysOutstanding {
		return set
	}
	for _, x := range s.CopyOf {
		if x > 0 {
			set |= one(ID(x - 1))
		}
	}
	return set
}

// admissions admits x to the newest block's terms; to those of older blocks only without the rule. A singleton's terms admit nobody
// but whom they list (again, after a leave).
func (st *stepper) admissions(view *Log, x ID) {
	newest := view.newestBlock()
	for k := newest; k >= 0; k-- {
		e := &view.E[k]
		if !e.isBlock() || k != newest && st.void(view, k) {
			continue
		}
		if st.from.mayJoin(x, e.Incoming) && view.possible(right{block: k}) {
			st.append(Entry{Kind: Admit, Term: e.Term, Ref: uint8(x), Of: uint8(k)})
		}
		if st.from.mayJoin(x, e.Fallback) && view.possible(right{block: k, fallback: true}) {
			st.append(Entry{Kind: Admit, Term: e.Term + 1, Ref: uint8(x), Of: uint8(k)})
		}
	}
}

// void says whether admissions to the terms of the block at k, which is not the newest, are void.
func (st *stepper) void(view *Log, k int) bool {
	if _, logged := view.outcome(k); !logged && !st.rules.AdmissionsVoidSuperseded {
		return false
	}
	return st.rules.AdmissionsVoidOnceDecided
}

func (s *State) mayJoin(x ID, listed Set) bool {
	return listed != 0 && x.DC() == listed.DC() && (!s.Singleton || listed.Has(x))
}

// outcomes logs how a block ended, at any later time, also after newer blocks.
func (st *stepper) outcomes() {
	l := &st.from.Log
	for k := 1; k < int(l.Len); k++ {
		if l.E[k].Kind != Handover || l.E[k].has(Forgotten) {
			continue
		}
		if _, logged := l.outcome(k); logged {
			continue
		}
		if st.rules.certified(st.from, k, false) || !st.rules.OutcomeNeedsCertificate {
			st.append(Entry{Kind: Outcome, Flags: Forward, Of: uint8(k)})
		}
		if l.E[k].Fallback != 0 && (st.rules.certified(st.from, k, true) || !st.rules.OutcomeNeedsCertificate) {
			st.append(Entry{Kind: Outcome, Of: uint8(k)})
		}
	}
}

// removals takes an identity out of outstanding, with the evidence that a handover would need.
func (st *stepper) removals() {
	l := &st.from.Log
	if l.count(func(e *Entry) bool { return e.Kind == Remove }) >= st.bounds.Removes {
		return
	}
	outstanding := st.rules.outstanding(l, st.lost())
	announces := l.count(func(e *Entry) bool { return e.Kind == Announce }) < st.bounds.Removes && st.bounds.Fences+st.bounds.Lapses > 0
	for x := range ID(idents) {
		if !outstanding.Has(x) {
			continue
		}
		if announces && st.rules.RemovalIsAnnounced && !l.open() {
			st.append(Entry{Kind: Announce, Term: l.topTerm(true) + 1, Ref: uint8(x)})
		}
		i, k := &st.from.Inst[x], st.rules.announced(l, x)
		if i.UnboundFence == 1 || k > 0 && (i.Fenced|i.Lapsed).has(k) {
			st.append(Entry{Kind: Remove, Flags: ByFence, Ref: uint8(x)})
		}
		if !st.rules.RemoveCarriesEvidence || st.left(x) {
			st.append(Entry{Kind: Remove, Ref: uint8(x)})
		}
	}
}

// left says whether a leave names the newest admission of x.
func (st *stepper) left(x ID) bool {
	newest := st.from.Log.admission(x, int(st.from.Log.Len))
	for _, leave := range st.from.Inst[x].Leaves {
		if leave != 0 && int(leave>>4)-1 == newest {
			return true
		}
	}
	return false
}
