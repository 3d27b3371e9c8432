package lease

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
)

// The simulation has voters that grant one holder's lease, crash and are started
// again, a network that loses, delays, reorders and repeats, clocks that drift and
// are set, liars that sign whatever anybody wants; and somebody who collects the
// shares of a lapse. It looks for a moment at which a quorum's lapse exists while
// the holder believes in its lease.

const (
	simService  = signalbox.Service("orders")
	simSelf     = signalbox.Identity("a")
	simTerm     = signalbox.Term(7)
	simAdmitted = 12
	simAfter    = 25 * time.Second // how long a run goes on after the lapse was asked for
)

// setup is what a run is about.
type setup struct {
	rules        rules
	n, u, r      int
	ttl, lapse   signalbox.Leases // of the leases, and those that the lapse goes by
	drift        int64            // parts per million that clocks really drift
	fault        fault            // of the holder's clocks
	change       bool             // the voters are changed, the new ones collect
	stay         int              // so many of the old voters are new ones, too
	aborted      bool             // the first slot in which they vote for others is decided without
	learns       bool             // the agent learns of the new voters
	hasty        bool             // the new voters do not wait
	crashes      bool
	askedAt      time.Duration // when the lapse is asked for
	agentRestart bool
	slowDisk     bool
	ignorant     bool // the new voters know no older terms
}

type fault int

const (
	sound fault = iota
	wallBack
	bootStands
	bothWrong // by different amounts
)

// clock is a machine's: real time in, both readings out.
type clock struct {
	rate         int64 // parts per million off
	boot0        time.Duration
	faultAt      time.Duration
	stands, back time.Duration // how long boot stands still, how far wall is set back
}

func (c *clock) at(real time.Duration) Instant {
	lived := real + real*time.Duration(c.rate)/1_000_000
	i := Instant{Boot: c.boot0 + lived, Wall: 1_700_000_000*time.Second + lived}
	if real >= c.faultAt {
		i.Wall -= c.back
		i.Boot -= min(real-c.faultAt, c.stands)
	}
	return i
}

type simEvent struct {
	at time.Duration
	no int
	do func()
}

type agenda []simEvent

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].no < a[j].no
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(simEvent)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

type simVoter struct {
	id      signalbox.Identity
	clock   clock
	liar    bool
	epoch   uint64
	disk    Saved
	grantor *Grantor // nil while down
	run     int      // counts starts: what an earlier run began is lost
	stopped bool     // it said so
	decided uint64   // the newest slot of its log
}

type sim struct {
	setup
	rng    *rand.Rand
	now    time.Duration
	events agenda
	no     int

	voters, next []*simVoter // next: the new voter set
	clock        clock
	holder       *Holder
	incarnation  uint64
	nonces       byte
	sent         []Request // for repeating
	shares       map[*simVoter]bool
	slot         uint64 // in which the voters are changed
	decided      bool   // the new voter set
	later        *Holder

	lapsed, violated bool
	renewed          int // deadlines seen live: the run was about something
}

func newSim(s setup, seed uint64) *sim {
	w := &sim{setup: s, rng: rand.New(rand.NewPCG(seed, 1)), shares: map[*simVoter]bool{}, slot: 1}
	for i := range s.n {
		w.voters = append(w.voters, w.voter(i, 1, i < s.r))
		if i >= s.n-s.stay {
			w.next = append(w.next, w.voters[i])
			continue
		}
		w.next = append(w.next, w.voter(100+i, 2, i < s.r))
	}
	w.clock = w.newClock()
	w.breakClock()
	for _, v := range w.voters {
		w.start(v)
		if s.crashes && !v.liar {
			w.crashes(v)
		}
	}
	w.boot()
	w.after(0, w.renew)
	if s.change {
		w.after(s.askedAt, w.changeVoters)
	} else {
		w.after(s.askedAt, func() { w.collect(w.voters) })
	}
	w.after(0, w.look)
	return w
}

func (w *sim) voter(i int, epoch uint64, liar bool) *simVoter {
	return &simVoter{id: signalbox.Identity(rune('A' + i)), clock: w.newClock(), liar: liar, epoch: epoch}
}

func (w *sim) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d) + 1)) }

func (w *sim) newClock() clock {
	rate := w.drift // the extremes are what matters
	switch w.rng.IntN(3) {
	case 0:
		rate = -rate
	case 1:
		rate = w.rng.Int64N(2*w.drift+1) - w.drift
	}
	return clock{rate: rate, boot0: w.upTo(time.Hour)}
}

