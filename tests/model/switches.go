package model

// Clause is one switch: a clause of a rule, how to drop it, and the bounds within which dropping it leads to two masters.
type Clause struct {
	Name   string // the field of Rules
	Rule   string // of the design's section 2
	Drop   func(*Rules)
	Bounds Bounds
	Spare  string // why dropping it alone breaks nothing, if so
}

// Clauses are all switches, in the order of Rules.
func Clauses() []Clause {
	return []Clause{
		{"WholeLogApplied", "1", func(r *Rules) { r.WholeLogApplied = false }, Bounds{Blocks: 2}, ""},
		{"TermAboveFallback", "1", func(r *Rules) { r.TermAboveFallback = false }, Bounds{Blocks: 2}, ""},
		{"OpenUntilOutcome", "1", func(r *Rules) { r.OpenUntilOutcome = false }, Bounds{Blocks: 2}, ""},
		{"OutcomeNeedsCertificate", "1", func(r *Rules) { r.OutcomeNeedsCertificate = false }, Bounds{Blocks: 2}, ""},
		{"SupersedingHasNoFallback", "1", func(r *Rules) { r.SupersedingHasNoFallback = false }, Bounds{Blocks: 2}, ""},
		{"FromIsTheMaster", "1", func(r *Rules) { r.FromIsTheMaster = false }, Bounds{Blocks: 2, Leaves: 1},
			"when no block is open nobody outside the master's data center is outstanding, so a block to the master's own data center " +
				"has an empty roster: nobody can refuse it"},
		{"RosterFromLog", "3", func(r *Rules) { r.RosterFromLog = false }, Bounds{Blocks: 1}, ""},
		{"OpenBlockIsOutstanding", "3", func(r *Rules) { r.OpenBlockIsOutstanding = false }, Bounds{Blocks: 2}, ""},
		{"SupersededStaysPossible", "3", func(r *Rules) { r.SupersededStaysPossible = false }, Bounds{Blocks: 3}, ""},
		{"InsideStaysOutstanding", "3", func(r *Rules) { r.InsideStaysOutstanding = false }, Bounds{Blocks: 3}, ""},
		{"RemoveCarriesEvidence", "3", func(r *Rules) { r.RemoveCarriesEvidence = false }, Bounds{Blocks: 1, Removes: 1}, ""},
		{"OnlyLoggedEvidenceCounts", "3", func(r *Rules) { r.OnlyLoggedEvidenceCounts = false }, Bounds{Blocks: 2}, ""},
		{"AdmissionsVoidOnceDecided", "3", func(r *Rules) { r.AdmissionsVoidOnceDecided = false }, Bounds{Blocks: 1, Admits: 1, Leaves: 1}, ""},
		{"AdmissionsVoidSuperseded", "3", func(r *Rules) { r.AdmissionsVoidSuperseded = false }, Bounds{Blocks: 2, Admits: 1}, ""},
		{"RosterNamesNewest", "4", func(r *Rules) { r.RosterNamesNewest = false }, Bounds{Blocks: 1, Admits: 1, Leaves: 1}, ""},
		{"OnlyAckBlocksVoidable", "5", func(r *Rules) { r.OnlyAckBlocksVoidable = false }, Bounds{Blocks: 1, Fences: 1}, ""},
		{"RemovalIsAnnounced", "3", func(r *Rules) { r.RemovalIsAnnounced = false }, Bounds{Blocks: 1, Fences: 1, Removes: 1}, ""},
		{"HandoverVoidsAnnounced", "3", func(r *Rules) { r.HandoverVoidsAnnounced = false }, Bounds{Blocks: 2, Fences: 1, Removes: 1}, ""},
		{"AdmissionVoidsAnnounced", "3", func(r *Rules) { r.AdmissionVoidsAnnounced = false }, Bounds{Blocks: 1, Fences: 1, Removes: 1, Admits: 1}, ""},
		{"LapseNeedsLeases", "3", func(r *Rules) { r.LapseNeedsLeases = false }, Bounds{Blocks: 1, Lapses: 2}, ""},
		{"LapseWaits", "lapse", func(r *Rules) { r.LapseWaits = false }, Bounds{Blocks: 1, Lapses: 2, Leased: true}, ""},
		{"LapsePromises", "lapse", func(r *Rules) { r.LapsePromises = false }, Bounds{Blocks: 1, Lapses: 2, Leased: true}, ""},
		{"OldKeyStaysOutstanding", "8", func(r *Rules) { r.OldKeyStaysOutstanding = false }, Bounds{Blocks: 1, Restores: 1, Admits: 1}, ""},
		{"VotersKeepTheLog", "8", func(r *Rules) { r.VotersKeepTheLog = false }, Bounds{Blocks: 2, Forgets: 1, Admits: 1}, ""},
		{"WholeRoster", "certificate", func(r *Rules) { r.WholeRoster = false }, Bounds{Blocks: 1}, ""},
		{"EvidenceForExactBlock", "4", func(r *Rules) { r.EvidenceForExactBlock = false }, Bounds{Blocks: 2}, ""},
		{"SilenceIsNoEvidence", "6", func(r *Rules) { r.SilenceIsNoEvidence = false }, Bounds{Blocks: 1, Crashes: 2}, ""},
		{"LeaveNamesAdmission", "4", func(r *Rules) { r.LeaveNamesAdmission = false }, Bounds{Blocks: 1, Leaves: 1, Admits: 1}, ""},
		{"LeaveNamesBlockAnswered", "4", func(r *Rules) { r.LeaveNamesBlockAnswered = false }, Bounds{Blocks: 1, Leaves: 2}, ""},
		{"ServeNeedsCertificate", "2", func(r *Rules) { r.ServeNeedsCertificate = false }, Bounds{Blocks: 1}, ""},
		{"ServeNeedsListing", "2", func(r *Rules) { r.ServeNeedsListing = false }, Bounds{Blocks: 2}, ""},
		{"NeverBelowAck", "2, 4", func(r *Rules) { r.NeverBelowAck = false }, Bounds{Blocks: 1, Crashes: 1}, ""},
		{"NonceAfterStart", "2", func(r *Rules) { r.NonceAfterStart = false }, Bounds{Blocks: 1, Fences: 2}, ""},
		{"NonceIsFresh", "2", func(r *Rules) { r.NonceIsFresh = false }, Bounds{Blocks: 1, Crashes: 2, Fences: 2}, ""},
		{"NonceSeesEveryBlock", "2", func(r *Rules) { r.NonceSeesEveryBlock = false }, Bounds{Blocks: 2, Fences: 2}, ""},
		{"NonceSeesRemovals", "2", func(r *Rules) { r.NonceSeesRemovals = false }, Bounds{Blocks: 1, Fences: 1, Removes: 1}, ""},
		{"ServeNeedsLease", "2", func(r *Rules) { r.ServeNeedsLease = false }, Bounds{Blocks: 1, Lapses: 2, Leased: true}, ""},
		{"FallbackKeepsLeases", "2", func(r *Rules) { r.FallbackKeepsLeases = false }, Bounds{Blocks: 2, Lapses: 2, Leased: true}, ""},
		{"OneAnswerPerBlock", "4", func(r *Rules) { r.OneAnswerPerBlock = false }, Bounds{Blocks: 1}, ""},
		{"AckClosesGate", "4", func(r *Rules) { r.AckClosesGate = false }, Bounds{Blocks: 1}, ""},
		{"PersistBeforeAck", "4", func(r *Rules) { r.PersistBeforeAck = false }, Bounds{Blocks: 1, Crashes: 1}, ""},
		{"PersistBeforeRefuse", "4", func(r *Rules) { r.PersistBeforeRefuse = false }, Bounds{Blocks: 1, Crashes: 1}, ""},
		{"PersistBeforeLeave", "4", func(r *Rules) { r.PersistBeforeLeave = false }, Bounds{Blocks: 1, Leaves: 1, Crashes: 1}, ""},
		{"LeaveIsTheOnlyAnswer", "4", func(r *Rules) { r.LeaveIsTheOnlyAnswer = false }, Bounds{Blocks: 1, Leaves: 2}, ""},
		{"FallbackKeepsAdmission", "fallback", func(r *Rules) { r.FallbackKeepsAdmission = false }, Bounds{Blocks: 2, Leaves: 1}, ""},
		{"RefuseOnlyVoidable", "4", func(r *Rules) { r.RefuseOnlyVoidable = false }, Bounds{Blocks: 2, Fences: 1},
			"a refuse of a block without fallback certifies nothing; the clause is there so that such a block can still end"},
		{"NewKeyAfterRollback", "8", func(r *Rules) { r.NewKeyAfterRollback = false }, Bounds{Blocks: 1, Restores: 1}, ""},
	}
}
