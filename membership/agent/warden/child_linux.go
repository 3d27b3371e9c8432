package warden

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killLook is how long one round of killing waits for the end of what it killed
	// before it looks what else there is.
	killLook = 100 * time.Millisecond
	// killPause is the pause between two rounds where nothing announces the end.
	killPause = 2 * time.Millisecond
	// killLate is how long killing may take before the log says so.
	killLate = 2 * time.Second
)

// forker forks all children on one thread, which lives as long as the warden:
// the kernel's signal at a parent's death is at the death of the thread.
func (w *warden) forker() {
	runtime.LockOSThread()
	for f := range w.forks {
		w.mu.Lock() // the child is known before it can be reaped
		pid, err := syscall.ForkExec(f.child.spec.Command[0], f.child.spec.Command, f.attr)
		if err == nil {
			f.child.pid, f.child.main, f.child.grouped = pid, true, f.attr.Sys.UseCgroupFD
			if p, ok := readProcess(pid); ok {
				f.child.born = p.born
			}
			w.child, w.term, w.deadline = f.child, f.child.spec.Term, f.child.spec.Deadline
			w.setTimer()
			err = w.save()
		}
		w.mu.Unlock()
		if err != nil && pid > 0 { // nobody could take it over: it must not run
			w.kill(f.child, "its record could not be written")
		}
		f.err <- err
	}
}

// reap takes in what has ended: the main process, and orphans that became ours.
func (w *warden) reap() {
	for {
		w.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		c := w.child
		main := pid > 0 && c != nil && c.ours && !c.reaped && pid == c.pid
		if main { // from here on the number may be another's
			c.reaped, c.main, c.exit = true, false, howItEnded(status)
			close(c.taken)
		}
		if pid > 0 && pid == w.heir {
			w.heir = 0
		}
		w.mu.Unlock()
		if main {
			go w.kill(c, "") // what it left behind
		}
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
	}
}

func howItEnded(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// kill sends SIGKILL to everything of the service until nothing is left.
func (w *warden) kill(c *child, why string) {
	w.killing.Lock()
	defer w.killing.Unlock()
	w.mu.Lock()
	gone, main := c.gone, c.main
	c.stops = true
	if !gone && why != "" && c.killed == "" && main {
		c.killed = why
	}
	w.mu.Unlock()
	if gone {
		return
	}
	killed := map[int]uint64{} // by pid, with when they were born
	for began, late := time.Now(), false; ; {
		if c.grouped {
			w.group.killAll()
		}
		left := w.members(c)
		for _, pid := range left {
			if p, ok := readProcess(pid); ok {
				killed[pid] = p.born
			}
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		}
		left = append(left, dying(killed)...)
		w.mu.Lock()
		reaped := !c.ours || c.reaped
		w.mu.Unlock()
		if len(left) == 0 && reaped && !(c.grouped && w.group.populated()) {
			break
		}
		if !late && time.Since(began) > killLate {
			late = true
			fmt.Fprintln(os.Stderr, "warden: processes do not end although they were killed:", left)
		}
		if ended(left) {
			continue
		}
		taken := c.taken
		if reaped { // and only the group is not empty yet
			taken = nil
		}
		pause := time.NewTimer(killPause)
		select {
		case <-taken:
		case <-pause.C:
		}
		pause.Stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c.gone, c.main = true, false
	w.deadline = 0
	w.setTimer()
	w.group.remove()
	if err := w.save(); err != nil {
		fmt.Fprintln(os.Stderr, "warden:", err)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// ended waits until processes have ended, killLook at most; false where there is
// none to wait for.
func ended(pids []int) bool {
	var waits []unix.PollFd
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			defer func() { _ = unix.Close(fd) }() // only waited on
			waits = append(waits, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	if len(waits) == 0 {
		return false
	}
	for end := time.Now().Add(killLook); len(waits) > 0; {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		if _, err := unix.Poll(waits, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return false
		}
		waits = slices.DeleteFunc(waits, func(p unix.PollFd) bool { return p.Revents != 0 })
	}
	return true
}

// dying lists who was killed and is not dead yet: whose parent died first may be
// nobody's of the service any more.
func dying(killed map[int]uint64) (out []int) {
	for pid, born := range killed {
		if p, ok := readProcess(pid); ok && p.born == born && !p.dead {
			out = append(out, pid)
		}
	}
	return out
}

// members are the processes of the service that are there, by pid: all
// descendants of the warden and of the main process, and, of a service that was
// taken over, all of its session.
func (w *warden) members(c *child) (out []int) {
	all := processes()
	self := os.Getpid()
	w.mu.Lock()
	delete(all, w.heir)
	w.mu.Unlock()
	inTree := map[int]bool{self: true}
	if p, ok := all[c.pid]; ok && p.born == c.born {
		inTree[c.pid] = true
	}
	for grown := true; grown; { // parents may come after their children
		grown = false
		for pid, p := range all {
			if !inTree[pid] && inTree[p.parent] {
				inTree[pid], grown = true, true
			}
		}
	}
	leader, led := all[c.pid]
	ownSession := !c.ours && (!led || leader.born == c.born)
	for pid, p := range all {
		if pid != self && !p.dead && (inTree[pid] || ownSession && p.session == c.pid && p.born >= c.born) {
			out = append(out, pid)
		}
	}
	return out
}
