//go:build chaos

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/register"
)

// after are the delays from the begin of a phase to the kill.
var after = []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond}

var rounds = flag.Int("rounds", 1, "how often the whole matrix is run")

// TestMatrix kills every process at every step. Rule: no dual master, nothing acknowledged is lost, and the handover
// ends by itself; no request fails that a hold could have saved.
func TestMatrix(t *testing.T) {
	binaries := built(t)
	for round := range *rounds {
		for _, kind := range Kinds() {
			t.Run(fmt.Sprintf("%d/%s", round+1, kind), func(t *testing.T) { row(t, binaries, kind) })
		}
	}
}

// row kills every process of a kind at every phase, on one site.
func row(t *testing.T, binaries demo.Binaries, kind Kind) {
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
	for which := range Names(site, kind) {
		for _, phase := range api.Phases() {
			for _, delay := range after {
				trial := Trial{Kind: kind, Phase: phase, Which: which, After: delay}
				t.Run(fmt.Sprintf("%s/%s+%s", Names(site, kind)[which], phase, delay), func(t *testing.T) {
					loads = append(loads, once(t, site, trial))
				})
			}
		}
	}
	judge := site.JudgeLenient
	if kind.Harmless() {
		judge = site.Judge
	}
	judged(t, judge, loads)
	history, err := site.Recorded(t.Context(), loads...)
	if err != nil {
		t.Fatal(err)
	}
	if one, known := register.Recorded(history, patience); !one && known {
		t.Error("what clients were answered is no one register of who is master")
	}
}

// once is one trial under load.
func once(t *testing.T, site *demo.Site, trial Trial) *demo.Load {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := site.Load(300, func(c *load.Config) { c.SlowFraction = 0.005 })
	if err != nil {
		t.Fatal(err)
	}
	result, err := trial.Run(ctx, site)
	t.Log(result)
	err = errors.Join(err, Steady(ctx, site, result.Master))
	if stop := l.Stop(); stop != nil {
		t.Error(stop)
	}
	if err != nil {
		t.Error(err)
	}
	if report := l.Report(l.Window()); trial.Kind.Harmless() && report.Failed > 0 {
		t.Errorf("%d of %d requests failed: %v", report.Failed, report.Total, report.Failures)
	}
	return l
}
