package warden

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timer is an alarm on the boot-time clock: one that was due while the machine
// was suspended rings when it wakes up.
type timer struct{ file *os.File }

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make timer: %w", err)
	}
	return &timer{file: os.NewFile(uintptr(fd), "timer")}, nil
}

// set has it ring at a moment of driver.BootTime's clock; 0: never.
func (t *timer) set(at time.Duration) {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return // closed: the warden ends
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	_ = raw.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil) })
	if err != nil {
		panic(fmt.Sprintf("warden: set timer: %v", err)) // no deadline would be kept
	}
}

// ring waits until it rings; false when it was closed.
func (t *timer) ring() bool {
	_, err := t.file.Read(make([]byte, 8))
	return err == nil
}
