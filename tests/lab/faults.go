package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"time"

	"golang.org/x/sys/unix"
)

// What of the traffic is cut.
const (
	Everything = ""
	// Datagrams is gossip's UDP.
	Datagrams = "meta l4proto udp"
)

// Connections is TCP to these ports.
func Connections(ports ...string) string { return "tcp dport { " + strings.Join(ports, ", ") + " }" }

// Cut has what one data center sends to another be lost from now on: silently, where it arrives. The other way stays.
func (l *Lab) Cut(from, to, what string) error {
	rule := fmt.Sprintf("add rule inet lab far iifname %s ip saddr %s %s counter drop", farDevice, l.Host(from), what)
	_, err := l.Run(to, "nft", rule)
	return err
}

// Isolate cuts everything from and to a data center.
func (l *Lab) Isolate(dc string) error {
	var errs []error
	for _, other := range l.names {
		if other != dc {
			errs = append(errs, l.Cut(dc, other, Everything), l.Cut(other, dc, Everything))
		}
	}
	return errors.Join(errs...)
}

// Heal ends all cuts.
func (l *Lab) Heal() error {
	var errs []error
	for _, dc := range l.names {
		_, err := l.Run(dc, "nft", "flush chain inet lab far")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Disk mounts a small file system of memory at dir, which must be there.
func (l *Lab) Disk(dir string, bytes int) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		return fmt.Errorf("mount a disk at %s: %w", dir, err)
	}
	l.disks = append(l.disks, dir)
	return nil
}

const filler = "filler"

// Fill writes to a disk until nothing more fits.
func Fill(disk string) error {
	file, err := os.OpenFile(filepath.Join(disk, filler), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for size := 1 << 16; size > 0; {
		switch _, err := io.WriteString(file, strings.Repeat("x", size)); {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			return fmt.Errorf("fill %s: %w", disk, err)
		}
	}
	return nil
}

// Free ends Fill.
func Free(disk string) error { return os.Remove(filepath.Join(disk, filler)) }

// A Freezer is a cgroup that stops what is in it, as a paused container is: the processes cannot notice.
type Freezer struct{ root, group string }

const freezerName = "signalbox-lab-"

// freezeWithin bounds how long the kernel may take to freeze or thaw.
const freezeWithin = time.Minute

// NewFreezer makes one. dir is an empty folder that it mounts the cgroup hierarchy at.
func NewFreezer(dir string) (*Freezer, error) {
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		return nil, fmt.Errorf("mount the cgroup v2 hierarchy: %w: %w", ErrRoot, err)
	}
	stale, _ := filepath.Glob(filepath.Join(dir, freezerName+"*")) // the pattern is well-formed
	for _, group := range stale {
		if _, err := os.Stat("/proc/" + strings.TrimPrefix(filepath.Base(group), freezerName)); err != nil {
			_ = os.Remove(group) // of a run that was killed
		}
	}
	f := &Freezer{dir, filepath.Join(dir, fmt.Sprint(freezerName, os.Getpid()))}
	if err := os.Mkdir(f.group, 0o755); err != nil {
		return nil, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
	}
	return f, nil
}

// Freeze stops processes until Thaw.
func (f *Freezer) Freeze(pids ...int) error {
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(f.group, "cgroup.procs"), fmt.Append(nil, pid), 0o644); err != nil {
			return fmt.Errorf("freeze process %d: %w", pid, err)
		}
	}
	return f.set("1")
}

// Thaw lets all go on.
func (f *Freezer) Thaw() error {
	if err := f.set("0"); err != nil {
		return err
	}
	return f.empty()
}

// empty puts all processes back where others are, so that the next freeze does not meet them.
func (f *Freezer) empty() error {
	members, err := os.ReadFile(filepath.Join(f.group, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(members)) {
		err := os.WriteFile(filepath.Join(f.root, "cgroup.procs"), []byte(pid), 0o644)
		if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended meanwhile
			return fmt.Errorf("thaw process %s: %w", pid, err)
		}
	}
	return nil
}

func (f *Freezer) set(state string) error {
	if err := os.WriteFile(filepath.Join(f.group, "cgroup.freeze"), []byte(state), 0o644); err != nil {
		return err
	}
	deadline := time.After(freezeWithin)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for {
		raw, err := os.ReadFile(filepath.Join(f.group, "cgroup.events"))
		if err != nil || slices.Contains(strings.Split(string(raw), "\n"), "frozen "+state) {
			return err
		}
		select {
		case <-pace.C:
		case <-deadline:
			return fmt.Errorf("the group does not become frozen %s: %s", state, raw)
		}
	}
}

// Close thaws, and removes the group once nothing is in it.
func (f *Freezer) Close() error {
	return errors.Join(f.Thaw(), os.Remove(f.group), unix.Unmount(f.root, unix.MNT_DETACH))
}
