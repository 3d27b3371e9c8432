package sim

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Histories leave little behind, so that collecting it often only costs.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1000)
	os.Exit(m.Run())
}

// number reads a number from the environment: SIM_N and SIM_SEED are `make sim`'s.
func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// seeds is how many histories are run when nobody says.
func seeds() uint64 {
	if raced {
		return 50
	}
	return 2000
}

func table(stats map[string]int) string {
	var lines []string
	for what, n := range stats {
		lines = append(lines, fmt.Sprintf("%9d %s", n, what))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[10:], b[10:]) })
	return strings.Join(lines, "\n")
}

// TestSimulation guards section 2 of the design over all pure cores together:
// whatever crashes, is lost, cut off, late, or lies within the bound, never may
// two data centers serve at once; and once the faults stop every handover ends
// and somebody serves.
func TestSimulation(t *testing.T) {
	first, n := number("SIM_SEED", 1), number("SIM_N", seeds())
	total := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		s := Run(seed, None, false)
		if s.Problem != "" {
			again := Run(seed, None, true)
			t.Fatalf("seed %d: %s\n%s\nagain: make sim N=1 SEED=%d", seed, s.Problem, strings.Join(again.Trace(), "\n"), seed)
		}
		for what, count := range s.Stats {
			total[what] += count
		}
		if done := seed - first + 1; done%1000 == 0 && done < n {
			t.Logf("%d seeds from %d on, %d handovers so far", done, first, total["handovers"])
		}
	}
	t.Logf("%d seeds, %d handovers\n%s", n, total["handovers"], table(total))
}

// TestTrace prints the history of SIM_SEED.
func TestTrace(t *testing.T) {
	s := Run(number("SIM_SEED", 1), None, true)
	t.Logf("%s\n%s", strings.Join(s.Trace(), "\n"), table(s.Stats))
}
