// Package fence runs fencing plugins: commands that cut a machine off and say
// that they did (STONITH).
//
// The contract. The command is run as configured, its own arguments first, then
//
//	--service orders --instance orders-east-2 --data-center east --identity <32 hex digits> --handover <id>
//
// with the gateway's environment and nothing on standard input. It cuts off
// whatever runs the instance, so that it cannot serve until it was started again
// (power off, network isolation that ends with a restart), verifies that, and
// ends with exit code 0. Any other exit code, a signal, or the deadline means
// that nothing is confirmed; the command and everything in its process group is
// then killed and it is run again while the handover waits. It may be run several
// times for one instance, also by several gateways at once, and for an instance
// that is off already: that is a confirmation too. What it writes to standard
// output and standard error goes into the cutover record, MaxOutput bytes at
// most; the SHA-256 of that stands in the evidence.
//
// Guarantees: no confirmation without exit code 0 within the deadline; nothing of
// the command's process group outlives Fence. What the exit code is worth is the
// plugin's: a plugin that lies makes two masters.
package fence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Maxima of a plugin.
const (
	// MaxOutput is how much of a plugin's output is kept, in bytes.
	MaxOutput = 4096
	// DefaultDeadline is how long a plugin may take, MaxDeadline the longest that
	// can be configured.
	DefaultDeadline = 30 * time.Second
	MaxDeadline     = 5 * time.Minute
	// killWait is how long its pipes are waited for after the kill.
	killWait = 2 * time.Second
)

// A Plugin is a command that fences. It has no state; safe for concurrent use.
type Plugin struct {
	// Label is its name in evidence and records.
	Label string
	// Command is an absolute path and the command's own arguments.
	Command []string
	// Deadline bounds one run; 0: DefaultDeadline.
	Deadline time.Duration
}

// Check returns nil when the plugin can be run. Errors wrap ErrInvalid.
func (p *Plugin) Check() error {
	if err := signalbox.CheckName("fencing plugin", p.Label); err != nil {
		return err
	}
	if len(p.Command) == 0 || !filepath.IsAbs(p.Command[0]) {
		return fmt.Errorf("%w: fencing plugin %s: its command has to begin with an absolute path", signalbox.ErrInvalid, p.Label)
	}
	if p.Deadline < 0 || p.Deadline > MaxDeadline {
		return fmt.Errorf("%w: fencing plugin %s: deadline %s: at most %s", signalbox.ErrInvalid, p.Label, p.Deadline, MaxDeadline)
	}
	return nil
}

// Name returns the label.
func (p *Plugin) Name() string { return p.Label }

// Longest returns how long one run may take.
func (p *Plugin) Longest() time.Duration {
	if p.Deadline <= 0 {
		return DefaultDeadline
	}
	return p.Deadline
}

// Fence runs the command and returns what it said. Without an error the instance
// is confirmed to be cut off.
func (p *Plugin) Fence(ctx context.Context, in signalbox.Instance, handover string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Longest())
	defer cancel()
	args := append(append([]string(nil), p.Command[1:]...),
		"--service", string(in.Service), "--instance", in.Name, "--data-center", string(in.DataCenter),
		"--identity", string(in.Identity), "--handover", handover)
	cmd := exec.CommandContext(ctx, p.Command[0], args...)
	out := &capped{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait
	err := cmd.Run()
	if cmd.Process != nil {
		// What it left running in the background must not undo what it confirmed.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // mostly nobody is left
	}
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("run fencing plugin %s: %w: no confirmation within %s", p.Label, signalbox.ErrUnavailable, p.Longest())
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended with 0; a child of its held the output open
	case err != nil:
		err = fmt.Errorf("run fencing plugin %s: %w", p.Label, err)
	}
	return out.buf.Bytes(), err
}

// capped keeps the first MaxOutput bytes and swallows the rest.
type capped struct{ buf bytes.Buffer }

func (c *capped) Write(b []byte) (int, error) {
	c.buf.Write(b[:min(len(b), MaxOutput-c.buf.Len())])
	return len(b), nil
}
