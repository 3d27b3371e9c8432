//go:build linux

package warden

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// TestMain has the test's own program be the warden and the agent as well.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "warden" {
		if err := Run(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 4 && os.Args[1] == "agent" {
		agent(os.Args[2], os.Args[3])
	}
	os.Exit(m.Run())
}

// agent starts a service, armed when seconds are given, and waits to be killed.
func agent(dir, seconds string) {
	c, err := New(dir, nil)
	if err == nil {
		s := shell(dir, "sleep 1000")
		if n, _ := strconv.Atoi(seconds); n > 0 {
			s.DeadMan, s.Term, s.Deadline = true, 7, driver.BootTime()+time.Duration(n)*time.Second
		}
		_, err = c.Start(context.Background(), s)
	}
	fmt.Println("started", err)
	select {}
}

// killTime is generous: on a busy machine a test may stand for seconds. What is
// done while a service with a deadline lives has as long.
const killTime = 5 * time.Second

// shell is a service that is a shell script.
func shell(dir, script string) Spec {
	return Spec{
		Command: []string{"/bin/sh", "-c", script}, Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")},
		Output: filepath.Join(dir, "output"), KillTime: killTime,
	}
}

// both runs a test with a control group and without one.
func both(t *testing.T, test func(t *testing.T, c *Client)) {
	for _, group := range []string{"on", "off"} {
		t.Run("cgroup "+group, func(t *testing.T) {
			t.Setenv(groupEnv, group)
			c, err := New(t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { end(t, c) })
			test(t, c)
		})
	}
}

// end ends service and warden.
func end(t *testing.T, c *Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.Stop(ctx, unix.SIGKILL, 0, "the test is over"); err != nil {
		t.Error(err)
	}
	if err := c.Quit(ctx); err != nil {
		t.Error(err)
	}
}

