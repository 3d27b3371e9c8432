package model

// evidence says whether x, of the roster of the block at k, has given (or others have given for it) evidence for that block.
func (r Rules) evidence(s *State, x ID, k int) bool {
	i := &s.Inst[x]
	e := &s.Log.E[k]
	switch {
	case i.SaidAck.has(k), e.has(AllowsMore) && (i.Fenced | i.Lapsed).has(k):
		return true
	case !r.EvidenceForExactBlock && i.SaidAck&(1<<k-1) != 0:
		return true
	case !r.SilenceIsNoEvidence && i.Serving == 0 && i.Asked == 0:
		return true
	}
	for _, leave := range i.Leaves {
		if leave != 0 && r.leaveCounts(&s.Log, x, leave, k) {
			return true
		}
	}
	return false
}

// leaveCounts says whether a leave of x is its evidence for the block at k.
func (r Rules) leaveCounts(l *Log, x ID, leave uint8, k int) bool {
	admission, answered := int(leave>>4)-1, int(leave&15)
	if r.LeaveNamesAdmission && admission != r.rosterAdmission(l, x, k) {
		return false
	}
	return k > answered || !r.LeaveNamesBlockAnswered
}

// rosterAdmission is the admission under which the block at k names x in its roster.
func (r Rules) rosterAdmission(l *Log, x ID, k int) int {
	if !r.RosterNamesNewest {
		return l.firstAdmission(x)
	}
	return l.admission(x, k)
}

// certified says whether a certificate of the block at k (or of its fallback) can be put together from what is signed.
func (r Rules) certified(s *State, k int, fallback bool) bool {
	e := &s.Log.E[k]
	if e.Kind == Adopt {
		return !fallback
	}
	given, refused := 0, false
	for x := range ID(idents) {
		if !e.Roster.Has(x) {
			continue
		}
		refused = refused || s.Inst[x].SaidNo.has(k)
		switch {
		case r.evidence(s, x, k):
			given++
		case r.WholeRoster && !fallback:
			return false
		}
	}
	if fallback {
		return refused && e.Fallback != 0
	}
	return given > 0 || e.Roster == 0 || r.WholeRoster
}

// mayServe is the agent's check before it opens the gate at a term it has a right to.
func (r Rules) mayServe(s *State, x ID, t right) bool {
	i := &s.Inst[x]
	if t.term <= i.Serving || r.NeverBelowAck && t.term < s.floor(x) {
		return false
	}
	admission := t.admission
	if t.fallback && !r.FallbackKeepsAdmission {
		admission = max(admission, t.block)
	}
	if int(i.Left) > admission { // Left is an admission plus one
		return false
	}
	if !r.voterAnswerAllows(s, x, t) || !r.leaseGranted(s, x, t) {
		return false
	}
	return !r.ServeNeedsCertificate || r.certified(s, t.block, t.fallback)
}

// floor is the term below which x never serves: the highest it acked.
func (s *State) floor(x ID) uint8 {
	if k := s.Inst[x].Acked.newest(); k > 0 {
		return s.Log.E[k].Term
	}
	return 0
}

// leased says whether the term of a right uses leases: as the voters know, or as an agent that forgets what a fallback restores.
func (l *Log) leased(t right) bool {
	if t.fallback {
		return l.E[t.block].has(FallbackLeased)
	}
	return l.E[t.block].has(Leased)
}

// needsLease says whether the agent serves at t with a live lease only.
func (r Rules) needsLease(l *Log, t right) bool {
	return r.ServeNeedsLease && l.leased(t) && (!t.fallback || r.FallbackKeepsLeases)
}

// leaseGranted says whether the voters grant a lease for t, where one is needed: none that they promised not to. They promised when
// they signed a lapse: no lease below its term under an admission up to that time.
func (r Rules) leaseGranted(s *State, x ID, t right) bool {
	if !r.needsLease(&s.Log, t) || !r.LapsePromises {
		return true
	}
	for k := range int(s.Log.Len) {
		if s.Inst[x].Lapsed.has(k) && t.term < s.Log.E[k].Term && t.admission < k {
			return false
		}
	}
	return true
}

// holdsLease says whether x serves at a term at which it needs a lease: then it has a live one, which may run out.
func (r Rules) holdsLease(s *State, x ID) bool {
	var buf [8]right
	for _, t := range s.Log.rights(x, buf[:0]) {
		if t.term == s.Inst[x].Serving {
			return r.needsLease(&s.Log, t)
		}
	}
	return false
}

