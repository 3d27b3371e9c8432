package warden

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// warden watches one service.
type warden struct {
	dir      string
	lock     *os.File
	listener net.Listener
	group    *group
	timer    *timer
	forks    chan fork
	quit     chan struct{}
	once     sync.Once
	killing  sync.Mutex // one killing at a time; taken before mu

	mu       sync.Mutex // guards everything below
	child    *child
	term     signalbox.Term
	deadline time.Duration
	heard    time.Time // when the last request came
	starting bool
	heir     int           // its process; 0 for none
	changed  chan struct{} // closed and replaced when something ended
}

// child is the service.
type child struct {
	spec    Spec
	pid     int
	born    uint64 // when, in the kernel's ticks: with pid it names one process
	run     string
	started time.Time
	ours    bool          // our own child; else taken over from a warden that died
	grouped bool          // in the control group
	main    bool          // the main process is there
	reaped  bool          // it was, as our child
	taken   chan struct{} // closed then
	stops   bool          // it was told to stop, or is killed
	gone    bool          // nothing is left
	exit    string
	killed  string
}

// record is what the next warden has to know.
type record struct {
	Spec     Spec           `json:"spec"`
	PID      int            `json:"pid"`
	Born     uint64         `json:"born"`
	Run      string         `json:"run"`
	Started  time.Time      `json:"started"`
	Grouped  bool           `json:"grouped"`
	Gone     bool           `json:"gone"`
	Exit     string         `json:"exit,omitempty"`
	Killed   string         `json:"killed,omitempty"`
	Term     signalbox.Term `json:"term,omitempty"`
	Deadline time.Duration  `json:"deadline,omitempty"`
}

func (w *warden) state() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := State{Warden: os.Getpid(), Term: w.term, Deadline: w.deadline, Running: w.starting}
	if c := w.child; c != nil {
		s.Running, s.Stopping = s.Running || !c.gone, c.stops && !c.gone
		s.Run, s.Started, s.Exit, s.Killed = c.run, c.started, c.exit, c.killed
		if c.main {
			s.PID = c.pid
		}
		if c.grouped {
			s.Cgroup = w.group.path
		}
	}
	return s
}

// save keeps the record. w.mu is held. It is not synced: a machine that crashes
// leaves no process behind.
func (w *warden) save() error {
	c := w.child
	if c == nil {
		return nil
	}
	raw := encode(record{
		Spec: c.spec, PID: c.pid, Born: c.born, Run: c.run, Started: c.started, Grouped: c.grouped, Gone: c.gone,
		Exit: c.exit, Killed: c.killed, Term: w.term, Deadline: w.deadline,
	})
	path := filepath.Join(w.dir, recordName)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	return nil
}

// takeOver finds what an earlier warden left: a service that lives on is watched
// and, when its deadline has passed, killed; strays are killed.
func (w *warden) takeOver() error {
	raw, err := os.ReadFile(filepath.Join(w.dir, recordName))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read record: %w", err)
	}
	var r record
	if err != nil || json.Unmarshal(raw, &r) != nil {
		w.group.killAll() // started, and not yet written down: never promoted
		return nil
	}
	c := &child{spec: r.Spec, pid: r.PID, born: r.Born, run: r.Run, started: r.Started, grouped: r.Grouped, gone: r.Gone, exit: r.Exit, killed: r.Killed}
	w.child = c
	if c.gone {
		w.group.killAll()
		w.group.remove()
		return nil
	}
	w.term, w.deadline = r.Term, r.Deadline
	if fd, err := unix.PidfdOpen(c.pid, 0); err == nil {
		if p, ok := readProcess(c.pid); ok && p.born == c.born {
			c.main = true
			go w.watchStranger(c, fd)
			w.setTimer()
			return nil
		}
		_ = unix.Close(fd)
	}
	c.exit = "it ended while no warden was there"
	w.kill(c, "")
	return nil
}

// watchStranger waits for the end of a process that is not our child.
func (w *warden) watchStranger(c *child, fd int) {
	defer func() { _ = unix.Close(fd) }() // only waited on
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err != unix.EINTR {
			break
		}
	}
	w.mu.Lock()
	c.main, c.exit = false, "it ended; how is not known"
	w.mu.Unlock()
	w.kill(c, "")
}

