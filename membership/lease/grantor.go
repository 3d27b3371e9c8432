package lease

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Maxima of what a voter keeps.
const (
	// MaxHolders is how many identities have a lease of one voter at once.
	MaxHolders = 1 << 16
	// MaxPromises is how many identities a voter keeps a promise about.
	MaxPromises = 1 << 17
)

// Of says whose lease it is.
type Of struct {
	Service  signalbox.Service
	Identity signalbox.Identity
}

// Saved is what a voter has on disk.
type Saved struct {
	// Longest is the longest Wait of a lease that this voter ever granted; a
	// voter that joins a later set takes that of all terms in the log, because
	// it has to wait for what the set before it granted.
	Longest  time.Duration
	Promises map[Of]Promise
	// Stopped is the newest slot of the log in which it voted for other voters;
	// until that is decided it grants nothing. 0: none.
	Stopped uint64
}

// A Promise is to grant no lease below a term under an admission up to an index of
// the log. The zero Promise forbids nothing. Two of them are kept as one that
// forbids what either does, and perhaps more.
type Promise struct {
	Below signalbox.Term
	UpTo  uint64
}

func (p Promise) forbids(term signalbox.Term, admission uint64) bool {
	return term < p.Below && admission <= p.UpTo
}

func (p Promise) covers(o Promise) bool { return p.Below >= o.Below && p.UpTo >= o.UpTo }

func (p Promise) join(o Promise) Promise { return Promise{max(p.Below, o.Below), max(p.UpTo, o.UpTo)} }

// A Change is one thing to put on disk. What is zero does not change. A change
// that is repeated, or comes out of order, takes nothing back (see Apply).
type Change struct {
	Longest time.Duration
	Of      Of
	Promise Promise
	Stopped uint64
}

// Apply makes a change.
func (s *Saved) Apply(c Change) {
	s.Longest, s.Stopped = max(s.Longest, c.Longest), max(s.Stopped, c.Stopped)
	if c.Promise != (Promise{}) {
		if s.Promises == nil {
			s.Promises = map[Of]Promise{}
		}
		s.Promises[c.Of] = s.Promises[c.Of].join(c.Promise)
	}
}

// A Grantor is a voter's side of all leases. What it returns as a Change has to
// be on stable storage, and told to Kept, before it goes on. Not safe for
// concurrent use.
type Grantor struct {
	rules rules
	epoch uint64
	start time.Duration
	saved Saved // on disk
	// asked holds promises and stops that are not on disk yet: they bind at once.
	asked Saved
	// decided is the newest slot that the caller's log has.
	decided uint64
	// over is, by holder, when everything granted since the start has run out.
	over map[Of]time.Duration
}

// NewGrantor returns the voter as it starts at now, in the voter set of an epoch.
// A voter that goes on in a new epoch starts anew, too. saved is not kept.
func NewGrantor(epoch uint64, saved Saved, now Instant) *Grantor {
	return newGrantor(allRules(), epoch, saved, now)
}

func newGrantor(rules rules, epoch uint64, saved Saved, now Instant) *Grantor {
	if !rules.stopDurable {
		saved.Stopped = 0
	}
	g := &Grantor{rules: rules, epoch: epoch, start: now.Boot, over: map[Of]time.Duration{}}
	g.saved = Saved{Longest: saved.Longest, Stopped: saved.Stopped, Promises: map[Of]Promise{}}
	for of, promise := range saved.Promises {
		g.saved.Promises[of] = promise
	}
	return g
}

// Epoch is that of the voter set as part of which this voter grants.
func (g *Grantor) Epoch() uint64 { return g.epoch }

// Decided says that the log has every slot up to index, and that the voter set is
// still the grantor's: what was stopped for one of them was not decided.
func (g *Grantor) Decided(index uint64) { g.decided = max(g.decided, index) }

// Kept says that a change is on stable storage.
func (g *Grantor) Kept(c Change) { g.saved.Apply(c) }

// Promised returns what the voter has promised about an identity, on disk or not
// yet.
func (g *Grantor) Promised(of Of) Promise { return g.saved.Promises[of].join(g.asked.Promises[of]) }

