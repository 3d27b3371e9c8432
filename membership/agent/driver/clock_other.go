//go:build !linux

package driver

import "time"

// BootTime is the wall clock where there is no clock that counts suspension and
// is the same in all processes. Setting the clock back then lengthens a lease.
func BootTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
