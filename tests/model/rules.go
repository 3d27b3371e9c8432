package model

// Rules are the clauses of the design's section 2, one switch each. The zero value drops all of them.
type Rules struct {
	// Voters: what they check before an entry is appended to the log.
	WholeLogApplied           bool // 1: every check is made with the whole earlier log applied
	TermAboveFallback         bool // 1: a term is above all earlier ones, fallbacks included
	OpenUntilOutcome          bool // 1: a block is open until its outcome is logged
	OutcomeNeedsCertificate   bool // 1: an outcome is logged only with its certificate
	SupersedingHasNoFallback  bool // 1: a superseding block cannot be given up
	FromIsTheMaster           bool // 1: an ordinary block moves mastership away from the data center that has it
	RosterFromLog             bool // 3: the roster is all of outstanding outside the new master's data center
	OpenBlockIsOutstanding    bool // 3: who an open block lists is outstanding
	SupersededStaysPossible   bool // 3: a superseded block without logged outcome can still be certified, both ways
	InsideStaysOutstanding    bool // 3: those inside the new master's data center stay outstanding
	RemoveCarriesEvidence     bool // 3: nobody leaves outstanding but by evidence
	OnlyLoggedEvidenceCounts  bool // 3: evidence takes nobody out of outstanding before it is logged
	AdmissionsVoidOnceDecided bool // 3: once a block is decided, admissions to earlier terms are void
	AdmissionsVoidSuperseded  bool // 3: also those to the terms of a superseded block that is still open
	RosterNamesNewest         bool // 4: the roster names the newest admission
	OnlyAckBlocksVoidable     bool // 5: a block that allows more than acks and leaves has no fallback
	RemovalIsAnnounced        bool // 3: others' evidence for a removal is for the entry that announced it
	HandoverVoidsAnnounced    bool // 3: a handover block voids what was announced before it
	AdmissionVoidsAnnounced   bool // 3: so does another admission of the identity
	LapseNeedsLeases          bool // 3: a lapse counts only if every term that the identity could serve uses leases
	LapseWaits                bool // lapse: signed when every lease granted before has run out
	LapsePromises             bool // lapse: no lease is granted any more that the lapse denies
	OldKeyStaysOutstanding    bool // 8: the old identity of a restored disk stays outstanding
	VotersKeepTheLog          bool // 8, 9: voters do not sign again after losing part of the log

	// Whoever checks a certificate.
	WholeRoster             bool // certificate: evidence of the whole roster
	EvidenceForExactBlock   bool // 4: evidence counts only for its exact block
	SilenceIsNoEvidence     bool // 6: silence is never evidence
	LeaveNamesAdmission     bool // 4: a leave counts only where the roster names its admission
	LeaveNamesBlockAnswered bool // 4: a leave counts only for blocks above the highest one answered

	// Agents.
	ServeNeedsCertificate  bool // 2: it holds the certificate
	ServeNeedsListing      bool // 2: the block lists it or an agreed block admitted it
	NeverBelowAck          bool // 2, 4: it never serves below what it acked
	NonceAfterStart        bool // 2: after a start it asks a quorum of voters
	NonceIsFresh           bool // 2: an answer from before the start does not count
	NonceSeesEveryBlock    bool // 2: every newer block counts, not only the newest
	NonceSeesRemovals      bool // 2: the announcement of a removal counts like such a block
	ServeNeedsLease        bool // 2: where the term uses leases it serves only with a live one
	FallbackKeepsLeases    bool // 2: a fallback keeps the lease mode of the term that it restores
	OneAnswerPerBlock      bool // 4: ack or refuse, once
	AckClosesGate          bool // 4: the gate is closed when the ack is signed
	PersistBeforeAck       bool // 4: the ack is on disk before it is signed
	PersistBeforeRefuse    bool // 4: so is a refuse
	PersistBeforeLeave     bool // 4: so is a leave
	LeaveIsTheOnlyAnswer   bool // 4: after a leave it answers no block whose roster names that admission
	FallbackKeepsAdmission bool // a fallback is no new admission: who left stays out
	RefuseOnlyVoidable     bool // 4: it refuses only blocks that can be voided
	NewKeyAfterRollback    bool // 8: lost or rolled-back state means a new key
}

// AllRules is the design.
func AllRules() Rules {
	return Rules{
		WholeLogApplied: true, TermAboveFallback: true, OpenUntilOutcome: true, OutcomeNeedsCertificate: true,
		SupersedingHasNoFallback: true, FromIsTheMaster: true, RosterFromLog: true, OpenBlockIsOutstanding: true,
		SupersededStaysPossible: true, InsideStaysOutstanding: true, RemoveCarriesEvidence: true,
		OnlyLoggedEvidenceCounts: true, AdmissionsVoidOnceDecided: true, AdmissionsVoidSuperseded: true, RosterNamesNewest: true, OnlyAckBlocksVoidable: true,
		RemovalIsAnnounced: true, HandoverVoidsAnnounced: true, AdmissionVoidsAnnounced: true,
		LapseNeedsLeases: true, LapseWaits: true, LapsePromises: true, ServeNeedsLease: true, FallbackKeepsLeases: true,
		OldKeyStaysOutstanding: true, VotersKeepTheLog: true,
		WholeRoster: true, EvidenceForExactBlock: true, SilenceIsNoEvidence: true, LeaveNamesAdmission: true,
		LeaveNamesBlockAnswered: true,
		ServeNeedsCertificate:   true, ServeNeedsListing: true, NeverBelowAck: true, NonceAfterStart: true,
		NonceIsFresh: true, NonceSeesEveryBlock: true, NonceSeesRemovals: true, OneAnswerPerBlock: true,
		AckClosesGate: true, PersistBeforeAck: true, PersistBeforeRefuse: true, PersistBeforeLeave: true,
		LeaveIsTheOnlyAnswer: true, FallbackKeepsAdmission: true, RefuseOnlyVoidable: true, NewKeyAfterRollback: true,
	}
}

// Bounds limit a search. All of them count from the adopted service on.
type Bounds struct {
	Blocks   int // handover blocks
	Admits   int // admissions
	Removes  int
	Leaves   int // orderly stops
	Crashes  int
	Restores int // restored disks or images
	Fences   int // evidence that an instance does not give itself; 0 leaves blocks that allow it out too
	Lapses   int // lapses; 0 leaves leases out too
	Forgets  int // entries the voters may lose (only when VotersKeepTheLog is off)

	Singleton bool // the service has one master instance, not one master data center
	Leased    bool // the adopted term uses leases
}