// Grant grants a request that the caller has verified, with the leases that the
// log has for its service and term, or says why not (ErrRefused). now has to be
// read after the request came. With a Change nothing was granted yet: keep it and
// ask again.
func (g *Grantor) Grant(r Request, leases signalbox.Leases, now Instant) (*Change, error) {
	of := Of{r.Service, r.Identity}
	if err := leases.Check(); err != nil {
		return nil, err
	}
	switch {
	case !leases.Used():
		return nil, fmt.Errorf("%w: term %d of %s uses no leases", signalbox.ErrRefused, r.Term, r.Service)
	case g.rules.stopRefuses && max(g.saved.Stopped, g.asked.Stopped) > g.decided:
		return nil, fmt.Errorf("%w: the voters are being changed: until that is decided this one grants no leases", signalbox.ErrUnavailable)
	case g.rules.promiseRefuses && g.Promised(of).forbids(r.Term, r.Admission):
		return nil, fmt.Errorf("%w: this voter promised that %s gets no lease below term %d of %s", signalbox.ErrRefused, r.Identity, g.Promised(of).Below, r.Service)
	case r.TTL != leases.TTL:
		return nil, fmt.Errorf("%w: a lease of %s was asked for, those of %s@%d have %s", signalbox.ErrRefused, r.TTL, r.Service, r.Term, leases.TTL)
	}
	if wait := leases.LapseWait(); wait > g.saved.Longest && g.rules.longestDurable {
		return &Change{Longest: wait}, nil
	}
	if _, ok := g.over[of]; !ok && len(g.over) >= MaxHolders && !g.forget(now) {
		return nil, fmt.Errorf("%w: this voter grants leases to %d identities already", signalbox.ErrRefused, MaxHolders)
	}
	g.over[of] = max(g.over[of], now.Boot+g.wait(leases))
	return nil, nil
}

func (g *Grantor) wait(leases signalbox.Leases) time.Duration {
	if !g.rules.waitWithDrift {
		return leases.TTL
	}
	return leases.LapseWait()
}

// forget drops what has run out; it reports whether that made room.
func (g *Grantor) forget(now Instant) bool {
	for of, over := range g.over {
		if over <= now.Boot {
			delete(g.over, of)
		}
	}
	return len(g.over) < MaxHolders
}

// Promise binds the voter at once. It returns what has to be kept before it may
// sign anything about it, nil when that is on disk already.
func (g *Grantor) Promise(of Of, p Promise) (*Change, error) {
	if g.saved.Promises[of].covers(p) {
		return nil, nil
	}
	if _, ok := g.saved.Promises[of]; !ok && len(g.saved.Promises) >= MaxPromises {
		return nil, fmt.Errorf("%w: this voter keeps promises about %d identities already", signalbox.ErrRefused, MaxPromises)
	}
	c := Change{Of: of, Promise: p}
	g.asked.Apply(c)
	return &c, nil
}

// Lapsed reports whether the voter may sign that every lease which the promise
// forbids has run out, and if not, how long that takes at least. leases are those
// that the log has for the term that lapses; what was granted with longer ones, in
// this run or before, is waited for as well. The promise comes first: without it,
// on disk, nothing lapses.
func (g *Grantor) Lapsed(of Of, p Promise, leases signalbox.Leases, now Instant) (ready bool, wait time.Duration) {
	if !g.saved.Promises[of].covers(p) && g.rules.promiseDurable {
		return false, g.wait(leases)
	}
	var at time.Duration
	if g.rules.waitLastGrant {
		at = g.over[of]
	}
	if g.rules.waitSinceStart {
		at = max(at, g.start+max(g.saved.Longest, g.wait(leases)))
	}
	return at <= now.Boot, max(at-now.Boot, 0)
}

// Stop ends granting until slot is decided: this voter is about to vote for other
// voters there. It returns what has to be kept before that vote may leave, nil when
// it is on disk. It binds at once.
func (g *Grantor) Stop(slot uint64) *Change {
	if g.saved.Stopped >= slot {
		return nil
	}
	c := Change{Stopped: slot}
	g.asked.Apply(c)
	return &c
}
