package postgres

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds what is kept of a program's output, in bytes.
const maxOutput = 64 << 10

// tools runs PostgreSQL's own programs on a data directory.
type tools struct {
	bin  string // where they are
	data string
	env  []string
	as   *syscall.Credential // whom to run them as; nil: as this process
}

// wal is where the log is.
func (t tools) wal() string { return filepath.Join(t.data, "pg_wal") }

// command makes a program ready to run. It dies with ctx.
func (t tools) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(t.bin, name), args...)
	cmd.Env = append([]string{"LC_ALL=C", "PATH=/usr/bin:/bin"}, t.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: t.as}
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a program to its end and returns what it printed, errors included.
func (t tools) run(ctx context.Context, name string, args ...string) (string, error) {
	var out bounded
	cmd := t.command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// lines runs a program and hands over each line that it prints.
func (t tools) lines(ctx context.Context, each func(string), name string, args ...string) error {
	cmd := t.command(ctx, name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 0, 4096), maxOutput)
	for lines.Scan() {
		each(lines.Text())
	}
	_, _ = io.Copy(io.Discard, out) // behind a line that is too long
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return lines.Err()
}

// bounded keeps the last maxOutput bytes that were written to it.
type bounded struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	if n > maxOutput {
		p = p[n-maxOutput:]
	}
	if over := b.Len() + len(p) - maxOutput; over > 0 {
		b.Next(over)
	}
	b.Buffer.Write(p)
	return n, nil
}
