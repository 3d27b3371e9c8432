package agreement

// A Rule is one thing that a replica obeys and that safety hangs on. Each can be
// switched off, in tests only, to see two values decided without it (or, where
// another rule covers for it, to know that).
type Rule uint32

// The rules; DESIGN.md cites them by name.
const (
	// OneVoteOne: one vote 1 in a view.
	OneVoteOne Rule = 1 << iota
	// OneVoteTwo: one vote 2 in a view.
	OneVoteTwo
	// NoVoteOneAfterTimeout: no vote 1 in a view that was ended.
	NoVoteOneAfterTimeout
	// NoVoteTwoAfterTimeout: no vote 2 in a view that was ended.
	NoVoteTwoAfterTimeout
	// TimeoutTellsLock: a timeout names the newest first certificate.
	TimeoutTellsLock
	// ChangeNeeded: no view but the first without proof that the one before
	// was ended.
	ChangeNeeded
	// ProposeHighest: after a view change the block of the highest certificate
	// that the timeouts name is proposed again, and no other.
	ProposeHighest
	// HighestProven: that certificate verifies.
	HighestProven
	// ChangeIsQuorum: a quorum of voters ended the view, each counted once.
	ChangeIsQuorum
	// ChangeIsSigned: each of them signed so, and which certificate it has.
	ChangeIsSigned
	// CertifiedBeforeTwo: a vote 2 follows a certificate of votes 1 only.
	CertifiedBeforeTwo
	// ViewInDecision: a vote 2 counts in its view only.
	ViewInDecision
	// SlotSigned: votes count in their slot only.
	SlotSigned
	// EpochSigned: votes count in their epoch only.
	EpochSigned
	// Validated: what is proposed first is valid to the voter.
	Validated
	// FullQuorum: n - u voters, not one less.
	FullQuorum
)

func (c *Config) holds(r Rule) bool { return c.Without&r == 0 }

// quorum is Quorum, or what is left of it without FullQuorum.
func (c *Config) quorum() int {
	if !c.holds(FullQuorum) {
		return c.Quorum() - 1
	}
	return c.Quorum()
}
