package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// patience bounds every wait of these tests; nothing is expected to take so long.
const patience = time.Minute

var lab *pgtest.Lab

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "warden" { // started by a warden.Client
		os.Exit(mainOfWarden(os.Args[2:]))
	}
	var err error
	if lab, err = pgtest.Open(pgtest.Memory()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := lab.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
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
	t          *testing.T
	ctx        context.Context
	east, west *site
}

// newPair starts both. change may alter the configurations.
func newPair(t *testing.T, change func(*postgres.Config)) *pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	id := names.Add(1)
	eastName, westName := fmt.Sprintf("east-%d", id), fmt.Sprintf("west-%d", id)
	p := &pair{t: t, ctx: ctx}
	east, err := lab.Primary(eastName)
	check(t, err)
	t.Cleanup(east.Kill)
	p.east = newSite(t, east, change, westName)
	check(t, p.east.driver.Promote(ctx, driver.Promotion{Service: "db", Term: 1}))
	p.east.exec(ctx, "create table if not exists orders (id bigserial primary key, note text)")
	west, err := lab.Primary(westName) // the same template: a copy of the stopped primary
	check(t, err)
	t.Cleanup(west.Kill)
	t.Cleanup(func() { p.logs() })
	p.west = newSite(t, west, change, eastName)
	p.follow(p.west, p.east, 1)
	p.inStep(p.west, p.east)
	return p
}

// inStep waits until a standby has replayed all that its primary wrote: a standby is
// ready as soon as it streams and lags by less than max_lag.
func (p *pair) inStep(standby, primary *site) {
	p.t.Helper()
	written := value[string](p.ctx, primary, "select pg_current_wal_lsn()::text")
	replayed := ""
	await(p.t, p.ctx, func() bool {
		replayed = value[string](p.ctx, standby, "select pg_last_wal_replay_lsn()::text")
		return value[bool](p.ctx, standby, "select $1::pg_lsn <= $2::pg_lsn", written, replayed)
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
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, d.Stop(context.Background())) })
	s.driver = d
}

func (s *site) connect(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, s.DSN()) }

func (s *site) exec(ctx context.Context, sql string, args ...any) {
	s.t.Helper()
	c, err := s.connect(ctx)
	check(s.t, err)
	defer c.Close(context.Background())
	_, err = c.Exec(ctx, sql, args...)
	check(s.t, err)
}

func value[T any](ctx context.Context, s *site, sql string, args ...any) T {
	s.t.Helper()
	c, err := s.connect(ctx)
	check(s.t, err)
	defer c.Close(context.Background())
	var v T
	check(s.t, c.QueryRow(ctx, sql, args...).Scan(&v))
	return v
}

// follow has one follow the other and waits until it streams and is ready.
func (p *pair) follow(standby, master *site, term signalbox.Term) {
	p.t.Helper()
	check(p.t, standby.driver.Follow(p.ctx, driver.Follow{Service: "db", Term: term, Address: master.Address()}))
	p.ready(standby)
}

func (p *pair) ready(s *site) {
	p.t.Helper()
	var last driver.Readiness
	await(p.t, p.ctx, func() bool {
		r, err := s.driver.Ready(p.ctx)
		last = r
		return err == nil && r.Ready && len(r.Problems) == 0
	}, func() any { return last })
}

// stepDown steps the master down within a budget.
func (p *pair) stepDown(s *site, term signalbox.Term) driver.Position {
	p.t.Helper()
	position, err := s.driver.StepDown(p.ctx, driver.StepDown{Service: "db", Term: term, Deadline: time.Now().Add(patience)})
	check(p.t, err)
	return position
}

func (p *pair) promote(s *site, term signalbox.Term, position driver.Position) {
	p.t.Helper()
	check(p.t, s.driver.Promote(p.ctx, driver.Promotion{Service: "db", Term: term, Position: position}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await looks until met, and fails with what was seen last.
func await(t *testing.T, ctx context.Context, met func() bool, last func() any) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never happened; last: %+v", last())
		}
	}
}

func promotion(term signalbox.Term) driver.Promotion {
	return driver.Promotion{Service: "db", Term: term}
}

// logs shows what the servers said, when the test failed.
func (p *pair) logs() {
	for _, s := range []*site{p.east, p.west} {
		if raw, err := os.ReadFile(filepath.Join(s.State, "postgres.log")); err == nil && p.t.Failed() {
			p.t.Logf("log of %s:\n%s", s.Name, raw[max(0, len(raw)-4000):])
		}
	}
}
