package load

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns raw CLOCK_MONOTONIC in nanoseconds, the same for all processes
// of the machine.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("read CLOCK_MONOTONIC: " + err.Error()) // the kernel always has it
	}
	return ts.Nano()
}

// napAtMost bounds how long the end of a context goes unnoticed.
const napAtMost = 20 * time.Millisecond

// pause returns at the CLOCK_MONOTONIC time at, or soon after ctx ended. Go's
// timers fire up to a millisecond late in an idle process, which would show
// as latency; the kernel's are about 50 µs late.
func pause(ctx context.Context, at int64) {
	for ctx.Err() == nil {
		now := Now()
		if now >= at {
			return
		}
		until := unix.NsecToTimespec(min(at, now+int64(napAtMost)))
		// Interrupted by a signal it returns early: the loop looks again.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil)
	}
}
