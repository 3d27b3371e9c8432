package postgres_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Guards: what package driver promises, with real servers under a warden. The
// subject is a standby of a real primary.
func TestSuite(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		t.Parallel()
		p := newPair(t, func(c *postgres.Config) {
			dir := filepath.Join(filepath.Dir(c.State), "warden")
			w, err := warden.New(dir, nil)
			check(t, err)
			c.Launch = postgres.Warded{Client: w}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_, err := w.Stop(ctx, syscall.SIGQUIT, patience, "the test is over")
				check(t, err)
				check(t, w.Quit(ctx))
			})
		})
		west := p.west
		west.cfg.Standbys = nil // nobody follows the subject, so it waits for nobody
		west.again()
		system, err := strconv.ParseUint(value[string](p.ctx, p.east, "select system_identifier::text from pg_control_system()"), 10, 64)
		check(t, err)
		return drivertest.Subject{
			Driver: west.driver, Serves: west.serves, Positions: true, Master: p.east.Address(), Patience: patience,
			Beyond: postgres.Position{System: system, Timeline: 1, LSN: 1 << 40}.Bytes(),
			Busy: func(t *testing.T) func() {
				c, err := west.connect(p.ctx)
				check(t, err)
				_, err = c.Exec(p.ctx, "begin; insert into public.orders (note) values ('busy')")
				check(t, err)
				return func() {
					_, err := c.Exec(context.Background(), "commit")
					check(t, err)
					c.Close(context.Background())
				}
			},
			Restart: func(*testing.T) { west.Kill() },
			Reopen:  func(*testing.T) driver.Driver { west.again(); return west.driver },
			Spoil: func(*testing.T) string {
				west.exec(p.ctx, "select pg_wal_replay_pause()")
				return "replay-paused"
			},
		}
	})
}

// serves tries to write as a client would.
func (s *site) serves() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return false
	}
	defer c.Close(context.Background())
	_, err = c.Exec(ctx, "insert into public.orders (note) values ('serves')")
	return err == nil
}

// mainOfWarden is the warden's part of this test's program.
func mainOfWarden(args []string) int {
	if err := warden.Run(args[0]); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
