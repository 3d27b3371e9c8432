package sim

import (
	"maps"
	"slices"
	"testing"
)

// TestReplay guards that a seed is one history: a violation that was found can be looked at.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		one, other := Run(seed, None, true), Run(seed, None, true)
		if !slices.Equal(one.Trace(), other.Trace()) || !maps.Equal(one.Stats, other.Stats) || one.seq != other.seq {
			t.Errorf("seed %d is two histories: of %d and %d events", seed, one.seq, other.seq)
		}
	}
}
