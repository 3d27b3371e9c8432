package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asParent makes the test binary start a child and wait: the process that TestChildDiesWithItsParent kills.
const asParent = "SIGNALBOX_DEMO_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asParent); dir != "" {
		p := newProcess(dir, "child", sleeper)
		if err := p.start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.pid())
		select {}
	}
	os.Exit(m.Run())
}

const patience = time.Minute

func sleeper() *exec.Cmd { return exec.Command("sleep", "600") }

func started(t *testing.T, build func() *exec.Cmd) *process {
	t.Helper()
	return startedWith(t, RestartAfter, build)
}

func startedWith(t *testing.T, rest time.Duration, build func() *exec.Cmd) *process {
	t.Helper()
	p := newProcess(t.TempDir(), "child", build)
	p.rest = rest
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func await(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := Await(ctx, what, func(context.Context) error {
		if !ready() {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// Rule: what dies is started again, not at once but after RestartAfter.
func TestDeadProcessIsStartedAgain(t *testing.T) {
	p := started(t, sleeper)
	first, killed := p.pid(), time.Now()
	if _, err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the second start", func() bool { starts, running, _ := p.state(); return starts == 2 && running })
	if took := time.Since(killed); took < RestartAfter {
		t.Errorf("started again after %s, want %s", took, RestartAfter)
	}
	if now := p.pid(); now == first || !alive(now) {
		t.Errorf("pid %d after %d, alive: %t", now, first, alive(now))
	}
}

// Rule: down keeps a process down, also over RestartAfter; up brings it back.
func TestDownStaysDown(t *testing.T) {
	p := started(t, sleeper)
	first := p.pid()
	if err := p.down(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if alive(first) {
		t.Error("it lives on")
	}
	past := time.Now().Add(RestartAfter + 200*time.Millisecond)
	await(t, "the restart delay", func() bool { return time.Now().After(past) })
	if starts, running, last := p.state(); starts != 1 || running || !strings.Contains(last, "killed") {
		t.Errorf("starts %d, running %t, last %q", starts, running, last)
	}
	if _, err := p.signal(syscall.SIGTERM); !errors.Is(err, errNotRunning) {
		t.Errorf("signal to what is down: %v", err)
	}
	p.up()
	await(t, "the second start", func() bool { starts, running, _ := p.state(); return starts == 2 && running })
}

// Rule: an orderly restart does not wait, and says when SIGTERM was not enough.
func TestRestartIsOrderly(t *testing.T) {
	p := startedWith(t, time.Hour, sleeper) // who waited would not be back in time
	if err := p.restart(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	await(t, "the second start", func() bool { starts, running, _ := p.state(); return starts == 2 && running })
	stubborn := started(t, func() *exec.Cmd {
		return exec.Command("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
	})
	await(t, "the trap", func() bool { return strings.Contains(stubborn.tail(), "deaf") })
	if err := stubborn.restart(t.Context(), 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("a process that ignores SIGTERM: %v", err)
	}
}

// Rule: nothing survives the harness, even when it is killed.
func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("child %q: %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	await(t, "the child's end", func() bool { return !alive(pid) || zombie(pid) })
}

// zombie says whether a process is dead and only not yet reaped: its new parent may not care.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// Rule: a missing binary is an error that says what to do.
func TestMissingBinariesAreNamed(t *testing.T) {
	t.Setenv("ENVOY", "/nowhere/envoy")
	_, err := FindBinaries(t.TempDir() + "/signalbox")
	if err == nil || !strings.Contains(err.Error(), "make build") || !strings.Contains(err.Error(), "/nowhere/envoy") {
		t.Errorf("%v", err)
	}
	t.Setenv("ENVOY", "")
	t.Setenv("PATH", "")
	t.Chdir("/")
	if _, err := FindEnvoy(t.TempDir()); err == nil || !strings.Contains(err.Error(), "make tools") {
		t.Errorf("%v", err)
	}
}
