//go:build chaos

package chaos

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/rpc/failpoint"
)

// TestFailpoints kills a process at every step that reaches a disk, exactly there. Rule 9 and the resumption: what was
// acknowledged is still there, the handover goes on or falls back under the same id, with one outcome.
func TestFailpoints(t *testing.T) {
	binaries := built(t, "-tags", "failpoints")
	dir := t.TempDir()
	t.Setenv(failpoint.Dir, dir)
	t.Setenv(failpoint.Blocks, "2")
	site, err := demo.Start(t.Context(), demo.Options{Binaries: binaries, HoldBudget: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			site.Keep()
			t.Logf("the site's logs are in %s", site.Dir())
		}
		_ = site.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := site.Adopt(ctx, demo.Service, demo.East); err != nil {
		t.Fatal(err)
	}
	var loads []*demo.Load
	for n, point := range Failpoints() {
		t.Run(point.Name, func(t *testing.T) {
			for round := range *rounds {
				loads = append(loads, atFailpoint(t, site, point, dir, n+round))
			}
		})
	}
	judged(t, site.JudgeLenient, loads)
}

func atFailpoint(t *testing.T, site *demo.Site, point Failpoint, dir string, which int) *demo.Load {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := site.Load(300, func(c *load.Config) { c.SlowFraction = 0.005 })
	if err != nil {
		t.Fatal(err)
	}
	result, err := point.Run(ctx, site, dir, which)
	t.Log(result)
	err = errors.Join(err, Steady(ctx, site, result.Master))
	if stop := l.Stop(); stop != nil {
		t.Error(stop)
	}
	if err != nil {
		t.Error(err)
	}
	if report := l.Report(l.Window()); point.Harmless() && report.Failed > 0 {
		t.Errorf("%d of %d requests failed: %v", report.Failed, report.Total, report.Failures)
	}
	return l
}
