package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// patience bounds every wait; each ends with its condition.
const patience = 90 * time.Second

// rate is the load of a test, in requests per second: enough for some to meet every hold, little enough for two cores
// that run other tests as well.
const rate = 300

var binaries demo.Binaries

// TestMain builds the binaries once, without the race detector: what is tested here is what users run.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == lineCommand {
		fmt.Fprintln(os.Stderr, runLine(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "signalbox-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./cmd/signalbox", "./examples/orders")
		build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the binaries: %v\n%s", err, out)
			return 1
		}
		if binaries, err = demo.FindBinaries(filepath.Join(dir, "signalbox")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// fixture is a site that tests share, one after the other.
type fixture struct {
	*demo.Site
	loads []*demo.Load
	// lenient: somebody killed what clients talk to, so requests may be without an answer.
	lenient bool
}

func start(t *testing.T, o demo.Options) *fixture {
	t.Helper()
	return startWith(t, binaries, o)
}

func startWith(t *testing.T, b demo.Binaries, o demo.Options) *fixture {
	t.Helper()
	o.Binaries = b
	o.Notice = func(line string) { t.Log(line) }
	site, err := demo.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Site: site}
	t.Cleanup(func() {
		if t.Failed() {
			f.Keep()
			t.Logf("the site's logs are in %s", f.Dir())
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// within bounds ctx by patience.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ready says nil.
func eventually(t *testing.T, what string, ready func(context.Context) error) {
	t.Helper()
	if err := demo.Await(within(t), what, ready); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) service(t *testing.T) api.Service {
	t.Helper()
	s, err := f.API().Service(within(t), demo.Service)
	must(t, err)
	return s
}

// master returns the master now, and the other data center.
func (f *fixture) master(t *testing.T) (master, other string) {
	t.Helper()
	if master = f.service(t).Master; master == demo.East {
		return master, demo.West
	}
	return master, demo.East
}

// toMaster makes dc the master, by a switch where it is not.
func (f *fixture) toMaster(t *testing.T, dc string) {
	t.Helper()
	if master, _ := f.master(t); master != dc {
		f.moveTo(t, dc)
	}
	f.steady(t, dc)
}

// order orders a switch as soon as the checks let it.
func (f *fixture) order(t *testing.T, r api.SwitchRequest) api.Handover {
	t.Helper()
	h, err := f.Order(within(t), r)
	must(t, err)
	return h
}

// stoodStill reports whether a handover was given up, as it has to be, because somebody did not say in time that its
// proxies hold: this machine did nothing for a second or two. No request fails by that, which tests see for themselves.
func stoodStill(h *api.Handover) bool {
	return h.Outcome == api.OutcomeFallback && (len(h.LateProxies) > 0 || strings.Contains(h.GivenUp, "whether their proxies hold"))
}

// moved orders a switch and wants it to go forward, at the latest the third time where the machine stood still.
func (f *fixture) moved(t *testing.T, r api.SwitchRequest) api.Handover {
	t.Helper()
	r.HoldBudgetMS = unhurried.Milliseconds()
	for try := 1; ; try++ {
		h, err := f.Follow(within(t), f.order(t, r).ID)
		if err == nil && stoodStill(&h) && try < 3 {
			t.Logf("the switch to %s is ordered again: %s", h.To, h.GivenUp)
			continue
		}
		forward(t, h, err)
		return h
	}
}

// unhurried is a hold budget that no pause of a busy machine uses up.
const unhurried = signalbox.MaxHoldBudget

// steady waits until dc serves everywhere and everybody is there.
func (f *fixture) steady(t *testing.T, dc string) {
	t.Helper()
	eventually(t, "a steady site with master "+dc, func(ctx context.Context) error {
		return errors.Join(f.Steady(ctx, demo.Service, dc), f.AllReady(ctx))
	})
}

// load starts load that the test's end stops.
func (f *fixture) load(t *testing.T, change ...func(*load.Config)) *demo.Load {
	t.Helper()
	l, err := f.Load(rate, append([]func(*load.Config){noSlow}, change...)...)
	must(t, err)
	f.loads = append(f.loads, l)
	t.Cleanup(func() { must(t, l.Stop()) })
	eventually(t, "the first answers", func(context.Context) error {
		if l.Stats().Answered < rate/10 {
			return fmt.Errorf("%+v", l.Stats())
		}
		return nil
	})
	return l
}

// noSlow: requests that ask to be slow would make every drain slow.
func noSlow(c *load.Config) { c.SlowFraction = 0 }

// unharmed stops a load: no request may have failed.
func unharmed(t *testing.T, l *demo.Load) {
	t.Helper()
	must(t, l.Stop())
	report := l.Report(l.Window())
	if report.Failed > 0 || report.Total == 0 {
		t.Errorf("%d of %d requests failed: %v", report.Failed, report.Total, report.Failures)
	}
}

// forward fails the test unless the handover made its goal master.
func forward(t *testing.T, h api.Handover, err error) {
	t.Helper()
	must(t, err)
	if h.Outcome != api.OutcomeForward {
		t.Fatalf("handover %s to %s ended as %s: %s\n%s", h.ID, h.To, h.Outcome, h.GivenUp, timeline(&h))
	}
}

func timeline(h *api.Handover) string {
	var b strings.Builder
	for _, e := range h.Events {
		fmt.Fprintf(&b, "%10.3f %-9s %-9s %s %s\n", float64(e.At.Sub(h.Started).Microseconds())/1000, e.Phase, e.Gateway, e.Instance, e.Detail)
	}
	return b.String()
}

// innocent has the oracle judge everything so far. The loads are stopped.
func (f *fixture) innocent(t *testing.T) {
	t.Helper()
	judge := f.Judge
	if f.lenient {
		judge = f.JudgeLenient
	}
	for _, l := range f.loads {
		must(t, l.Stop())
	}
	verdict, err := judge(within(t), f.loads...)
	must(t, err)
	if !verdict.OK() || verdict.OverlapMs > 0 || verdict.DualMasterRequests > 0 {
		t.Errorf("the oracle finds %d violations: overlap %v ms, %d dual-master requests\n%s",
			verdict.Found, verdict.OverlapMs, verdict.DualMasterRequests, strings.Join(verdict.Violations, "\n"))
	}
	if verdict.Writes == 0 || verdict.Answered == 0 {
		t.Errorf("nothing to judge: %+v", verdict)
	}
}

// command runs the signalbox binary as the site's operator.
func (f *fixture) command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(within(t), binaries.Signalbox, args...)
	cmd.Env = append(os.Environ(), "SIGNALBOX_BUNDLE="+f.OperatorBundle())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
