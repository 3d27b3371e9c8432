package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestFailover: the master's data center dies, or hangs as a whole; the other one takes over with proof for each of its
// instances, and the dead one comes back closed. The voter is in the one that lives (design, sections 2 and 3).
func TestFailover(t *testing.T) {
	pids := t.TempDir()
	plugin := filepath.Join(t.TempDir(), "fence")
	must(t, os.WriteFile(plugin, []byte(`#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in --instance) name="$2" ;; esac
  shift
done
pid=$(cat "`+pids+`/$name") || exit 1
kill -9 "$pid" 2>/dev/null
for _ in $(seq 50); do
  grep -qs "^State:.[^Z]" "/proc/$pid/status" || { echo "process $pid of $name is gone"; exit 0; }
  sleep 0.2
done
echo "process $pid of $name does not end"
exit 1
`), 0o700))
	f := start(t, demo.Options{
		Instances: 2, Envoys: 1,
		Failover: fmt.Sprintf("{evidence: [attest, fence], fence: [{data_center: west, name: kill, command: [%q]}]}", plugin),
	})
	f.lenient = true // its Envoy dies with west
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	t.Run("attest", func(t *testing.T) { testAttestedFailover(t, f) })
	t.Run("fence", func(t *testing.T) { testFencedFailover(t, f, pids) })
	f.innocent(t)
}

// west are the names of all that runs in west.
func (f *fixture) west() (names []string) {
	for _, name := range f.Processes() {
		if strings.Contains(name, "-"+demo.West+"-") {
			names = append(names, name)
		}
	}
	return names
}

// fromEast is load over the Envoys of east only.
func (f *fixture) fromEast(c *load.Config) {
	c.Targets = nil
	for i, e := range f.Envoys() {
		if e.DataCenter == demo.East {
			c.Targets = append(c.Targets, f.Targets()[i])
		}
	}
}

// takenOver waits until east is master, and serves.
func (f *fixture) takenOver(t *testing.T) {
	t.Helper()
	eventually(t, "east to serve", func(ctx context.Context) error {
		s, err := f.API().Service(ctx, demo.Service)
		if err != nil {
			return err
		}
		for _, site := range s.DataCenters {
			if site.DataCenter == demo.East && s.Master == demo.East && site.Serving == 2 {
				return nil
			}
		}
		return fmt.Errorf("%+v", s)
	})
}

// certified saves a handover's certificate and has it verified offline.
func (f *fixture) certified(t *testing.T, h api.Handover) string {
	t.Helper()
	if h.Certificate == nil {
		t.Fatalf("the record of %s has no certificate", h.ID)
	}
	file := filepath.Join(t.TempDir(), "certificate")
	must(t, os.WriteFile(file, h.Certificate.Raw, 0o600))
	code, out, errs := f.command(t, "verify", file, "--keys", f.OperatorBundle())
	if code != 0 {
		t.Fatalf("verify: exit code %d\n%s%s", code, out, errs)
	}
	return out
}

func (f *fixture) newest(t *testing.T) api.Handover { return f.newestOf(t, demo.Service) }

func (f *fixture) newestOf(t *testing.T, service string) api.Handover {
	t.Helper()
	var h api.Handover
	eventually(t, "the record of the failover", func(ctx context.Context) error {
		list, err := f.API().Handovers(ctx, service, 1)
		if err != nil || len(list) == 0 {
			return fmt.Errorf("%d records, %w", len(list), err)
		}
		if h, err = f.API().Handover(ctx, list[0].ID); err == nil && !h.Done() {
			err = fmt.Errorf("it is %s", h.State)
		}
		return err
	})
	return h
}

