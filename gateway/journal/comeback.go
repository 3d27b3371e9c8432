package journal

// A Standing is what a voter says of itself to another one.
type Standing struct {
	// Index is the newest block in its log, Voted the newest slot that it voted
	// in.
	Index, Voted uint64
	// Begun: it knows that it forgot nothing. Only such a voter votes.
	Begun bool
}

// Standing returns what this voter says of itself.
func (j *Journal) Standing() Standing {
	st := Standing{Index: j.Index(), Begun: j.Begun()}
	st.Voted = st.Index
	if s, err := j.state(); err == nil && s != nil && s.VotedOne > 0 {
		st.Voted = max(st.Voted, s.Slot)
	}
	return st
}

// A Comeback brings a voter whose journal is empty or was restored back to
// voting, without voting twice (interlock rule 8). It never lets this voter
// guess: what it voted for is bounded by what the others know.
//
// A new cluster's voters are all empty. One begins when all others say that they
// never voted; it then says so, and votes when all have begun.
//
// Otherwise this voter may have voted before. A voter votes in slot s only with
// the decision of s-1, and a quorum voted for that one, of whom u others, not
// lying, have the decision of s-2 on their disk. Of n-u others at least one is
// of those, so s-2 is in a log among theirs: this voter waits until it has the
// newest of them, D, and votes in neither D+1 nor D+2, but when those are
// decided. It has the others fill them.
//
// That counts within one epoch, whose quorums meet: a voter that enters another
// one before it is done begins anew, and one that is done has voted in no later
// epoch (membership/agreement, DESIGN.md).
type Comeback struct {
	journal *Journal
	// others and quorum are of the voter set.
	others, quorum int
	epoch          uint64
	target         uint64
}

// NewComeback returns the comeback of one of n voters of an epoch, u of whom may
// be away.
func NewComeback(j *Journal, epoch uint64, n, u int) *Comeback {
	return &Comeback{journal: j, others: n - 1, quorum: n - u, epoch: epoch, target: j.silent(epoch)}
}

// Heard takes what the other voters say, those that answered, and reports
// whether this voter may vote from now on. fill asks for slots to be filled.
func (c *Comeback) Heard(said map[string]Standing) (done, fill bool, err error) {
	own := c.journal.Index()
	if own == 0 && c.target == 0 && !c.journal.fromBackup() && len(said) == c.others && neverVoted(said) {
		return true, false, c.journal.begin()
	}
	if c.target == 0 {
		begun, newest := 0, uint64(0)
		for _, s := range said {
			if s.Begun {
				begun++
			}
			newest = max(newest, s.Index)
		}
		if begun < min(c.quorum, c.others) || own < newest {
			return false, false, nil
		}
		if err := c.journal.setSilent(own+2, c.epoch); err != nil {
			return false, false, err
		}
		c.target = own + 2
	}
	if own < c.target {
		return false, true, nil
	}
	return true, false, c.journal.begin()
}

func neverVoted(said map[string]Standing) bool {
	for _, s := range said {
		if s.Index > 0 || s.Voted > 0 {
			return false
		}
	}
	return true
}
