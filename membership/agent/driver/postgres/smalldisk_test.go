package postgres_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
)

// mountSmall stops a server and moves its log to a small disk of its own, which
// takes root to mount.
func mountSmall(t *testing.T, s *site) string {
	t.Helper()
	s.Kill()
	small := filepath.Join(filepath.Dir(s.Data), "small")
	drivertest.Check(t, os.Mkdir(small, 0o755))
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=96m"); err != nil {
		t.Fatalf("mount a small disk: %v: this test needs to run as root", err)
	}
	t.Cleanup(func() {
		s.Kill()
		if err := syscall.Unmount(small, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	wal := filepath.Join(s.Data, "pg_wal")
	out, err := exec.Command("cp", "-a", wal, small).CombinedOutput()
	if err != nil {
		t.Fatalf("copy log: %v: %s", err, out)
	}
	drivertest.Check(t, os.RemoveAll(wal))
	drivertest.Check(t, os.Symlink(filepath.Join(small, "pg_wal"), wal))
	return small
}
