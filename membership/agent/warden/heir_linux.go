package warden

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// heirEnv, set, has a warden wait for the end of the one that has the directory.
const heirEnv = "SIGNALBOX_WARDEN_HEIR"

// appoint starts an heir for a service that does not end with its warden and has
// a deadline now: a standby that was started without one and is promoted, or one
// that was taken over. It is the next warden: it waits for the directory, and
// when this one dies it keeps the deadline, with the agent dead as well. w.mu is
// held.
func (w *warden) appoint() error {
	c := w.child
	if w.heir != 0 || c.gone || c.ours && c.spec.DeadMan {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("start the next warden: %w", err)
	}
	defer null.Close()
	w.heir, err = syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Dir: "/", Env: append(os.Environ(), heirEnv+"=1"), Files: []uintptr{null.Fd(), null.Fd(), 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		w.heir = 0
		return fmt.Errorf("start the next warden: %w", err)
	}
	return nil
}

// disinherit ends the heir of a warden that ends in order.
func (w *warden) disinherit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heir != 0 { // not reaped yet, so the number is its own
		_ = unix.Kill(w.heir, unix.SIGKILL)
	}
}

// take locks the directory; an heir waits for that.
func take(lock *os.File, heir bool) error {
	how := unix.LOCK_EX
	if !heir {
		how |= unix.LOCK_NB
	}
	for {
		if err := unix.Flock(int(lock.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}
