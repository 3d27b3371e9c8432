package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// sqlEnd ends the sessions that have nothing to finish: idle ones, and those whose
// transaction began after the step-down did. $3 ends all of them. It counts what is left.
const sqlEnd = `select count(*)::int, count(case when $3 or state is null or state in ('idle', 'idle in transaction (aborted)', 'disabled') or xact_start > $2
	then pg_terminate_backend(pid) end)::int from pg_stat_activity
	where backend_type in ('client backend', 'logical replication worker') and pid <> all($1)`

// endSessions has transactions end and ends sessions until none is left, as the
// policy says.
func (s *stepdown) endSessions(ctx context.Context, c *pgx.Conn) error {
	var began time.Time
	if err := c.QueryRow(ctx, "select clock_timestamp()").Scan(&began); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	force := time.Time{}
	if s.d.cfg.Transactions == Cancel {
		force = s.began.Add(aloneAfter)
		if !s.order.Deadline.IsZero() {
			force = s.began.Add(s.order.Deadline.Sub(s.began) / 2)
		}
	}
	err := managed.Until(ctx, "end sessions", func() (bool, error) {
		if !s.order.Deadline.IsZero() && time.Now().After(s.order.Deadline) {
			return false, context.DeadlineExceeded
		}
		var left, ended int
		err := c.QueryRow(ctx, sqlEnd, s.d.mine(), began, !force.IsZero() && time.Now().After(force)).Scan(&left, &ended)
		return left == 0, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return s.describe(c, err)
	}
	return err
}

// describe names the transaction that did not end in time.
func (s *stepdown) describe(c *pgx.Conn, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	own, lookErr := look(ctx, c, s.d.mine(), 0)
	if lookErr != nil || len(own.Long) == 0 {
		return err
	}
	t := own.Long[0]
	return fmt.Errorf("long-transaction: process %d (%s, %s) did not end in time, %s old, %s: %s: %w",
		t.PID, t.User, t.Application, t.Age.Round(time.Second/10), t.State, t.Query, err)
}

// harmless are the server's own processes, which acknowledge nothing to anybody.
// A walsender is when it streams: another one takes statements.
const sqlHarmless = `select pid from pg_stat_activity a where pid = any($1) and (backend_type in ('checkpointer', 'background writer', 'walwriter', 'archiver',
	'startup', 'walreceiver', 'autovacuum launcher', 'autovacuum worker', 'logical replication launcher')
	or exists (select from pg_stat_replication r where r.pid = a.pid and r.state in ('streaming', 'catchup')))`

// logger is the title of the process that writes the log; it is in no view.
var logger = regexp.MustCompile(`^postgres: (\S+: )?logger ?$`)

// endOfLog ends what is left in a frozen server (a session that was just being
// accepted, a background worker) and says where its log ends. Nobody is there
// then who could be told that something was committed after it.
func (s *stepdown) endOfLog(ctx context.Context, c *pgx.Conn) (Position, error) {
	err := managed.Until(ctx, "end the last sessions", func() (bool, error) {
		rest, err := s.rest(ctx, c)
		for _, pid := range rest {
			_ = unix.Kill(pid, unix.SIGTERM) // it may be gone
		}
		return len(rest) == 0, err
	})
	if err != nil {
		return Position{}, err
	}
	p := Position{System: s.own.System, Timeline: s.own.Timeline, LSN: s.own.LSN}
	// A transaction of its own flushes what others committed asynchronously, and
	// marks the place in the log.
	mark := fmt.Sprintf("step down %s, term %d", s.order.Service, s.order.Term)
	if _, err := c.Exec(ctx, "select pg_logical_emit_message(true, 'signalbox', $1)", mark); err != nil {
		return Position{}, fmt.Errorf("mark the end of the log: %w", err)
	}
	p.LSN, err = flushed(ctx, c)
	return p, err
}

// rest are the processes of the frozen server that must not be there.
func (s *stepdown) rest(ctx context.Context, c *pgx.Conn) ([]int, error) {
	children, err := s.p.children()
	if err != nil {
		return nil, err
	}
	var pids []int32
	for _, ch := range children {
		pids = append(pids, int32(ch.pid))
	}
	rows, err := c.Query(ctx, sqlHarmless, pids)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	ours := append(known, s.d.mine()...)
	var rest []int
	for _, ch := range children {
		if !logger.MatchString(ch.title) && !slices.Contains(ours, int32(ch.pid)) {
			rest = append(rest, ch.pid)
		}
	}
	return rest, nil
}

// flushed is the end of what is on the primary's disk.
func flushed(ctx context.Context, c *pgx.Conn) (LSN, error) {
	var text string
	if err := c.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("read the end of the log: %w", err)
	}
	return parseLSN(text)
}
