package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// Guards: a wrong password is named on either side, and nothing is stopped for it.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	bad := filepath.Join(filepath.Dir(p.west.State), "badpass")
	drivertest.Check(t, os.WriteFile(bad, []byte("*:*:*:signalbox:wrong\n"), 0o600))
	p.west.cfg.Connect = strings.Replace(p.west.cfg.Connect, lab.Passfile(), bad, 1)
	p.west.again()
	p.Problem(p.west, "wrong-password")
	p.west.cfg = p.west.Config(p.east.Name)
	p.west.cfg.Replicate = strings.Replace(p.west.cfg.Replicate, lab.Passfile(), bad, 1)
	p.west.again()
	p.Await(func() bool { // the first looks may take too long on a busy machine
		return strings.Contains(p.Problem(p.west, "upstream-unreachable").What, "password")
	}, func() any { return p.Problem(p.west, "upstream-unreachable") })
	p.StepDown(p.east, 1)
	p.Promote(p.east, 2, nil)
	err := p.west.driver.Follow(p.Ctx, driver.Follow{Service: "db", Term: 2, Address: p.east.Address() + "0"})
	if err == nil || p.west.PID() == 0 {
		t.Fatalf("%v; the standby was stopped for a primary that nobody can reach", err)
	}
}

// Guards: a standby of another database cluster is named, neither follows nor
// is promoted, and its data is left alone.
func TestOtherSystem(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	other, err := pgtest.Open(pgtest.Memory())
	drivertest.Check(t, err)
	t.Cleanup(func() { drivertest.Check(t, other.Close()) })
	n, err := other.Primary("stranger")
	drivertest.Check(t, err)
	stranger := newSite(t, n, nil, p.east.Name)
	p.Promote(stranger, 1, nil)
	stranger.exec(p.Ctx, "create table public.mine (id int)")
	p.stepDown2(stranger)
	err = stranger.driver.Follow(p.Ctx, driver.Follow{Service: "db", Term: 1, Address: p.east.Address()})
	drivertest.Refused(t, err, "system-differs")
	position := p.StepDown(p.east, 1)
	drivertest.Refused(t, stranger.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2, Position: position}), "system-differs")
	p.Promote(stranger, 3, nil)
	stranger.exec(p.Ctx, "insert into public.mine values (1)")
}

// stepDown2 steps a lone server down: without a deadline it goes on without a standby.
func (p *pair) stepDown2(s *site) driver.Position {
	p.T.Helper()
	position, err := s.driver.StepDown(p.Ctx, driver.StepDown{Service: "db", Term: 1})
	drivertest.Check(p.T, err)
	return position
}

// Guards: a standby that is too far behind is named with its lag, the step-down
// is refused before anything is interrupted, and a promotion refuses what lacks
// the position.
func TestTooFarBehind(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(c *postgres.Config) { c.MaxLag = 64 << 10 })
	p.west.exec(p.Ctx, "select pg_wal_replay_pause()")
	p.east.exec(p.Ctx, "insert into public.orders (note) select repeat('x', 1000) from generate_series(1, 2000)")
	p.Problem(p.west, "replay-paused")
	p.Problem(p.west, "lag")
	r, err := p.west.driver.Ready(p.Ctx)
	drivertest.Check(t, err)
	if r.Ready || r.LagBytes < 1_000_000 || r.Lag <= 0 {
		t.Fatalf("%+v", r)
	}
	short, cancel := context.WithTimeout(p.Ctx, 3*time.Second)
	defer cancel()
	c, err := p.east.connect(p.Ctx)
	drivertest.Check(t, err)
	defer c.Close(context.Background())
	_, err = p.east.driver.StepDown(short, driver.StepDown{Service: "db", Term: 1, Deadline: time.Now().Add(2 * time.Second)})
	if err == nil {
		t.Fatal("it stepped down although no standby has replayed everything")
	}
	p.Promote(p.east, 2, nil) // the fallback
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('goes on')")
}