// voterAnswerAllows is the nonce question: what the voters answered after the last start keeps the gate closed if it holds
// something newer than the instance's own block (or admission) that could have taken its mastership away without asking it.
func (r Rules) voterAnswerAllows(s *State, x ID, t right) bool {
	asked := s.Inst[x].Asked
	if asked == sinceAdoption || !r.NonceAfterStart {
		return true
	}
	if asked == 0 {
		return false
	}
	own, seen := max(t.block, t.admission), int(asked)-1
	for k := seen; k > own; k-- {
		if r.takesAway(&s.Log, x, k) {
			return false
		}
		if s.Log.E[k].isBlock() && !r.NonceSeesEveryBlock {
			return true
		}
	}
	return true
}

// takesAway says whether the entry at k may rest on evidence about x that x did not give itself.
func (r Rules) takesAway(l *Log, x ID, k int) bool {
	e := &l.E[k]
	return e.Kind == Handover && e.has(AllowsMore) || e.Kind == Announce && ID(e.Ref) == x && r.NonceSeesRemovals
}

// mayAnswer is the agent's check before it answers the block at k.
func (r Rules) mayAnswer(s *State, x ID, k int, refuse bool) bool {
	i, e := &s.Inst[x], &s.Log.E[k]
	if e.Kind != Handover || !e.Roster.Has(x) {
		return false
	}
	if refuse && r.RefuseOnlyVoidable && e.Fallback == 0 {
		return false
	}
	if r.OneAnswerPerBlock && (i.Acked | i.Refused).has(k) {
		return false
	}
	return !r.LeaveIsTheOnlyAnswer || int(i.Left) <= r.rosterAdmission(&s.Log, x, k)
}

// Invariant is something that must hold in every reachable state.
type Invariant uint8

// The invariants.
const (
	OneMaster            Invariant = iota // never are instances of two data centers (or two of a singleton) serving
	OneEnd                                // never are a block and its fallback both certified
	OneAnswer                             // nobody's statements count both ways for one block
	TermsGrow                             // each block's term is above all earlier terms
	ServingIsOutstanding                  // the log knows everybody who serves
	ClosedMeansInside                     // when no block is open, only the master's data center is outstanding
)

var invariantNames = [...]string{
	"two masters serve", "a block and its fallback are both certified", "an identity answered a block both ways",
	"a term did not grow", "someone serves whom the log does not count as outstanding",
	"someone outside the master's data center is outstanding though no block is open",
}

// AllInvariants is every invariant; a search may look for some only.
var AllInvariants = []Invariant{OneMaster, OneEnd, OneAnswer, TermsGrow, ServingIsOutstanding, ClosedMeansInside}

func (v Invariant) String() string { return invariantNames[v] }

// holds checks one invariant.
func (r Rules) holds(v Invariant, s *State) bool {
	switch v {
	case OneMaster:
		return !s.twoMasters()
	case OneEnd:
		return !r.anyBlock(s, func(k int) bool { return r.certified(s, k, false) && r.certified(s, k, true) })
	case OneAnswer:
		return !r.anyBlock(s, func(k int) bool { return r.answeredTwice(s, k) })
	case TermsGrow:
		return !r.anyBlock(s, func(k int) bool {
			before := s.Log.before(k)
			return before.topTerm(true) >= s.Log.E[k].Term
		})
	case ServingIsOutstanding:
		return s.servers()&^AllRules().outstanding(&s.Log, 0) == 0
	default:
		master := s.Log.master()
		return s.Log.open() || AllRules().outstanding(&s.Log, 0)&^s.inside(master.DC(), master) == 0
	}
}

func (r Rules) anyBlock(s *State, bad func(k int) bool) bool {
	for k := 1; k < int(s.Log.Len); k++ {
		if s.Log.E[k].Kind == Handover && bad(k) {
			return true
		}
	}
	return false
}

func (r Rules) answeredTwice(s *State, k int) bool {
	for x := range ID(idents) {
		if s.Log.E[k].Roster.Has(x) && s.Inst[x].SaidNo.has(k) && r.evidence(s, x, k) {
			return true
		}
	}
	return false
}

// servers is who serves now.
func (s *State) servers() Set {
	var set Set
	for x := range ID(idents) {
		if s.Inst[x].Serving > 0 {
			set |= one(x)
		}
	}
	return set
}

func (s *State) twoMasters() bool {
	set := s.servers()
	return set&in(East) != 0 && set&in(West) != 0 || s.Singleton && set&(set-1) != 0
}
