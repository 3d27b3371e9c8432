package lease

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
)

const simSeeds = 600

// draw makes a setup within the assumptions.
func draw(seed uint64, rules rules) setup {
	rng := rand.New(rand.NewPCG(seed, 2))
	sizes := [][3]int{{1, 0, 0}, {3, 1, 0}, {4, 1, 1}, {6, 2, 1}}
	size := sizes[rng.IntN(len(sizes))]
	ttls := []time.Duration{time.Second, 3 * time.Second, 6 * time.Second}
	terms := func() signalbox.Leases {
		return signalbox.Leases{TTL: ttls[rng.IntN(len(ttls))], Drift: 50_000}
	}
	s := setup{
		rules: rules, n: size[0], u: size[1], r: size[2], ttl: terms(), lapse: terms(), drift: 50_000,
		fault: fault(rng.IntN(4)), change: rng.IntN(3) == 0, crashes: rng.IntN(2) == 0, agentRestart: rng.IntN(3) == 0,
		slowDisk: rng.IntN(4) == 0,
	}
	s.stay, s.aborted, s.learns = rng.IntN(s.n+1), rng.IntN(3) == 0, rng.IntN(2) == 0
	s.askedAt = 2*time.Second + time.Duration(rng.Int64N(int64(10*time.Second)))
	return s
}

// Whatever crashes, is lost, late or repeated, whoever of r lies, and however the
// clocks drift within the bound: no lapse while the lease is live. (Design,
// section 3: leases.)
func TestNoLapseOfALiveLease(t *testing.T) {
	lapsed, renewed := 0, 0
	for seed := range uint64(simSeeds) {
		w := newSim(draw(seed, allRules()), seed).run()
		if w.violated {
			t.Fatalf("seed %d: a live lease has lapsed at %s: %+v", seed, w.now, w.setup)
		}
		if w.lapsed {
			lapsed++
		}
		renewed += w.renewed
	}
	if lapsed < simSeeds*9/10 || renewed < simSeeds*50 {
		t.Errorf("%d of %d runs lapsed, live at %d looks: the simulation is not about leases", lapsed, simSeeds, renewed)
	}
	t.Logf("%d runs, %d lapsed, live at %d looks", simSeeds, lapsed, renewed)
}

// Each rule is needed: without it the same search finds two masters.
func TestEachRuleIsNeeded(t *testing.T) {
	for name, drop := range map[string]func(*rules){
		"promiseRefuses": func(r *rules) { r.promiseRefuses = false },
		"promiseDurable": func(r *rules) { r.promiseDurable = false },
		"waitLastGrant":  func(r *rules) { r.waitLastGrant = false },
		"waitSinceStart": func(r *rules) { r.waitSinceStart = false },
		"waitWithDrift":  func(r *rules) { r.waitWithDrift = false },
		"longestDurable": func(r *rules) { r.longestDurable = false },
		"stopRefuses":    func(r *rules) { r.stopRefuses = false },
		"stopDurable":    func(r *rules) { r.stopDurable = false },
		"oneEpoch":       func(r *rules) { r.oneEpoch = false },
		"countFromSent":  func(r *rules) { r.countFromSent = false },
		"wholeQuorum":    func(r *rules) { r.wholeQuorum = false },
		"nonceMatters":   func(r *rules) { r.nonceMatters = false },
		"bootClock":      func(r *rules) { r.bootClock = false },
		"wallClock":      func(r *rules) { r.wallClock = false },
		"disagreement":   func(r *rules) { r.disagreement = false },
	} {
		t.Run(name, func(t *testing.T) {
			rules := allRules()
			drop(&rules)
			found(t, func(seed uint64) *sim {
				s := draw(seed, rules)
				if !rules.oneEpoch { // of three voters two stay
					s.n, s.u, s.r, s.change, s.stay = 3, 1, 0, true, 2
				}
				return newSim(s, seed)
			})
		})
	}
}

// The assumptions are needed, too.
func TestBeyondTheAssumptions(t *testing.T) {
	for name, change := range map[string]func(*setup){
		"clocks that drift twice the bound": func(s *setup) { s.drift = 2 * int64(s.ttl.Drift) },
		"one liar too many":                 func(s *setup) { s.r++ },
		"new voters without the old terms":  func(s *setup) { s.change, s.ignorant = true, true },
		"new voters that do not wait":       func(s *setup) { s.change, s.hasty = true, true },
		"a voter that forgets its disk":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			found(t, func(seed uint64) *sim {
				s := draw(seed, allRules())
				if change != nil {
					change(&s)
					return newSim(s, seed)
				}
				s.crashes = true
				w := newSim(s, seed)
				for i := range w.n * 2 {
					v := w.voters[i%w.n]
					w.after(w.upTo(w.askedAt+simAfter), func() { v.disk = Saved{} })
				}
				return w
			})
		})
	}
}

func found(t *testing.T, run func(seed uint64) *sim) {
	t.Helper()
	for seed := range uint64(20 * simSeeds) {
		if w := run(seed).run(); w.violated {
			t.Logf("two masters with seed %d after %s", seed, w.now.Round(time.Millisecond))
			return
		}
	}
	t.Error(fmt.Sprint("no two masters in ", 20*simSeeds, " runs"))
}
