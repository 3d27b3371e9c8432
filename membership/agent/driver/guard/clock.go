package guard

import (
	"sync/atomic"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/lease"
)

// clock reads boot-time and wall clock for the price of one: the system call for
// the boot-time clock takes longer than all else on the way of a request. The
// monotonic clock that comes with the wall clock differs from boot time by what
// the machine was suspended, and while that is so the wall clock, too, moves
// against it: only then the system is asked again.
type clock struct {
	epoch  time.Time
	offset atomic.Pointer[offset]
}

// offset is what to add to the time since epoch by the monotonic clock.
type offset struct{ boot, wall time.Duration }

const (
	// steady is how far wall and monotonic clock may move against each other
	// before boot time is looked at again.
	steady = time.Millisecond
	// readings bounds the attempts to read two clocks without a pause between.
	readings = 3
)

func (c *clock) now() lease.Instant {
	t := time.Now()
	mono, wall := t.Sub(c.epoch), time.Duration(t.UnixNano())
	o := c.offset.Load()
	if o == nil || wall-mono-o.wall > steady || o.wall-(wall-mono) > steady {
		return c.look()
	}
	return lease.Instant{Boot: mono + o.boot, Wall: wall}
}

// look asks for boot time. It keeps the offset only when nothing came between
// the readings: a pause there would shift every later one.
func (c *clock) look() lease.Instant {
	var i lease.Instant
	for range readings {
		before := time.Now()
		i.Boot = driver.BootTime()
		after := time.Now()
		i.Wall = time.Duration(after.UnixNano())
		mono := after.Sub(c.epoch)
		if after.Sub(before) < steady {
			c.offset.Store(&offset{boot: i.Boot - mono, wall: i.Wall - mono})
			break
		}
	}
	return i
}
