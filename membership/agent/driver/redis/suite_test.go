package redis_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// Guards: what package driver promises, with real servers under a warden. The
// subject is a replica of a real master, and has one of its own.
func TestSuite(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		t.Parallel()
		p := newPair(t, nil)
		west := p.west
		sub := newSite(t, "sub", nil)
		drivertest.Check(t, sub.Start("--replicaof", "127.0.0.1", west.port(), "--masteruser", "signalbox", "--masterauth", "interlock"))
		drivertest.Check(t, sub.Up(p.Ctx))
		linked := func(t *testing.T) {
			p.Await(func() bool {
				r, err := sub.driver.Ready(p.Ctx)
				return err == nil && r.Problems != nil && sub.linked(p.Ctx)
			}, func() any { return "the subject's replica is not connected" })
		}
		linked(t)
		position, err := redis.ParsePosition(driver.Position(west.info(p.Ctx, "master_replid") + ":1000000"))
		drivertest.Check(t, err)
		return drivertest.Subject{
			Driver: west.driver, Serves: west.writes, Positions: true, Master: p.east.Address(), Patience: patience, Beyond: position.Bytes(),
			Busy: func(t *testing.T) func() { // a replica that answers nothing
				linked(t)
				sub.Signal(syscall.SIGSTOP)
				return func() { sub.Signal(syscall.SIGCONT) }
			},
			Restart: func(*testing.T) { west.Kill() },
			Reopen:  func(*testing.T) driver.Driver { west.again(); return west.driver },
			Spoil: func(*testing.T) string {
				west.do(context.Background(), "CONFIG", "SET", "replica-read-only", "no")
				return "replica-writable"
			},
		}
	})
}
