//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/rpc/failpoint"
)

// TestFailpoints kills a process at every step that reaches a disk, exactly there. Rule 9 and the resumption: what was
// acknowledged is still there, the handover goes on or falls back under the same id, with one outcome.
func TestFailpoints(t *testing.T) {
	binaries, dir := armed(t)
	t.Run("one voter", func(t *testing.T) {
		atEach(t, Failpoints(), dir, demo.Options{Binaries: binaries, HoldBudget: 3 * time.Second})
	})
	t.Run("three voters", func(t *testing.T) {
		atEach(t, VoterFailpoints(), dir, demo.Options{
			Binaries: binaries, HoldBudget: 3 * time.Second, North: true, Envoys: 1, Instances: 2,
			Failover: fmt.Sprintf("{evidence: [lapse], lease_ttl: %s}", LeaseTTL),
		})
	})
	for _, point := range FirstFailpoints() {
		t.Run("first start/"+point.Name, func(t *testing.T) { atFirstStart(t, point, dir, binaries) })
	}
}

// armed builds binaries that die at failpoints, and returns the folder that arms them.
func armed(t *testing.T) (binaries demo.Binaries, dir string) {
	binaries, dir = built(t, "-tags", "failpoints"), t.TempDir()
	t.Setenv(failpoint.Dir, dir)
	t.Setenv(failpoint.Blocks, "2")
	return binaries, dir
}

// adopted starts a site whose service is adopted.
func adopted(t *testing.T, o demo.Options) *demo.Site {
	site, err := demo.Start(t.Context(), o)
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
	return site
}

// atEach kills at each point, on one site.
func atEach(t *testing.T, points []Failpoint, dir string, o demo.Options) {
	site := adopted(t, o)
	var loads []*demo.Load
	for n, point := range points {
		t.Run(point.Name, func(t *testing.T) {
			for round := range *rounds {
				loads = append(loads, atFailpoint(t, site, point, dir, n+round))
			}
		})
	}
	judged(t, site.JudgeLenient, loads)
}

// atFirstStart has a voter die before it has ever voted.
func atFirstStart(t *testing.T, point Failpoint, dir string, binaries demo.Binaries) {
	if err := point.arm(dir); err != nil {
		t.Fatal(err)
	}
	adopted(t, demo.Options{Binaries: binaries, North: true, Gateways: 1, Envoys: 1, Instances: 1})
	if err := point.reached(dir); err != nil {
		t.Errorf("%s: %v", point.Name, err)
	}
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