// start starts the service.
func (w *warden) start(s Spec) error {
	w.mu.Lock()
	if w.starting || w.child != nil && !w.child.gone {
		w.mu.Unlock()
		return fmt.Errorf("start service: %w", ErrRunning)
	}
	w.starting = true
	w.mu.Unlock()
	c := &child{spec: s, run: newRun(), started: time.Now(), ours: true, taken: make(chan struct{})}
	err := w.launch(c)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starting = false
	if err != nil {
		w.group.remove()
		return fmt.Errorf("start service: %w", err)
	}
	return nil
}

func newRun() string {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// launch forks, and makes the child known before anybody can reap it.
func (w *warden) launch(c *child) error {
	out, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if c.spec.Output != "" {
		out, err = OpenOutput(c.spec.Output, MaxOutput)
	}
	if err != nil {
		return err
	}
	defer out.Close()
	in, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer in.Close()
	attr := &syscall.ProcAttr{Dir: c.spec.Dir, Env: c.spec.Env, Files: []uintptr{in.Fd(), out.Fd(), out.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	if u := c.spec.As; u != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	if c.spec.DeadMan {
		attr.Sys.Pdeathsig = unix.SIGKILL
	}
	if dir := w.group.open(); dir != nil {
		defer dir.Close()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
		if err := w.fork(c, attr); err == nil {
			return nil
		}
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = false, 0 // not allowed to move there
	}
	return w.fork(c, attr)
}

// fork is one request to the goroutine that forks.
type fork struct {
	child *child
	attr  *syscall.ProcAttr
	err   chan error
}

func (w *warden) fork(c *child, attr *syscall.ProcAttr) error {
	f := fork{child: c, attr: attr, err: make(chan error, 1)}
	w.forks <- f
	return <-f.err
}

// signal sends the main process a signal.
func (w *warden) signal(s syscall.Signal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.child == nil || !w.child.main {
		return fmt.Errorf("signal service: %w", ErrNotRunning)
	}
	if err := unix.Kill(w.child.pid, s); err != nil { // not reaped before main is false
		return fmt.Errorf("signal service: %w", err)
	}
	return nil
}

// stop ends the service: with the signal, and with SIGKILL after the timeout.
func (w *warden) stop(s syscall.Signal, timeout time.Duration, why string) {
	w.mu.Lock()
	c := w.child
	if c != nil {
		c.stops = true
	}
	w.mu.Unlock()
	if c == nil {
		return
	}
	late := make(chan struct{})
	if err := w.signal(s); err == nil && timeout > 0 {
		timer := time.AfterFunc(timeout, func() { close(late) })
		defer timer.Stop()
		if w.wait(c.run, late) {
			return
		}
	}
	w.kill(c, why)
}

// wait returns true when nothing of the run is left, false when until is closed
// before.
func (w *warden) wait(run string, until <-chan struct{}) bool {
	for {
		w.mu.Lock()
		changed, c := w.changed, w.child
		over := !w.starting && (c == nil || c.gone || run != "" && c.run != run)
		w.mu.Unlock()
		if over {
			return true
		}
		select {
		case <-changed:
		case <-until:
			return false
		}
	}
}

// arm sets the deadline.
func (w *warden) arm(term signalbox.Term, deadline time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case deadline <= 0:
		return fmt.Errorf("arm: %w: deadline %s", signalbox.ErrInvalid, deadline)
	case w.child == nil || w.child.gone:
		return fmt.Errorf("arm: %w", ErrNotRunning)
	case term < w.term, term == w.term && deadline <= w.deadline:
		return nil
	}
	w.term, w.deadline = term, deadline
	w.setTimer()
	return errors.Join(w.save(), w.appoint())
}

func (w *warden) disarm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = 0
	w.setTimer()
	return w.save()
}

// setTimer sets the alarm to when killing has to begin. w.mu is held.
func (w *warden) setTimer() {
	if w.deadline == 0 {
		w.timer.set(0)
		return
	}
	w.timer.set(max(1, w.deadline-w.killTime()))
}

func (w *warden) killTime() time.Duration {
	if w.child != nil && w.child.spec.KillTime > 0 {
		return w.child.spec.KillTime
	}
	return DefaultKillTime
}

// watchTimer kills when the alarm rings.
func (w *warden) watchTimer() {
	for w.timer.ring() {
		w.mu.Lock()
		c, term := w.child, w.term
		due := w.deadline != 0 && driver.BootTime() >= w.deadline-w.killTime()
		w.mu.Unlock()
		if due && c != nil {
			w.kill(c, fmt.Sprintf("the lease of term %d ran out", term))
		}
	}
}
