//go:build root

package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
)

// TestNetworksSample is a sample of TestNetworks for every run as root: a partition in the middle of a switch, then a
// full disk under a gateway's journal.
func TestNetworksSample(t *testing.T) {
	disks := t.TempDir() // removed after the kernel's own cleanup
	full := Full("gw-west-1")
	k := kernel(t, FourVoters(), built(t), disks, full.Disk)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var all []*demo.Load
	for _, s := range []Storm{
		{Fault: Partition(demo.East, demo.West), At: 60 * time.Millisecond, Lasts: time.Second},
		{Fault: full, At: -200 * time.Millisecond, Lasts: time.Second},
	} {
		loads, told, err := s.Run(ctx, k)
		all = append(all, loads...)
		if t.Log(told); err != nil {
			t.Fatal(err)
		}
	}
	judged(t, k.JudgeLenient, all)
}
