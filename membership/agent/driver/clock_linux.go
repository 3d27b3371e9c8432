package driver

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is the time since the machine was started, suspension included: the
// clock of leases. It is the same in all processes of a machine and is never set.
func BootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for an unknown clock only
	return time.Duration(ts.Nano())
}
