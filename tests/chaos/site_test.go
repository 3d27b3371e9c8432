//go:build chaos || root

package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

const patience = 2 * time.Minute

// built builds the binaries, without the race detector.
func built(t *testing.T, flags ...string) demo.Binaries {
	dir := t.TempDir()
	args := append(append([]string{"build"}, flags...), "-o", dir+string(filepath.Separator), "./cmd/signalbox", "./examples/orders")
	build := exec.Command("go", args...)
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	binaries, err := demo.FindBinaries(filepath.Join(dir, "signalbox"))
	if err != nil {
		t.Fatal(err)
	}
	return binaries
}

func judged(t *testing.T, judge func(context.Context, ...*demo.Load) (oracle.Verdict, error), loads []*demo.Load) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	verdict, err := judge(ctx, loads...)
	if err != nil {
		t.Fatal(err)
	}
	if !verdict.OK() {
		t.Errorf("the oracle finds %d violations: overlap %v ms\n%s", verdict.Found, verdict.OverlapMs, strings.Join(verdict.Violations, "\n"))
	}
	t.Logf("%d writes, %d requests, %d unanswered", verdict.Writes, verdict.Requests, verdict.Unanswered)
}

func kernel(t *testing.T, v Voters, binaries demo.Binaries, dir string, disks ...string) *Kernel {
	t.Helper()
	k, err := StartKernel(t.Context(), v, binaries, dir, disks...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			k.Keep()
			t.Logf("the site's logs are in %s", k.Dir())
		}
		if err := k.Close(); err != nil {
			t.Error(fmt.Errorf("close the site: %w", err))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := k.Adopt(ctx, demo.Service, demo.East); err != nil {
		t.Fatal(err)
	}
	return k
}
