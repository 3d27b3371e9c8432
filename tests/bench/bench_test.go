package main

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// TestQuick guards that the benchmark works as a whole: every section measures something, and Signalbox neither fails a
// request nor has two masters. How fast it is depends on what else the machine does, so no goal of time is looked at.
func TestQuick(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./cmd/signalbox", "./examples/orders")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the binaries: %v\n%s", err, out)
	}
	result := filepath.Join(dir, "result.md")
	o, err := parse([]string{"-quick", "-configs", "2:200", "-bin", dir, "-out", result, "-within", "18m"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 2 Envoys, 200/s | floor | 3 |", "| 2 Envoys, 200/s | Signalbox | 3 |", "| haproxy-map | 3 |", "| envoy-rds | 3 |",
		"1% slow", "1000 services", "RssAnon",
		"| ordered at once | 2 |", "| by itself, silence 2s | 1 |", "Guard, allocations per request |  | 0 (goal 0: met)",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the result says nothing of %q", want)
		}
	}
	missed := regexp.MustCompile(`(?m)^- .*(failed requests|overlap).*$`)
	if found := missed.FindAllString(string(text), -1); len(found) > 0 || t.Failed() {
		t.Errorf("%s\n%s", strings.Join(found, "\n"), text)
	}
}

// TestParse guards that wrong flags are errors that name what was expected.
func TestParse(t *testing.T) {
	for _, args := range [][]string{
		{"-configs", "3:500"}, {"-configs", "4"}, {"-configs", "4:0"}, {"-configs", "400:1"}, {"-switches", "0"}, {"-failovers", "0"}, {"-only", "flor"}, {"more"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// TestSummary guards the figures: what was measured ends up in its place, sorted, and a goal that is missed is said so.
func TestSummary(t *testing.T) {
	if got := quantile([]float64{1, 2, 3, 4}, 0.5); got != 2 {
		t.Errorf("median %v, want 2", got)
	}
	if got := quantile([]float64{1, 2, 3, 4}, 0.99); got != 4 {
		t.Errorf("p99 %v, want 4", got)
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("median of nothing %v", got)
	}
	of := config{4, 500}
	floor, fast, slow := newMeasured(nameFloor, of, nil), newMeasured(nameSignalbox, of, nil), newMeasured(nameSignalbox, of, nil)
	floor.interruption = []float64{9, 10, 11}
	fast.interruption = []float64{13, 14.9, 25}
	slow.interruption, slow.failed = []float64{13, 15.1, 27}, 2
	for m, want := range map[*measured]int{fast: 0, slow: 3} {
		r := &report{machine: &machine{}, floors: map[config]*measured{}}
		r.config([]*measured{floor, m})
		if len(r.missed) != want {
			t.Errorf("missed %q, want %d", r.missed, want)
		}
		if text := r.finish(); strings.Count(text, "missed)") != want {
			t.Errorf("the text says %d times that a goal was missed, want %d:\n%s", strings.Count(text, "missed)"), want, text)
		}
	}
	if got := other(demo.East); got != demo.West {
		t.Errorf("the other of east is %s", got)
	}
}

// TestFailoverGoal guards that the slowest failover is judged, that two masters are a miss whatever the time, and that a
// failover that has to find out by itself has no goal of time.
func TestFailoverGoal(t *testing.T) {
	dual := oracle.Verdict{DualMasterRequests: 1}
	for _, c := range []struct {
		of   outages
		want int
	}{
		{outages{took: []float64{2000, 3500}}, 0},
		{outages{took: []float64{2000, 3501}}, 1},
		{outages{}, 1},
		{outages{took: []float64{5000}, automatic: true}, 0},
		{outages{took: []float64{2000}, verdict: dual}, 1},
	} {
		r := &report{machine: &machine{}}
		r.failover(&c.of)
		if text := r.finish(); len(r.missed) != c.want || strings.Count(text, "missed)") != c.want {
			t.Errorf("%+v: missed %q, want %d\n%s", c.of.took, r.missed, c.want, text)
		}
	}
}

// TestAcross guards the goals of a slow network: they are of the medians, for all but the first, and a failed request or
// a finding of the oracle is a miss whatever the time.
func TestAcross(t *testing.T) {
	of := config{4, 500}
	floor, goal := []float64{9, 10, 11}, 70.0
	for _, c := range []struct {
		of   measured
		want int
	}{
		{measured{interruption: []float64{70, 80, 300}}, 0},
		{measured{interruption: []float64{70, 80.1, 90}}, 1},
		{measured{interruption: []float64{70, 80, 90}, failed: 1}, 1},
		{measured{interruption: []float64{70, 80, 90}, verdict: oracle.Verdict{OverlapMs: 1}}, 1},
	} {
		r := &report{machine: &machine{}, o: options{only: map[string]bool{sectionWAN: true}}}
		first := newMeasured(nameFloor, of, nil)
		first.interruption = floor
		c.of.name = "4 voters"
		r.across("far", []*measured{first, &c.of}, "over the floor", goal)
		if text := r.finish(); len(r.missed) != c.want || strings.Count(text, "missed)") != c.want {
			t.Errorf("%v, %d failed: missed %q, want %d\n%s", c.of.interruption, c.of.failed, r.missed, c.want, text)
		}
	}
}

// TestSpread guards the standard error: none where nothing varies, and the larger the more it does.
func TestSpread(t *testing.T) {
	same, little, much := []float64{5, 5, 5, 5}, []float64{4, 5, 5, 5, 6}, []float64{1, 3, 5, 7, 9}
	if got := spread(same, same); got != 0 {
		t.Errorf("of what does not vary: %v", got)
	}
	if a, b := spread(same, little), spread(same, much); a <= 0 || b <= a || b > 4 {
		t.Errorf("of little %v, of much %v", a, b)
	}
}