// Rule 6: kill -9 of a whole data center moves nothing; a person's word for each of its instances does, and stands in the
// certificate.
func testAttestedFailover(t *testing.T, f *fixture) {
	f.toMaster(t, demo.West)
	l := f.load(t, f.fromEast)
	for _, name := range f.west() {
		must(t, f.Down(name, syscall.SIGKILL))
	}
	eventually(t, "the plan to know that west is silent", func(context.Context) error {
		code, out, errs := f.command(t, "failover", demo.Service, "--to", demo.East, "--evidence", "attest", "--dry-run")
		if code != 0 || strings.Count(out, "silent): attest; until an operator takes responsibility") != 2 {
			return fmt.Errorf("exit code %d\n%s%s", code, out, errs)
		}
		return nil
	})
	if code, _, errs := f.command(t, "failover", demo.Service, "--to", demo.East, "--evidence", "attest", "--attest"); code != 2 || !strings.Contains(errs, "--reason") {
		t.Errorf("an attest without a reason: exit code %d\n%s", code, errs)
	}
	code, out, errs := f.command(t, "failover", demo.Service, "--to", demo.East, "--evidence", "attest", "--attest", "--reason", "west burned down")
	if code != 0 || strings.Count(errs, "attested for") != 2 {
		t.Fatalf("failover: exit code %d\n%s%s", code, out, errs)
	}
	f.takenOver(t)
	h := f.newest(t)
	if words := f.certified(t, h); strings.Count(words, `attest: operator demo took responsibility`) != 2 || !strings.Contains(words, `"west burned down"`) ||
		!strings.Contains(words, "a person said so, and nobody else") {
		t.Errorf("verify says:\n%s", words)
	}
	for _, name := range f.west() {
		must(t, f.Up(name))
	}
	defer func() {
		if t.Failed() {
			_, out, _ := f.command(t, "proxy", "list", "-o", "wide")
			_, more, _ := f.command(t, "status", "-o", "wide")
			for _, e := range f.Envoys() {
				pid := f.Pid(e.Name)
				raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				t.Logf("%s %d %.60s", e.Name, pid, raw)
			}
			t.Logf("%s\n%s", out, more)
		}
	}()
	f.steady(t, demo.East)
	must(t, l.Stop())
}

// Rule 6: a data center that hangs as a whole is fenced by the plugin; what wakes up afterwards serves nothing.
func testFencedFailover(t *testing.T, f *fixture, pids string) {
	f.toMaster(t, demo.West)
	l := f.load(t, f.fromEast)
	for _, in := range f.Instances() {
		must(t, os.WriteFile(filepath.Join(pids, in.Name), fmt.Appendln(nil, f.Pid(in.Name)), 0o600))
	}
	for _, name := range f.west() {
		must(t, f.Stop(name))
	}
	code, out, errs := f.command(t, "failover", demo.Service, "--to", demo.East, "--evidence", "fence", "--reason", "west hangs")
	if code != 0 {
		t.Fatalf("failover: exit code %d\n%s%s", code, out, errs)
	}
	f.takenOver(t)
	h := f.newest(t)
	if words := f.certified(t, h); strings.Count(words, `had the fencing plugin "kill" confirm`) != 2 {
		t.Errorf("verify says:\n%s", words)
	}
	for _, in := range f.Instances() {
		if in.DataCenter == demo.West && !strings.Contains(timeline(&h), "of "+in.Name+" is gone") {
			t.Errorf("the record does not have what the plugin said of %s\n%s", in.Name, timeline(&h))
		}
	}
	for _, name := range f.west() {
		if err := f.Continue(name); err != nil && !strings.HasPrefix(name, demo.Service+"-") { // those the plugin ended
			t.Error(err)
		}
	}
	defer func() {
		if t.Failed() {
			_, out, _ := f.command(t, "proxy", "list", "-o", "wide")
			_, more, _ := f.command(t, "status", "-o", "wide")
			for _, e := range f.Envoys() {
				pid := f.Pid(e.Name)
				raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				t.Logf("%s %d %.60s", e.Name, pid, raw)
			}
			t.Logf("%s\n%s", out, more)
		}
	}()
	f.steady(t, demo.East)
	must(t, l.Stop())
}
