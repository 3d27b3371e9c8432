package fence_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/fence"
)

var dead = signalbox.Instance{Service: "orders", DataCenter: "east", Name: "orders-east-2", Identity: "0123456789abcdef0123456789abcdef"}

func script(t *testing.T, body string) *fence.Plugin {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &fence.Plugin{Label: "power", Command: []string{path, "--outlet", "7"}, Deadline: 30 * time.Second}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

// The contract: arguments, output of both streams, exit code 0.
func TestPluginConfirms(t *testing.T) {
	out, err := script(t, `echo "$@"; echo off >&2`).Fence(t.Context(), dead, "h-1")
	want := "--outlet 7 --service orders --instance orders-east-2 --data-center east --identity 0123456789abcdef0123456789abcdef --handover h-1\noff\n"
	if err != nil || string(out) != want {
		t.Fatalf("%q, %v; want %q", out, err, want)
	}
}

// Rule 6: anything but exit code 0 in time confirms nothing, and says why.
func TestPluginDoesNotConfirm(t *testing.T) {
	out, err := script(t, `echo no route; exit 3`).Fence(t.Context(), dead, "h-1")
	if err == nil || string(out) != "no route\n" || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("exit code 3: %q, %v", out, err)
	}
	if _, err := script(t, `kill -9 $$`).Fence(t.Context(), dead, "h-1"); err == nil {
		t.Error("killed, and confirmed")
	}
	if _, err := (&fence.Plugin{Label: "gone", Command: []string{"/no/such/file"}}).Fence(t.Context(), dead, "h-1"); err == nil {
		t.Error("not there, and confirmed")
	}
}

// The deadline holds, also against children that keep the output open, and
// nothing of the process group stays.
func TestPluginDeadline(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	p := script(t, `sleep 1000 & echo $! > `+pid+`; echo trying; wait`)
	p.Deadline = 5 * time.Second // it has to say something in it
	out, err := p.Fence(t.Context(), dead, "h-1")
	if !errors.Is(err, signalbox.ErrUnavailable) || !strings.Contains(err.Error(), "within 5s") || string(out) != "trying\n" {
		t.Fatalf("%q, %v", out, err)
	}
	gone(t, pid)
	if out, err := script(t, `sleep 1000 & echo $! > `+pid+`; echo off`).Fence(t.Context(), dead, "h-1"); err != nil || string(out) != "off\n" {
		t.Fatalf("a child in the background: %q, %v", out, err)
	}
	gone(t, pid)
}

// gone waits until the process of a pid file is no more.
func gone(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(30 * time.Second)
	for alive(pid) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("process %d of the plugin lives on", pid)
		}
	}
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// Output is bounded, an end of the caller ends the plugin.
func TestPluginIsBounded(t *testing.T) {
	out, err := script(t, `head -c 100000 /dev/zero | tr '\0' x`).Fence(t.Context(), dead, "h-1")
	if err != nil || len(out) != fence.MaxOutput {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := script(t, `sleep 1000`).Fence(ctx, dead, "h-1"); err == nil {
		t.Error("confirmed after the caller ended")
	}
	for _, p := range []fence.Plugin{
		{Label: "Power", Command: []string{"/bin/true"}}, {Label: "power"}, {Label: "power", Command: []string{"true"}},
		{Label: "power", Command: []string{"/bin/true"}, Deadline: time.Hour},
	} {
		if !errors.Is(p.Check(), signalbox.ErrInvalid) {
			t.Errorf("%+v: accepted", p)
		}
	}
}