// Guards: a slot that is gone is named, and made again by the driver.
func TestSlotGone(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	const drop = `select pg_terminate_backend(active_pid), pg_sleep(0.05) from pg_replication_slots where slot_name like 'signalbox_west%'`
	p.Await(func() bool {
		c, err := p.east.connect(p.Ctx)
		drivertest.Check(t, err)
		defer c.Close(context.Background())
		_, _ = c.Exec(p.Ctx, drop)
		_, err = c.Exec(p.Ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'signalbox_west%'`)
		return err == nil // the standby may have connected again in between
	}, func() any { return "slot is active" })
	p.Problem(p.west, "slot-missing")
	p.Follow(p.west, p.east, 1)
}

// Guards: a transaction that never ends is named with age and query; by policy
// the switch waits and is given up, ends it, or does not begin.
func TestEndlessTransaction(t *testing.T) {
	for _, policy := range []postgres.Policy{postgres.Wait, postgres.Cancel, postgres.Abort} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, func(c *postgres.Config) { c.Transactions, c.LongTransaction = policy, 50*time.Millisecond })
			c, err := p.east.connect(p.Ctx)
			drivertest.Check(t, err)
			defer c.Close(context.Background())
			_, err = c.Exec(p.Ctx, "begin; insert into public.orders (note) values ('endless')")
			drivertest.Check(t, err)
			if got := p.Problem(p.east, "long-transaction"); !strings.Contains(got.What, "endless") {
				t.Fatalf("%+v", got)
			}
			budget := time.Second // waited for in vain
			if policy == postgres.Cancel {
				budget = 10 * time.Second // ended at half of it
			}
			_, err = p.east.driver.StepDown(p.Ctx, driver.StepDown{Service: "db", Term: 1, Deadline: time.Now().Add(budget)})
			if policy == postgres.Cancel {
				drivertest.Check(t, err)
				if p.east.PID() != 0 {
					t.Fatal("the server still runs")
				}
				return
			}
			drivertest.Refused(t, err, "long-transaction")
			_, err = c.Exec(p.Ctx, "commit")
			drivertest.Check(t, err) // who waits, or gives up, breaks nothing
			p.Promote(p.east, 2, nil)
			p.east.exec(p.Ctx, "insert into public.orders (note) values ('goes on')")
		})
	}
}

// Guards: an unplanned end of the primary's server after its step-down changes
// nothing; one before it still hands over everything that was acknowledged.
func TestPrimaryKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	var all sync.WaitGroup
	w := write(p.Ctx, p.east, &all)
	p.Await(func() bool { return value[int64](p.Ctx, p.east, "select count(*) from public.orders") > 100 }, func() any { return nil })
	drivertest.Check(t, syscall.Kill(p.east.PID(), syscall.SIGKILL)) // the postmaster alone: its children must not count as gone
	all.Wait()
	p.Await(func() bool {
		status, err := p.east.driver.Status(p.Ctx)
		return err == nil && !status.Master
	}, func() any { return "a dead server is master" })
	p.east.again() // the agent died as well
	position := p.StepDown(p.east, 1)
	if p.east.PID() != 0 {
		t.Fatal("the server runs after the step-down")
	}
	p.Promote(p.west, 2, position)
	if n := lost(p.Ctx, p.west, w); n != 0 {
		t.Fatalf("%d acknowledged inserts are lost", n)
	}
	p.Follow(p.east, p.west, 2)
}

// Guards: PostgreSQL killed while the agent lives: it is not master, and the same
// term starts it again as primary with everything acknowledged.
func TestServerKilledAndPromotedAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('before')")
	before, err := p.east.driver.Status(p.Ctx)
	drivertest.Check(t, err)
	p.east.Kill()
	p.Promote(p.east, 1, nil)
	after, err := p.east.driver.Status(p.Ctx)
	drivertest.Check(t, err)
	if !after.Master || after.Run == before.Run {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	if n := value[int64](p.Ctx, p.east, "select count(*) from public.orders"); n != 1 {
		t.Fatalf("%d rows", n)
	}
	p.Ready(p.west)
}

// Guards: a driver killed between freezing and stopping leaves a server that the
// next one has go on.
func TestFrozenServerGoesOn(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	drivertest.Check(t, syscall.Kill(p.east.PID(), syscall.SIGSTOP))
	p.east.again()
	var last error
	p.Await(func() bool {
		ask, cancel := context.WithTimeout(p.Ctx, time.Second) // as the agent does
		defer cancel()
		s, err := p.east.driver.Status(ask)
		last = err
		return err == nil && s.Master
	}, func() any { return last })
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('goes on')")
}

// Guards: after a failover the old primary takes no write from a client that
// reaches it directly, comes back rewound, and what it had alone is counted and kept.
func TestOldPrimaryComesBack(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.west.exec(p.Ctx, "select pg_wal_replay_pause()") // the network breaks
	p.cut(p.west)
	p.east.exec(p.Ctx, "insert into public.orders (note) select 'lost' from generate_series(1, 1000)")
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('lost too')")
	p.east.Kill()
	p.west.exec(p.Ctx, "select pg_wal_replay_resume()")
	p.Promote(p.west, 2, nil)
	p.west.exec(p.Ctx, "insert into public.orders (note) values ('new')")

	_, err := lab.Run(p.Ctx, "pg_ctl", "-D", p.east.Data, "-o", p.east.options(), "-l", p.east.State+"-log", "-w", "start")
	drivertest.Check(t, err)
	c, err := p.east.connect(p.Ctx)
	drivertest.Check(t, err)
	if _, err = c.Exec(p.Ctx, "insert into public.orders (note) values ('split')"); err == nil {
		t.Fatal("the old primary took a write")
	}
	c.Close(p.Ctx)

	p.Follow(p.east, p.west, 2)
	if n := value[int64](p.Ctx, p.east, "select count(*) from public.orders where note like 'lost%'"); n != 0 {
		t.Fatalf("%d rows that the new primary never had", n)
	}
	loss := p.east.driver.Loss()
	if loss == nil || loss.Transactions != 2 || loss.Bytes == 0 {
		t.Fatalf("loss %+v: want 2 transactions", loss)
	}
	if kept, err := filepath.Glob(filepath.Join(loss.Kept, "*")); err != nil || len(kept) == 0 {
		t.Fatalf("the log of what was lost is not in %s", loss.Kept)
	}
	position := p.StepDown(p.west, 2) // and back
	p.Promote(p.east, 3, position)
	p.Follow(p.west, p.east, 3)
}

// cut ends a standby's connection for good: what the primary writes next is not sent.
func (p *pair) cut(standby *site) {
	p.T.Helper()
	standby.exec(p.Ctx, "alter system set primary_conninfo = ''")
	standby.Kill()
	_, err := lab.Run(p.Ctx, "pg_ctl", "-D", standby.Data, "-o", standby.options(), "-l", standby.State+"-log", "-w", "start")
	drivertest.Check(p.T, err)
}

// Guards: a failover that may lose more than max-loss is refused, with the number;
// the expected loss is shown before.
func TestMaxLoss(t *testing.T) {
	t.Parallel()
	none := uint64(0)
	p := newPair(t, func(c *postgres.Config) { c.MaxLoss = &none })
	p.west.exec(p.Ctx, "select pg_wal_replay_pause()")
	p.cut(p.west)
	p.east.exec(p.Ctx, "insert into public.orders (note) select 'lost' from generate_series(1, 1000)")
	var expected driver.Readiness
	p.Await(func() bool {
		r, err := p.west.driver.Ready(p.Ctx)
		expected = r
		return err == nil && r.LagBytes > 10_000
	}, func() any { return expected })
	p.east.Kill()
	r, err := p.west.driver.Ready(p.Ctx)
	drivertest.Check(t, err)
	if r.LagBytes < 10_000 || r.Lag <= 0 {
		t.Fatalf("expected loss: %d bytes, %s", r.LagBytes, r.Lag)
	}
	drivertest.Refused(t, p.west.driver.Promote(p.Ctx, promotion(2)), "max-loss")
	p.west.cfg.MaxLoss = nil
	p.west.again()
	p.Promote(p.west, 2, nil)
}

// Guards: a standby on a timeline that the old master's end does not belong to is
// never promoted with its position.
func TestTimelineMismatch(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.cut(p.west)
	p.west.exec(p.Ctx, "select pg_promote()") // a person promotes it by hand
	p.west.exec(p.Ctx, "insert into public.orders (note) select 'split' from generate_series(1, 2000)")
	status, err := p.west.driver.Status(p.Ctx)
	drivertest.Check(t, err)
	if !status.Master {
		t.Fatal("the agent would not notice")
	}
	err = p.west.driver.Follow(p.Ctx, driver.Follow{Service: "db", Term: 1, Address: p.east.Address()})
	drivertest.Refused(t, err, "step it down first")
	p.west.Kill()
	drivertest.Check(t, p.east.driver.Promote(p.Ctx, promotion(2)))
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('right')")
	position, err := p.east.driver.StepDown(p.Ctx, driver.StepDown{Service: "db", Term: 2}) // no standby: it goes on alone
	drivertest.Check(t, err)
	err = p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 3, Position: position})
	drivertest.Refused(t, err, "timeline-differs")
	p.Promote(p.east, 4, nil)
	p.Follow(p.west, p.east, 4) // rewound
}

// Guards: a full disk during a promotion is named, nothing is lost, and the
// promotion succeeds once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.exec(p.Ctx, "insert into public.orders (note) select 'x' from generate_series(1, 100)")
	small := mountSmall(t, p.west)
	p.Follow(p.west, p.east, 1)
	position := p.StepDown(p.east, 1)
	filler := filepath.Join(small, "filler")
	fill(t, filler)
	err := p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2, Position: position})
	drivertest.Refused(t, err, "disk-full")
	drivertest.Check(t, os.Remove(filler))
	p.Await(func() bool {
		err = p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2, Position: position})
		return err == nil
	}, func() any { return err })
	if n := value[int64](p.Ctx, p.west, "select count(*) from public.orders"); n != 100 {
		t.Fatalf("%d rows", n)
	}
	if timeline := value[int64](p.Ctx, p.west, "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int::bigint"); timeline < 2 {
		t.Fatal("the promotion was finished on the old primary's timeline")
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	drivertest.Check(t, err)
	defer f.Close()
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
