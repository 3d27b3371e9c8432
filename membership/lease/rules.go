package lease

// rules are the clauses that the guarantee rests on. All hold in the product; a
// test drops one to see that its search finds two masters then.
type rules struct {
	// The voter's.
	promiseRefuses bool // no lease below what was promised
	promiseDurable bool // no share before the promise is on disk
	waitLastGrant  bool // no share before the last grant has run out
	waitSinceStart bool // and a restarted voter waits for what it has forgotten
	waitWithDrift  bool // by the slowest holder's clock and the fastest of the voter's
	longestDurable bool // also for leases longer than today's
	stopRefuses    bool // no grant after it stopped for another voter set
	stopDurable    bool // also after a start

	// The holder's.
	countFromSent bool // not from when the grant came
	wholeQuorum   bool
	nonceMatters  bool // a grant is for the request that it answers
	oneEpoch      bool // and counts among those of its voter set only
	bootClock     bool // a wall clock that is set back lengthens nothing
	wallClock     bool // nor a boot-time clock that stands still
	disagreement  bool // nor both by different amounts
}

func allRules() rules {
	return rules{
		promiseRefuses: true, promiseDurable: true, waitLastGrant: true, waitSinceStart: true, waitWithDrift: true,
		longestDurable: true, stopRefuses: true, stopDurable: true,
		countFromSent: true, wholeQuorum: true, nonceMatters: true, oneEpoch: true, bootClock: true, wallClock: true, disagreement: true,
	}
}