func (w *sim) breakClock() {
	w.clock.faultAt = w.upTo(w.askedAt + 2*w.ttl.TTL)
	amount := w.upTo(Disagreement) // too little to be told from drift
	if w.rng.IntN(2) == 0 {
		amount = Disagreement + w.upTo(2*w.ttl.TTL)
	}
	switch w.fault {
	case wallBack:
		w.clock.back = amount
	case bootStands:
		w.clock.stands = amount
	case bothWrong:
		w.clock.stands = amount
		w.clock.back = amount + 2*Disagreement + w.upTo(w.ttl.TTL) + time.Millisecond
	}
}

func (w *sim) after(d time.Duration, do func()) {
	w.no++
	heap.Push(&w.events, simEvent{w.now + d, w.no, do})
}

// run runs to the end, or to the first violation.
func (w *sim) run() *sim {
	for len(w.events) > 0 && !w.violated {
		e := heap.Pop(&w.events).(simEvent)
		if e.at > w.askedAt+simAfter {
			break
		}
		w.now = e.at
		e.do()
		w.check()
	}
	return w
}

func (w *sim) check() {
	if len(w.shares) < w.n-w.u {
		return
	}
	w.lapsed = true
	now := w.clock.at(w.now)
	w.violated = w.holder.Live(now) || w.later != nil && w.later.Live(now)
}

// look looks between the events, too.
func (w *sim) look() {
	if w.holder.Live(w.clock.at(w.now)) {
		w.renewed++
	}
	w.after(20*time.Millisecond, w.look)
}

// delay is mostly short, sometimes longer than a lease.
func (w *sim) delay() time.Duration {
	if w.rng.IntN(8) == 0 {
		return w.upTo(2 * w.ttl.TTL)
	}
	return w.upTo(50 * time.Millisecond)
}

func (w *sim) boot() {
	w.incarnation++
	self := Request{Service: simService, Term: simTerm, Identity: simSelf, Admission: simAdmitted, Incarnation: w.incarnation, TTL: w.ttl.TTL, Epoch: 1}
	w.holder = newHolder(w.rules, w.n-w.u, self)
	if w.later != nil {
		w.learn()
	}
}

// learn has the agent know of the new voters; what the old ones granted lasts as
// long as it does.
func (w *sim) learn() {
	self := w.holder.self
	self.Epoch = 2
	w.later = newHolder(w.rules, w.n-w.u, self)
}

func (w *sim) renew() {
	if w.agentRestart && w.rng.IntN(10) == 0 {
		w.boot()
	}
	w.nonces++
	r := w.holder.Renew(Nonce{w.nonces}, w.clock.at(w.now))
	if w.later != nil {
		w.later.Renew(Nonce{w.nonces}, w.clock.at(w.now))
	}
	w.sent = append(w.sent, r)
	w.send(r)
	if w.rng.IntN(4) == 0 {
		w.send(w.sent[w.rng.IntN(len(w.sent))])
	}
	w.after(Renewal(w.ttl), w.renew)
}

func (w *sim) send(r Request) {
	for i, v := range append(append([]*simVoter(nil), w.voters...), w.next...) {
		if i < 2*w.n-w.stay && w.rng.IntN(10) > 0 {
			w.after(w.delay(), func() { w.request(v, r) })
		}
	}
}

func (w *sim) request(v *simVoter, r Request) {
	if !v.liar {
		if v.grantor == nil {
			return
		}
		c, err := v.grantor.Grant(r, w.ttl, v.clock.at(w.now))
		if c != nil {
			v.disk.Apply(*c)
			v.grantor.Kept(*c)
			c, err = v.grantor.Grant(r, w.ttl, v.clock.at(w.now))
		}
		if c != nil || err != nil {
			return
		}
	}
	for epoch := uint64(1); epoch <= 2; epoch++ {
		if g := r; (v.liar || v.grantor.Epoch() == epoch) && w.rng.IntN(10) > 0 {
			g.Epoch = epoch
			w.after(w.delay(), func() { w.granted(v, g) })
		}
	}
}

func (w *sim) granted(v *simVoter, g Request) {
	if slices.Contains(w.voters, v) { // the holder knows their keys
		w.holder.Granted(v.id, g, w.clock.at(w.now))
	}
	if w.later != nil && slices.Contains(w.next, v) {
		w.later.Granted(v.id, g, w.clock.at(w.now))
	}
}
