// Package lab is what throwaway servers on loopback have in common, for tests,
// the demo and the benchmarks: a directory, ports that nobody else is handed,
// an unprivileged user, certificates.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox/rpc/ports"
)

// Lab is a directory with servers in it.
type Lab struct {
	Dir string
	As  *syscall.Credential // whom the servers run as; nil: as this process

	ports *ports.Block
	mu    sync.Mutex // guards nodes and ca
	nodes []interface{ Kill() }
	ca    *authority
}

// Open makes a lab in a new directory below parent; "" for the system's
// temporary one. Where this process is root, its servers run as the first of the
// users that exists.
func Open(parent, name string, users ...string) (*Lab, error) {
	dir, err := os.MkdirTemp(parent, "signalbox-"+name+"-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir}
	if l.ports, err = ports.Take(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if os.Geteuid() == 0 {
		if l.As, err = unprivileged(users); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, errors.Join(os.Chmod(dir, 0o755), l.Own(dir))
}

func unprivileged(users []string) (*syscall.Credential, error) {
	for _, name := range users {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("no unprivileged user to run servers as: none of %s exists", strings.Join(users, ", "))
}

// Memory is a directory that lies in memory where the machine has one, "" else:
// for tests, which create many servers and lose no power.
func Memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// Path is a path in the lab's directory.
func (l *Lab) Path(elements ...string) string {
	return filepath.Join(append([]string{l.Dir}, elements...)...)
}

// Own gives a path to whom the servers run as.
func (l *Lab) Own(path string) error {
	if l.As == nil {
		return nil
	}
	return os.Chown(path, int(l.As.Uid), int(l.As.Gid))
}

// Write writes a file that is the servers' own and nobody else's to read.
func (l *Lab) Write(path, content string) error {
	return errors.Join(os.WriteFile(path, []byte(content), 0o600), l.Own(path))
}

// Port is one of loopback that nobody else is handed while the lab is open.
func (l *Lab) Port() (int, error) { return l.ports.Ports(1) }

// Add has Close kill a node's server.
func (l *Lab) Add(node interface{ Kill() }) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, node)
}

// Close ends the lab's servers and removes its directory.
func (l *Lab) Close() error {
	l.mu.Lock()
	nodes := l.nodes
	l.mu.Unlock()
	for _, n := range nodes {
		n.Kill()
	}
	l.ports.Close()
	return os.RemoveAll(l.Dir)
}

// PID is the process id on the first line of a file, 0 when no process of that
// number lives whose command line contains a word.
func PID(file, word string) int {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return 0
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty once it has ended and is only not waited for yet
	if err != nil || !strings.Contains(string(line), word) {
		return 0
	}
	return pid
}

// End sends a process signals and waits until it is gone, 10 s at most.
func End(pid int, gone func() bool, signals ...syscall.Signal) {
	for _, s := range signals {
		_ = syscall.Kill(pid, s) // gone already, perhaps
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(10 * time.Second); !gone(); {
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
}
