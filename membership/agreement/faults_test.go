package agreement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// chaos is a run under faults: everything that a network, disks and liars may
// do, by a seed.
type chaos struct {
	*network
	rng   *rand.Rand
	liars *liar // nil: nobody lies
	lines []string
	// away are the honest voters, in the order in which they go away.
	away []int
}

// newChaos lays out n voters, as many of them lying, and as many pairs of twins,
// as asked for; liars and twins count against r.
func newChaos(t testing.TB, n, u, liars, twins int, seed uint64) *chaos {
	c := &chaos{network: newNetwork(t, n, u), rng: rand.New(rand.NewPCG(seed, 1))}
	c.want = 3
	c.tell = func(s string) { c.lines = append(c.lines, s) }
	if liars > 0 {
		c.liars = &liar{w: c.network, cfg: c.nodes[0].cfg}
	}
	who := c.rng.Perm(n)
	if liars > lying(n, u) {
		who[0], who[slices.Index(who, 0)] = 0, who[0] // the first leader
	}
	for _, v := range who[:liars] {
		c.nodes[v].liar = c.liars
		c.liars.voters = append(c.liars.voters, v)
	}
	for _, v := range who[liars : liars+twins] {
		c.add(config(n, u, v, 0))
	}
	c.away = who[liars+twins:]
	return c
}

// rough moves the network by chance.
func (c *chaos) rough(steps int) {
	c.crash = func(n *node, _ point) bool { return c.rng.IntN(60) == 0 }
	for _, n := range c.nodes {
		c.settle(n)
	}
	for range steps {
		n := c.nodes[c.rng.IntN(len(c.nodes))]
		switch k := c.rng.IntN(100); {
		case k < 60 && len(c.bag) > 0:
			i := c.rng.IntN(min(len(c.bag), 12)) // reordered
			p := c.bag[i]
			if c.rng.IntN(12) > 0 { // else it comes again
				p = c.take(i)
			}
			c.deliver(p)
		case k < 64 && len(c.bag) > 0:
			c.take(c.rng.IntN(len(c.bag)))
		case k < 76:
			c.now = c.now.Add(time.Duration(c.rng.IntN(400)) * time.Millisecond)
			c.tick(n)
		case k < 80 && n.liar == nil:
			if n.r == nil {
				c.restart(n)
			}
		case k < 83:
			c.follow(n, c.nodes[c.rng.IntN(len(c.nodes))])
		case k < 87 && n.r != nil: // true or not
			n.r.SetUnreachable(c.rng.IntN(n.cfg.Voters), c.rng.IntN(3) > 0, c.now)
		case c.liars != nil:
			slot, view := uint64(1), uint64(1)
			if n.r != nil {
				slot, view = n.r.Slot(), n.r.View()
			}
			c.liars.lie(c.rng, slot, view)
		}
	}
}

// calm ends the faults; down voters, at most u with the liars, stay down.
func (c *chaos) calm(down int) {
	c.crash = func(*node, point) bool { return false }
	for _, n := range c.nodes {
		if slices.Contains(c.away[:down], n.voter) {
			n.r = nil
		} else if n.r == nil {
			c.restart(n)
		}
	}
	c.want += 2
	c.heal(10 * time.Minute)
}

func lying(n, u int) int { return n - 1 - 2*u }

var sizes = []struct{ n, u int }{{1, 0}, {3, 1}, {4, 1}, {5, 2}, {6, 2}, {7, 2}}

// TestFaults guards agreement and progress: under loss, duplication, reordering,
// crashes at every point of every effect, lying voters and twins, no two voters
// decide differently; and once the faults stop everything pending is decided,
// with as many voters away as may be, whoever is held to be unreachable by then.
func TestFaults(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := sizes[rapid.IntRange(0, len(sizes)-1).Draw(r, "size")]
		liars := rapid.IntRange(0, lying(size.n, size.u)).Draw(r, "liars")
		twins := rapid.IntRange(0, lying(size.n, size.u)-liars).Draw(r, "twins")
		c := newChaos(t, size.n, size.u, liars, twins, rapid.Uint64().Draw(r, "seed"))
		defer func() {
			if t.Failed() {
				for _, line := range c.lines[max(0, len(c.lines)-150):] {
					t.Log(line)
				}
			}
		}()
		c.rough(rapid.IntRange(0, 600).Draw(r, "steps"))
		c.calm(rapid.IntRange(0, size.u-liars-twins).Draw(r, "down"))
	})
}

// TestTooManyLiars guards that the simulation sees what it looks for: with one
// liar more than n = 4 bears, two values are decided.
func TestTooManyLiars(t *testing.T) {
	for seed := range uint64(3000) {
		found := &failure{TB: t}
		c := newChaos(found, 4, 1, 2, 0, seed)
		if found.run(func() { c.rough(2000) }); found.what != "" {
			t.Logf("seed %d: %s", seed, found.what)
			return
		}
	}
	t.Fatal("nothing was found")
}

// failure takes a fatal failure as what was looked for.
type failure struct {
	testing.TB
	what string
}

type stopped struct{}

func (f *failure) Fatalf(format string, args ...any) {
	f.what = fmt.Sprintf(format, args...)
	panic(stopped{})
}

func (f *failure) Helper() {}

func (f *failure) run(g func()) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(stopped); !ok {
				panic(p)
			}
		}
	}()
	g()
}
