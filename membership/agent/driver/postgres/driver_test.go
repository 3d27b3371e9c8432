package postgres_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// patience bounds every wait of these tests; nothing is expected to take so long.
const patience = 8 * time.Minute

var lab *pgtest.Lab

func TestMain(m *testing.M) {
	drivertest.Main(m, func() (_ io.Closer, err error) {
		lab, err = pgtest.Open(pgtest.Memory())
		return lab, err
	})
}

var names atomic.Int64

// site is one server with its driver.
type site struct {
	*pgtest.Node
	t      *testing.T
	cfg    postgres.Config
	driver *postgres.Driver
}

// pair is a primary that serves term 1 and its standby.
type pair struct {
	drivertest.Orders
	east, west *site
}

// newPair starts both. change may alter the configurations.
func newPair(t *testing.T, change func(*postgres.Config)) *pair {
	t.Helper()
	return newPairOf(t, func(*pgtest.Node) {}, change)
}

// newPairOf starts both on places that are prepared first.
func newPairOf(t *testing.T, prepare func(*pgtest.Node), change func(*postgres.Config)) *pair {
	t.Helper()
	id := names.Add(1)
	all := []string{fmt.Sprintf("east-%d", id), fmt.Sprintf("west-%d", id)}
	p := startEast(t, all, prepare, change)
	p.west = p.standby(all[1], all, prepare, change)
	return p
}

// startEast starts the primary, of term 1.
func startEast(t *testing.T, all []string, prepare func(*pgtest.Node), change func(*postgres.Config)) *pair {
	t.Helper()
	p := &pair{Orders: drivertest.NewOrders(t, patience)}
	east, err := lab.Primary(all[0])
	drivertest.Check(t, err)
	t.Cleanup(east.Kill)
	prepare(east)
	p.east = newSite(t, east, change, all[1:]...)
	p.Promote(p.east, 1, nil)
	p.east.exec(p.Ctx, "create table if not exists orders (id bigserial primary key, note text)")
	t.Cleanup(func() { drivertest.ShowLog(t, east.Name, filepath.Join(east.State, "postgres.log")) })
	return p
}

// standby starts a standby of the primary that has everything. all are the names
// of all servers.
func (p *pair) standby(name string, all []string, prepare func(*pgtest.Node), change func(*postgres.Config)) *site {
	p.T.Helper()
	n, err := lab.Primary(name) // the same template: a copy of the stopped primary
	drivertest.Check(p.T, err)
	p.T.Cleanup(n.Kill)
	prepare(n)
	p.T.Cleanup(func() { drivertest.ShowLog(p.T, name, filepath.Join(n.State, "postgres.log")) })
	others := slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == name })
	s := newSite(p.T, n, change, others...)
	p.Follow(s, p.east, 1)
	p.inStep(s, p.east)
	return s
}

// inStep waits until a standby has replayed all that its primary wrote: a standby is
// ready as soon as it streams and lags by less than max_lag.
func (p *pair) inStep(standby, primary *site) {
	p.T.Helper()
	written := value[string](p.Ctx, primary, "select pg_current_wal_lsn()::text")
	replayed := ""
	p.Await(func() bool {
		replayed = value[string](p.Ctx, standby, "select pg_last_wal_replay_lsn()::text")
		return value[bool](p.Ctx, standby, "select $1::pg_lsn <= $2::pg_lsn", written, replayed)
	}, func() any { return fmt.Sprintf("written to %s, replayed to %s", written, replayed) })
}

func newSite(t *testing.T, n *pgtest.Node, change func(*postgres.Config), others ...string) *site {
	t.Helper()
	cfg := n.Config(others...)
	cfg.Log = zerolog.New(zerolog.NewTestWriter(t)).With().Timestamp().Logger()
	if change != nil {
		change(&cfg)
	}
	s := &site{Node: n, t: t, cfg: cfg}
	s.again()
	return s
}

// again makes the driver anew, as after a start of the agent.
func (s *site) again() {
	s.t.Helper()
	d, err := postgres.New(s.cfg)
	drivertest.Check(s.t, err)
	s.t.Cleanup(func() { drivertest.Check(s.t, d.Stop(context.Background())) })
	s.driver = d
}

func (s *site) Driven() drivertest.ServerDriver { return s.driver }

func (s *site) connect(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, s.DSN()) }

func (s *site) exec(ctx context.Context, sql string, args ...any) {
	s.t.Helper()
	c, err := s.connect(ctx)
	drivertest.Check(s.t, err)
	defer c.Close(context.Background())
	_, err = c.Exec(ctx, sql, args...)
	drivertest.Check(s.t, err)
}

func value[T any](ctx context.Context, s *site, sql string, args ...any) T {
	s.t.Helper()
	c, err := s.connect(ctx)
	drivertest.Check(s.t, err)
	defer c.Close(context.Background())
	var v T
	drivertest.Check(s.t, c.QueryRow(ctx, sql, args...).Scan(&v))
	return v
}

func promotion(term signalbox.Term) driver.Promotion {
	return driver.Promotion{Service: "db", Term: term}
}
