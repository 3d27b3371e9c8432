//go:build chaos && linux

package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFrozenMasterWakesLate: the same with the cgroup freezer, which a process
// cannot notice, as a container that is paused.
func TestFrozenMasterWakesLate(t *testing.T) {
	group := cgroup(t)
	set := func(state string) error {
		if err := os.WriteFile(filepath.Join(group, "cgroup.freeze"), []byte(state), 0o644); err != nil {
			return err
		}
		return awaitFrozen(group, state)
	}
	t.Cleanup(func() { _ = set("0") })
	wakesLate(t,
		func(m *master) error {
			if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(fmt.Sprint(m.cmd.Process.Pid)), 0o644); err != nil {
				return err
			}
			return set("1")
		},
		func(*master) error { return set("0") })
}

// cgroup makes a group of the unified hierarchy, mounted for this test alone.
func cgroup(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := syscall.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount the cgroup v2 hierarchy: %v: run as root (sudo make chaos)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	group := filepath.Join(root, fmt.Sprintf("signalbox-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	return group
}

func awaitFrozen(group, state string) error {
	deadline := time.After(frozenWait)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		raw, err := os.ReadFile(filepath.Join(group, "cgroup.events"))
		if err != nil || strings.Contains(string(raw), "frozen "+state) {
			return err
		}
		select {
		case <-pace.C:
		case <-deadline:
			return fmt.Errorf("the group does not become frozen %s: %s", state, raw)
		}
	}
}
