package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// postmaster is the server's first process, as postmaster.pid names it.
type postmaster struct {
	pid     int
	started int64 // seconds since 1970, by postmaster.pid
	shm     int   // id of the shared memory segment that every process of the server holds
	born    uint64
}

// run names one run of the server, for driver.Status.
func (p *postmaster) run() string { return fmt.Sprintf("%d.%d", p.pid, p.born) }

// findPostmaster reads postmaster.pid. It returns nil when there is none, and one
// with pid 0 when its process is gone but other processes of that server may live.
func findPostmaster(data string) (*postmaster, error) {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find server: %w", err)
	}
	lines := strings.Split(string(raw), "\n")
	p := &postmaster{shm: -1}
	if p.pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil {
		return nil, fmt.Errorf("%w: postmaster.pid begins with %.40q", signalbox.ErrInvalid, lines[0])
	}
	if p.pid < 0 { // a standalone backend: pg_rewind's, or a person's
		p.pid = -p.pid
	}
	if len(lines) > 2 {
		p.started, _ = strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64)
	}
	if len(lines) > 6 {
		if f := strings.Fields(lines[6]); len(f) == 2 {
			if p.shm, err = strconv.Atoi(f[1]); err != nil {
				p.shm = -1
			}
		}
	}
	stat, err := readStat(p.pid)
	if err != nil || stat.state == 'Z' || !strings.HasPrefix(stat.name, "postgres") {
		p.pid = 0
		return p, nil
	}
	p.born = stat.born
	return p, nil
}

// attached reports whether any process of the server still lives: each holds
// the shared memory segment, and the kernel counts them.
func (p *postmaster) attached() bool {
	if p.shm < 0 {
		return false
	}
	var desc unix.SysvShmDesc
	_, err := unix.SysvShmCtl(p.shm, unix.IPC_STAT, &desc)
	return err == nil && desc.Nattch > 0
}

// gone waits until no process of the server lives.
func (p *postmaster) gone(ctx context.Context) error {
	return managed.Until(ctx, "wait for the server's end", func() (bool, error) {
		if p.attached() {
			return false, nil
		}
		stat, err := readStat(p.pid)
		return p.pid == 0 || err != nil || stat.born != p.born || stat.state == 'Z', nil
	})
}

// frozen reports whether the postmaster is stopped by SIGSTOP.
func (p *postmaster) frozen() bool {
	stat, err := readStat(p.pid)
	return err == nil && stat.state == 'T'
}

// freeze stops the postmaster, so that no process can join the server any more.
// It returns when that is so.
func (p *postmaster) freeze(ctx context.Context) error {
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		return fmt.Errorf("freeze postmaster: %w", err)
	}
	return managed.Until(ctx, "freeze postmaster", func() (bool, error) { return p.frozen(), nil })
}

// thaw undoes freeze; harmless when it was not frozen.
func (p *postmaster) thaw() {
	if stat, err := readStat(p.pid); err == nil && stat.born == p.born {
		_ = unix.Kill(p.pid, unix.SIGCONT)
	}
}

// child is a process that a postmaster started.
type child struct {
	pid   int
	title string // "postgres: checkpointer"
}

// children are the processes of the server without the postmaster.
func (p *postmaster) children() ([]child, error) {
	pids, err := childrenOf(p.pid)
	if err != nil {
		return nil, fmt.Errorf("list processes of the server: %w", err)
	}
	var out []child
	for _, pid := range pids {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && len(title) > 0 { // else it ended meanwhile
			out = append(out, child{pid: pid, title: strings.TrimRight(string(title), "\x00 ")})
		}
	}
	return out, nil
}

// kill ends a frozen or dead server at once: the postmaster, which therefore
// never runs again, and then everything that it started. It returns when no
// process is left. The log on the disk is as after a loss of power.
func (p *postmaster) kill(ctx context.Context) error {
	children, err := p.children()
	if err != nil {
		return err
	}
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop server: %w", err)
	}
	for _, c := range children {
		_ = unix.Kill(c.pid, unix.SIGKILL) // gone already, or gone soon
	}
	return p.gone(ctx)
}

// stop asks for a fast shutdown: a checkpoint, which the standbys receive.
func (p *postmaster) stop(ctx context.Context) error {
	if err := unix.Kill(p.pid, unix.SIGINT); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop server: %w", err)
	}
	p.thaw()
	return p.gone(ctx)
}

// stat is what /proc/PID/stat says.
type stat struct {
	name   string
	state  byte
	parent int
	born   uint64 // clock ticks since the machine's start
}

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	open, closing := strings.IndexByte(string(raw), '('), strings.LastIndexByte(string(raw), ')')
	if open < 0 || closing < open {
		return stat{}, fmt.Errorf("%w: /proc/%d/stat", signalbox.ErrInvalid, pid)
	}
	fields := strings.Fields(string(raw[closing+1:]))
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("%w: /proc/%d/stat", signalbox.ErrInvalid, pid)
	}
	s := stat{name: string(raw[open+1 : closing]), state: fields[0][0]}
	s.parent, _ = strconv.Atoi(fields[1])
	s.born, _ = strconv.ParseUint(fields[19], 10, 64)
	return s, nil
}

// childrenOf lists a process's children.
func childrenOf(pid int) ([]int, error) {
	var out []int
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err == nil {
		for _, f := range strings.Fields(string(raw)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
		return out, nil
	}
	all, err := os.ReadDir("/proc") // a kernel without CONFIG_PROC_CHILDREN
	if err != nil {
		return nil, err
	}
	for _, entry := range all {
		n, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(n); err == nil && s.parent == pid {
			out = append(out, n)
		}
	}
	return out, nil
}