func (c *Client) mustStart(t *testing.T, s Spec) State {
	t.Helper()
	state, err := c.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (c *Client) mustState(t *testing.T) State {
	t.Helper()
	state, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// alive reports whether a process does anything, or could.
func alive(pid int) bool {
	p, ok := readProcess(pid)
	return ok && !p.dead
}

// pids are the numbers that a service has written into a file.
func pids(t *testing.T, path string, n int) (out []int) {
	t.Helper()
	eventually(t, "the service's processes", func() bool {
		out = nil
		raw, _ := os.ReadFile(path)
		for _, word := range strings.Fields(string(raw)) {
			pid, _ := strconv.Atoi(word)
			out = append(out, pid)
		}
		return len(out) == n
	})
	return out
}

// stubborn is a service that ends by nothing but SIGKILL, with a child that left
// its session and its parent.
const stubborn = `trap "" TERM INT HUP
setsid sh -c 'trap "" TERM INT HUP; echo $$ >>pids; while :; do sleep 1000; done' &
sh -c '(setsid sh -c "trap \"\" TERM INT HUP; echo \$\$ >>pids; while :; do sleep 1000; done" &)'
echo $$ >>pids
while :; do sleep 1000; done`

// TestExpiry: at the deadline everything that the service has started is gone,
// stopped and daemonized processes too, and nobody had to ask for it.
func TestExpiry(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		state := c.mustStart(t, shell(c.dir, stubborn))
		all := pids(t, filepath.Join(c.dir, "pids"), 3)
		if err := unix.Kill(state.PID, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if state.Cgroup != "" { // frozen, not only stopped
			if err := os.WriteFile(filepath.Join(state.Cgroup, "cgroup.freeze"), []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
		}
		deadline := driver.BootTime() + 2*killTime // killed from half of that on
		if err := c.Arm(t.Context(), 7, deadline); err != nil {
			t.Fatal(err)
		}
		if err := c.Arm(t.Context(), 7, deadline-killTime); err != nil { // earlier: changes nothing
			t.Fatal(err)
		}
		if s := c.mustState(t); s.Killed != "" || s.PID != state.PID || s.Deadline != deadline {
			t.Fatalf("killed too early, or to be: %+v", s)
		}
		got, err := c.Wait(t.Context(), state.Run)
		now := driver.BootTime()
		if err != nil || now > deadline {
			t.Errorf("gone %v after the deadline, %v", now-deadline, err)
		}
		if now < deadline-killTime {
			t.Errorf("killed %v before the deadline", deadline-now)
		}
		for _, pid := range all {
			if alive(pid) {
				t.Errorf("process %d lives", pid)
			}
		}
		if got.Running || got.Killed != "the lease of term 7 ran out" || got.Exit != "signal: killed" {
			t.Errorf("state %+v", got)
		}
		if err := c.Arm(t.Context(), 8, deadline+time.Hour); !errors.Is(err, ErrNotRunning) {
			t.Errorf("armed for nothing: %v", err)
		}
	})
}

// TestRenewal: a later deadline takes the place of an earlier one, and a service
// that is not armed any more has none.
func TestRenewal(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		s := shell(c.dir, "sleep 1000")
		s.KillTime = time.Millisecond
		first := driver.BootTime() + killTime
		s.Term, s.Deadline = 7, first
		state := c.mustStart(t, s)
		if err := c.Arm(t.Context(), 7, first+200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if err := c.Arm(t.Context(), 8, first+100*time.Millisecond); err != nil { // a higher term has its own
			t.Fatal(err)
		}
		if err := c.Arm(t.Context(), 7, first+time.Hour); err != nil { // an older one has nothing to say
			t.Fatal(err)
		}
		if s := c.mustState(t); s.Term != 8 || s.Deadline != first+100*time.Millisecond {
			t.Errorf("state %+v", s)
		}
		if err := c.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the deadlines", func() bool { return driver.BootTime() >= first+400*time.Millisecond })
		if s := c.mustState(t); s.PID != state.PID || s.Deadline != 0 || !alive(state.PID) {
			t.Errorf("state %+v", s)
		}
	})
}

// TestAgentDies: killing the agent ends a service at its lease's end, and one
// without a lease not at all; the next agent finds it as it was.
func TestAgentDies(t *testing.T) {
	for seconds, dies := range map[string]bool{"0": false, "10": true} {
		both(t, func(t *testing.T, c *Client) {
			cmd := exec.Command("/proc/self/exe", "agent", c.dir, seconds)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := make([]byte, 64)
			n, _ := out.Read(said)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if got := string(said[:n]); got != "started <nil>\n" {
				t.Fatalf("the agent said %q", got)
			}
			state := c.mustState(t)
			if state.PID == 0 || !alive(state.PID) || (state.Deadline != 0) != dies {
				t.Fatalf("state %+v", state)
			}
			if !dies {
				if _, err := c.Start(t.Context(), shell(c.dir, "true")); !errors.Is(err, ErrRunning) {
					t.Errorf("started twice: %v", err)
				}
				return
			}
			if s, err := c.Wait(t.Context(), state.Run); err != nil || s.Killed == "" || driver.BootTime() > state.Deadline {
				t.Errorf("state %+v at %v, %v", s, driver.BootTime(), err)
			}
		})
	}
}

// TestWardenDies: a service without a lease lives on and the next warden has it;
// one with DeadMan ends with its warden.
func TestWardenDies(t *testing.T) {
	for _, deadMan := range []bool{false, true} {
		both(t, func(t *testing.T, c *Client) {
			s := shell(c.dir, `setsid sleep 1000 & echo $! >pids; sleep 1001`)
			s.DeadMan = deadMan
			state := c.mustStart(t, s)
			straggler := pids(t, filepath.Join(c.dir, "pids"), 1)[0]
			if err := unix.Kill(state.Warden, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the warden's end", func() bool { return !alive(state.Warden) })
			if deadMan {
				eventually(t, "the service's end", func() bool { return !alive(state.PID) })
			}
			next := c.mustState(t)
			if deadMan {
				var err error
				if next, err = c.Wait(t.Context(), state.Run); err != nil {
					t.Fatal(err)
				}
			}
			if next.Warden == state.Warden || next.Run != state.Run {
				t.Fatalf("state %+v, before %+v", next, state)
			}
			if deadMan {
				if next.Running || next.Exit == "" || state.Cgroup != "" && alive(straggler) {
					t.Errorf("state %+v", next)
				}
				if alive(straggler) { // nobody's any more, without a control group
					_ = unix.Kill(straggler, unix.SIGKILL)
				}
				return
			}
			if next.PID != state.PID || !alive(state.PID) {
				t.Fatalf("state %+v", next)
			}
			if err := c.Arm(t.Context(), 9, driver.BootTime()+time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if last, err := c.Wait(t.Context(), next.Run); err != nil || last.Killed == "" || alive(state.PID) || alive(straggler) {
				t.Errorf("state %+v, %v; straggler lives: %t", last, err, alive(straggler))
			}
		})
	}
}

// TestHeir: a service that was started without a lease, as a standby is, and was
// given one, is killed in time when its warden dies and nobody else is there; a
// warden that ends in order leaves no process behind.
func TestHeir(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		state := c.mustStart(t, shell(c.dir, `trap "" TERM INT HUP; setsid sleep 1000 & echo $! >pids; while :; do sleep 1001; done`))
		left := pids(t, filepath.Join(c.dir, "pids"), 1)
		deadline := driver.BootTime() + 2*killTime
		for _, d := range []time.Duration{deadline - time.Second, deadline} { // renewed
			if err := c.Arm(t.Context(), 7, d); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Kill(state.Warden, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of everything", func() bool {
			return !slices.ContainsFunc(append(left, state.PID), alive)
		})
		if now := driver.BootTime(); now > deadline {
			t.Errorf("it lived until %s, its lease until %s", now, deadline)
		}
		if next, err := c.Wait(t.Context(), state.Run); err != nil || next.Warden == state.Warden || next.Killed == "" {
			t.Errorf("state %+v, %v", next, err)
		}

		state = c.mustStart(t, shell(c.dir, "sleep 1000"))
		if err := c.Arm(t.Context(), 8, driver.BootTime()+time.Hour); err != nil {
			t.Fatal(err)
		}
		end(t, c)
		eventually(t, "the end of all wardens", func() bool {
			for pid := range processes() {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if strings.Contains(string(line), c.dir) && alive(pid) {
					return false
				}
			}
			return true
		})
	})
}

// TestStop: the signal is given its time, then everything is killed; what the
// main process leaves behind is killed when it ends.
func TestStop(t *testing.T) {
	both(t, func(t *testing.T, c *Client) {
		c.mustStart(t, shell(c.dir, `setsid sleep 1000 & echo $! >pids; trap "exit 3" TERM; echo hello; while :; do sleep 0.01; done`))
		straggler := pids(t, filepath.Join(c.dir, "pids"), 1)[0]
		eventually(t, "its output", func() bool {
			raw, _ := os.ReadFile(filepath.Join(c.dir, "output"))
			return string(raw) == "hello\n"
		})
		s, err := c.Stop(t.Context(), unix.SIGTERM, time.Minute, "too slow")
		if err != nil || s.Running || s.Exit != "exit status 3" || s.Killed != "" || alive(straggler) {
			t.Errorf("stopped: %+v, %v; straggler lives: %t", s, err, alive(straggler))
		}
		if s, err = c.Stop(t.Context(), unix.SIGTERM, time.Minute, "too slow"); err != nil || s.Running {
			t.Errorf("stopped twice: %+v, %v", s, err)
		}
		if err := c.Signal(t.Context(), unix.SIGHUP); !errors.Is(err, ErrNotRunning) {
			t.Errorf("signal: %v", err)
		}
		_ = os.Remove(filepath.Join(c.dir, "pids"))
		c.mustStart(t, shell(c.dir, stubborn))
		pids(t, filepath.Join(c.dir, "pids"), 3)
		if s, err = c.Stop(t.Context(), unix.SIGTERM, 50*time.Millisecond, "too slow"); err != nil || s.Running || s.Killed != "too slow" {
			t.Errorf("killed: %+v, %v", s, err)
		}
		if _, err := c.Start(t.Context(), Spec{Command: []string{"/nowhere"}}); err == nil {
			t.Error("started what is not there")
		}
		if s := c.mustState(t); s.Running {
			t.Errorf("state %+v after a start that failed", s)
		}
	})
}

// TestOnlyOne: a directory has one warden, whose socket is for its user alone,
// however long the directory's name.
func TestOnlyOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	c, err := New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, c) })
	states := make(chan State, 8)
	for range cap(states) {
		go func() {
			other, err := New(dir, nil)
			if err != nil {
				t.Error(err)
			}
			s, err := other.State(t.Context())
			if err != nil {
				t.Error(err)
			}
			states <- s
		}()
	}
	first := <-states
	for range cap(states) - 1 {
		if s := <-states; s.Warden != first.Warden || s.Warden == 0 {
			t.Errorf("wardens %d and %d", first.Warden, s.Warden)
		}
	}
	info, err := os.Stat(filepath.Join(dir, socketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	for _, s := range []Spec{{}, {Command: []string{"sh"}}, {Command: []string{"/bin/sh"}, KillTime: -1}} {
		if _, err := c.Start(t.Context(), s); err == nil {
			t.Errorf("started %+v", s)
		}
	}
}
