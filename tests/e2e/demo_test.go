package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// Rule: signalbox demo prints one document of the promised form on standard output and everything else beside it; with
// --keep it runs on for the other commands; it ends with 0 when no request failed and nothing overlapped, and leaves no
// process behind.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "site")
	cmd := exec.CommandContext(within(t), binaries.Signalbox, "demo", "--switches", "2", "--rate", "100", "--pause", "1s", "-o", "json", "--dir", dir, "--keep")
	var out bytes.Buffer
	errs := &terminal{}
	cmd.Stdout, cmd.Stderr = &out, errs
	must(t, cmd.Start())
	look := ""
	eventually(t, "the demo to keep running", func(context.Context) error {
		_, after, found := strings.Cut(errs.String(), "export SIGNALBOX_BUNDLE=")
		if !found || !strings.Contains(after, "Logs, keys") {
			return errors.New(errs.String())
		}
		look, _, _ = strings.Cut(after, "\n")
		return nil
	})
	status := exec.CommandContext(within(t), binaries.Signalbox, "status", "orders")
	status.Env = append(os.Environ(), "SIGNALBOX_BUNDLE="+look)
	if text, err := status.CombinedOutput(); err != nil || !strings.Contains(string(text), "east") {
		t.Errorf("signalbox status beside it: %v\n%s", err, text)
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	var document struct {
		Switches []struct {
			ID, Service, From, To, Outcome string
			Term                           uint64
			Phases                         map[string]float64
			HoldMS                         float64   `json:"hold_ms"`
			Acks                           []api.Ack `json:"acks"`
		}
		Requests map[string]any
		Overlap  *float64 `json:"overlap_ms"`
		Dual     *int     `json:"dual_master_requests"`
	}
	decoder := json.NewDecoder(&out)
	if err := decoder.Decode(&document); err != nil || decoder.More() {
		t.Fatalf("standard output is not one document: %v", err)
	}
	if len(document.Switches) != 2 || document.Overlap == nil || *document.Overlap != 0 || document.Dual == nil || *document.Dual != 0 {
		t.Fatalf("%+v", document)
	}
	for i, s := range document.Switches {
		if s.ID == "" || s.Service != "orders" || s.From == s.To || s.Term == 0 || s.Outcome != api.OutcomeForward || s.HoldMS <= 0 || len(s.Acks) != 3 {
			t.Errorf("switch %d: %+v", i+1, s)
		}
		for _, phase := range api.Phases() {
			if _, ok := s.Phases[phase]; !ok {
				t.Errorf("switch %d has no phase %s: %v", i+1, phase, s.Phases)
			}
		}
	}
	for _, key := range []string{"total", "failed", "held", "p50_ms", "p99_ms", "max_ms"} {
		if _, ok := document.Requests[key]; !ok {
			t.Errorf("requests have no %s: %v", key, document.Requests)
		}
	}
	if document.Requests["failed"] != 0.0 || document.Requests["total"] == 0.0 {
		t.Errorf("requests: %v", document.Requests)
	}
	for _, line := range []string{"from east to west", "from west to east", "drained", "ack", "is master at term"} {
		if !strings.Contains(errs.String(), line) {
			t.Errorf("the terminal never showed %q:\n%s", line, errs.String())
		}
	}
	if left := runningIn(t, dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// terminal is what a process wrote so far.
type terminal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *terminal) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *terminal) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// Rule: a missing binary is named with what to do about it.
func TestDemoWithoutEnvoy(t *testing.T) {
	cmd := exec.CommandContext(within(t), binaries.Signalbox, "demo")
	cmd.Env = []string{"PATH=", "HOME=" + t.TempDir()}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "make tools") {
		t.Errorf("%v\n%s", err, out)
	}
}

// runningIn lists the processes whose command line names a folder.
func runningIn(t *testing.T, dir string) (found []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err == nil && strings.Contains(string(text), dir) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}
