package postgres_test

import (
	"context"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// Guards: what package driver promises, with real servers under a warden. The
// subject is a standby of a real primary.
func TestSuite(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		t.Parallel()
		p := newPair(t, func(c *postgres.Config) {
			dir := filepath.Join(filepath.Dir(c.State), "warden")
			c.Launch = postgres.Warded{Client: drivertest.Warden(t, dir, syscall.SIGQUIT)}
		})
		west := p.west
		west.cfg.Standbys = nil // nobody follows the subject, so it waits for nobody
		west.again()
		system, err := strconv.ParseUint(value[string](p.Ctx, p.east, "select system_identifier::text from pg_control_system()"), 10, 64)
		drivertest.Check(t, err)
		return drivertest.Subject{
			Driver: west.driver, Serves: west.serves, Positions: true, Master: p.east.Address(), Patience: patience,
			Beyond: postgres.Position{System: system, Timeline: 1, LSN: 1 << 40}.Bytes(),
			Busy: func(t *testing.T) func() {
				c, err := west.connect(p.Ctx)
				drivertest.Check(t, err)
				_, err = c.Exec(p.Ctx, "begin; insert into public.orders (note) values ('busy')")
				drivertest.Check(t, err)
				return func() {
					_, err := c.Exec(context.Background(), "commit")
					drivertest.Check(t, err)
					c.Close(context.Background())
				}
			},
			Restart: func(*testing.T) { west.Kill() },
			Reopen:  func(*testing.T) driver.Driver { west.again(); return west.driver },
			Spoil: func(*testing.T) string {
				west.exec(p.Ctx, "select pg_wal_replay_pause()")
				return "replay-paused"
			},
		}
	})
}

// serves tries to write as a client would.
func (s *site) serves() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return false
	}
	defer c.Close(context.Background())
	_, err = c.Exec(ctx, "insert into public.orders (note) values ('serves')")
	return err == nil
}
