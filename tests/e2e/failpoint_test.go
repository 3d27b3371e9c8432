package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/rpc/failpoint"
	"github.com/signalbox-io/signalbox/tests/chaos"
)

// TestFailpoints samples what make chaos runs in full: a process killed exactly between a write, its fsync and what
// follows. Rule 9: the handover goes on or falls back under its id, with one outcome, and nothing acknowledged is lost.
func TestFailpoints(t *testing.T) {
	sample := []string{"journal-append-durable", "journal-snapshot-unsynced", "agent-answer-ack-unsynced", "agent-answer-ack-durable", "agent-answer-refuse-durable"}
	dir, points := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", dir+string(filepath.Separator), "./cmd/signalbox", "./examples/orders")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv(failpoint.Dir, points)
	t.Setenv(failpoint.Blocks, "2")
	armed, err := demo.FindBinaries(filepath.Join(dir, "signalbox"))
	must(t, err)
	f := startWith(t, armed, demo.Options{})
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	for n, point := range chaos.Failpoints() {
		if !slices.Contains(sample, point.Name) {
			continue
		}
		l := f.load(t)
		result, err := point.Run(within(t), f.Site, points, n)
		t.Log(result)
		must(t, errors.Join(err, chaos.Steady(within(t), f.Site, result.Master), l.Stop()))
	}
	f.lenient = true
	f.innocent(t)
}
