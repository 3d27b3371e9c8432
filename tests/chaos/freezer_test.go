//go:build chaos && linux

package chaos

import (
	"testing"

	"github.com/signalbox-io/signalbox/tests/lab"
)

// TestFrozenMasterWakesLate: the same with the cgroup freezer, which a process
// cannot notice, as a container that is paused.
func TestFrozenMasterWakesLate(t *testing.T) {
	freezer, err := lab.NewFreezer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := freezer.Close(); err != nil {
			t.Error(err)
		}
	})
	wakesLate(t,
		func(m *master) error { return freezer.Freeze(m.cmd.Process.Pid) },
		func(*master) error { return freezer.Thaw() })
}
