package execdriver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Maxima of what a command says, in bytes.
const (
	maxOutput  = 64 << 10 // the rest is read and thrown away
	maxProblem = 200
	maxRecord  = 1 << 20 // of the file that records what commands said
)

// endGrace is how long a command whose time is over has after SIGTERM, and how
// long its output may stay open after its end.
const endGrace = time.Second

// Exit codes of the contract.
const (
	exitNotServing = 3  // of status
	exitNotReady   = 1  // of ready
	exitNotYet     = 75 // of step-down: EX_TEMPFAIL
)

// result is how a command ended.
type result struct {
	code  int
	facts map[string][]string // name=value lines of standard output
	last  string              // the last other line that was said
}

// first returns the first value of a fact.
func (r result) first(name string) string {
	if values := r.facts[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// fault is the error of a command that failed.
func (r result) fault(action string) error {
	if r.last == "" {
		return fmt.Errorf("%s: exit status %d", action, r.code)
	}
	return fmt.Errorf("%s: exit status %d: %s", action, r.code, r.last)
}

// bounded keeps the first bytes that are written to it.
type bounded struct{ said bytes.Buffer }

// Write never fails.
func (b *bounded) Write(p []byte) (int, error) {
	b.said.Write(p[:min(len(p), maxOutput-b.said.Len())])
	return len(p), nil
}

// call runs a command to its end. The error is of a command that could not be
// run, was ended with ctx or by a signal; an exit code is no error.
func (d *Driver) call(ctx context.Context, action string, c Command, env ...string) (result, error) {
	timed, cancel := context.WithTimeout(ctx, d.opt.Timeout)
	defer cancel()
	cmd := exec.CommandContext(timed, c[0], c[1:]...)
	var out, errs bounded
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &errs, d.opt.WorkDir
	cmd.Env = append(append(os.Environ(), d.opt.Env...), d.environment(action, env)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = endGrace
	began := time.Now()
	err := cmd.Run()
	if cmd.Process != nil && timed.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it started ends with it
	}
	r := read(out.said.Bytes(), errs.said.Bytes())
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("%s: %w", action, ctx.Err())
	case timed.Err() != nil:
		err = fmt.Errorf("%s: it took more than %s", action, d.opt.Timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		err = fmt.Errorf("%s: it left a process behind that keeps its output open: redirect it", action)
	case errors.As(err, &exit) && exit.Exited():
		r.code, err = exit.ExitCode(), nil
	case err != nil:
		err = fmt.Errorf("%s: %w", action, err)
	}
	d.keep(action, r, err, began, out.said.Bytes(), errs.said.Bytes())
	return r, err
}

// environment is what a command is told.
func (d *Driver) environment(action string, more []string) []string {
	return append([]string{
		"SIGNALBOX_ACTION=" + action, "SIGNALBOX_SERVICE=" + string(d.opt.Service), "SIGNALBOX_INSTANCE=" + d.opt.Instance,
		"SIGNALBOX_ADDRESS=" + d.opt.Address, "SIGNALBOX_DIR=" + d.opt.Dir,
	}, more...)
}

// termVar and deadlineVar tell an order.
func termVar(t signalbox.Term) string { return fmt.Sprintf("SIGNALBOX_TERM=%d", t) }

// maxIncoming bounds the variable that names who is to be promoted, in bytes: a
// system takes no variable of any length.
const maxIncoming = 64 << 10

// incomingVar tells who is to be promoted; it is empty when that is not known.
func incomingVar(peers []driver.Peer) string {
	pairs := make([]string, 0, len(peers))
	for _, p := range peers {
		pairs = append(pairs, p.Name+"="+p.Address)
	}
	text := strings.Join(pairs, " ")
	if len(text) > maxIncoming {
		text = ""
	}
	return "SIGNALBOX_INCOMING=" + text
}

func deadlineVar(t time.Time) string {
	if t.IsZero() {
		return "SIGNALBOX_DEADLINE="
	}
	return "SIGNALBOX_DEADLINE=" + t.UTC().Format(time.RFC3339Nano)
}

// read takes the facts out of what was said.
func read(out, errs []byte) result {
	r := result{facts: map[string][]string{}}
	for line := range strings.Lines(strings.ToValidUTF8(string(out), "?")) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if ok && facts[name] {
			r.facts[name] = append(r.facts[name], value)
		} else if line != "" {
			r.last = line
		}
	}
	for line := range strings.Lines(strings.ToValidUTF8(string(errs), "?")) {
		if line = strings.TrimSpace(line); line != "" {
			r.last = line
		}
	}
	r.last = strings.ToValidUTF8(r.last[:min(len(r.last), maxProblem)], "")
	return r
}

// facts are the names that a command can say something by.
var facts = map[string]bool{
	"position": true, "lag-seconds": true, "lag-bytes": true, "problem": true, "in-flight": true, "run": true, "leaving": true,
}

// looks are the commands that run all the time: only their failures are recorded.
var looks = map[string]bool{"status": true, "ready": true}

// keep records what a command said, in a file of bounded size, and its end in
// the log.
func (d *Driver) keep(action string, r result, err error, began time.Time, out, errs []byte) {
	failed := err != nil || r.code != 0 && !(action == "status" && r.code == exitNotServing) && !(action == "ready" && r.code == exitNotReady)
	if looks[action] && !failed {
		return
	}
	level := zerolog.InfoLevel
	if failed {
		level = zerolog.WarnLevel
	}
	d.opt.Log.WithLevel(level).Err(err).Str("event", "command").Str("action", action).Int("exit", r.code).Dur("took", time.Since(began)).Str("said", r.last).Msg("command ended")
	file, openErr := warden.OpenOutput(filepath.Join(d.opt.Dir, "commands.log"), maxRecord)
	if openErr != nil {
		d.opt.Log.Warn().Err(openErr).Msg("what commands say cannot be recorded")
		return
	}
	defer file.Close()
	text := fmt.Sprintf("--- %s %s exit=%d took=%s error=%v\n%s%s\n", began.UTC().Format(time.RFC3339Nano), action, r.code, time.Since(began), err, out, errs)
	_, _ = io.WriteString(file, text) // it is for people, and said in the log as well
}
