package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox"
)

// The statements that a look consists of; they go out together, one round trip.
// Log positions are text: their binary form is not worth a type of its own.
const (
	sqlSelf = `select (select system_identifier from pg_control_system())::text, current_setting('server_version_num')::int, pg_is_in_recovery(),
	case when pg_is_in_recovery() then coalesce((select received_tli from pg_stat_wal_receiver),
		nullif((select min_recovery_end_timeline from pg_control_recovery()), 0), (select timeline_id from pg_control_checkpoint()))
		else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
	case when pg_is_in_recovery() then coalesce(pg_last_wal_replay_lsn(), '0/0') else pg_current_wal_flush_lsn() end::text,
	coalesce(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() end, '0/0')::text,
	coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8,
	case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() <> 'not paused' else false end,
	(select rolsuper from pg_roles where rolname = current_user),
	(select count(*) from pg_prepared_xacts)::int,
	coalesce((select last_failed_wal from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')), '')`

	sqlSettings = `select name, setting from pg_settings where name = any($1)`

	sqlReceiver = `select status, coalesce(slot_name, '') from pg_stat_wal_receiver`

	sqlSenders = `select application_name, coalesce(state, ''), coalesce(sync_state, ''), coalesce(flush_lsn, '0/0')::text, coalesce(replay_lsn, '0/0')::text,
	exists (select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')
	from pg_stat_replication r order by pid limit 20`

	sqlSlots = `select slot_name, slot_type = 'logical', active, coalesce(wal_status, ''), coalesce(restart_lsn, '0/0')::text,
	coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn), 0)::float8
	from pg_replication_slots order by slot_name limit 20`

	sqlLong = `select pid, coalesce(usename, ''), coalesce(application_name, ''), extract(epoch from clock_timestamp() - xact_start)::float8, coalesce(state, ''), left(query, 120)
	from pg_stat_activity where xact_start is not null and backend_type in ('client backend', 'parallel worker') and pid <> all($1)
	and clock_timestamp() - xact_start >= make_interval(secs => $2) order by xact_start limit 20`
)

// look reads a server's state. mine are the driver's own sessions, long the age
// from which a transaction is listed.
func look(ctx context.Context, conn *pgx.Conn, mine []int32, long time.Duration) (*server, error) {
	s := &server{Settings: map[string]string{}}
	batch := &pgx.Batch{}
	batch.Queue(sqlSelf).QueryRow(s.scanSelf)
	batch.Queue(sqlSettings, settingNames).Query(func(rows pgx.Rows) error {
		var name, value string
		_, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { s.Settings[name] = value; return nil })
		return err
	})
	batch.Queue(sqlReceiver).Query(func(rows pgx.Rows) error {
		var r receiver
		_, err := pgx.ForEachRow(rows, []any{&r.Status, &r.Slot}, func() error { s.Receiver = &receiver{r.Status, r.Slot}; return nil })
		return err
	})
	batch.Queue(sqlSenders).Query(func(rows pgx.Rows) (err error) { s.Senders, err = scanSenders(rows); return err })
	batch.Queue(sqlSlots).Query(func(rows pgx.Rows) error {
		var one slot
		var held float64
		var restart string
		_, err := pgx.ForEachRow(rows, []any{&one.Name, &one.Logical, &one.Active, &one.Status, &restart, &held}, func() (err error) {
			one.Held = uint64(max(0, held))
			one.Restart, err = parseLSN(restart)
			s.Slots = append(s.Slots, one)
			return err
		})
		return err
	})
	batch.Queue(sqlLong, mine, long.Seconds()).Query(func(rows pgx.Rows) error {
		var t transaction
		var age float64
		_, err := pgx.ForEachRow(rows, []any{&t.PID, &t.User, &t.Application, &age, &t.State, &t.Query}, func() error {
			t.Age = time.Duration(age * float64(time.Second))
			s.Long = append(s.Long, t)
			return nil
		})
		return err
	})
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("look at server: %w", err)
	}
	return s, nil
}

func (s *server) scanSelf(row pgx.Row) error {
	var system, lsn, received string
	var timeline int64
	var age float64
	err := row.Scan(&system, &s.Version, &s.InRecovery, &timeline, &lsn, &received, &age, &s.Paused, &s.Superuser, &s.Prepared, &s.ArchiveFailing)
	if err != nil {
		return err
	}
	s.Timeline, s.ReplayAge = uint32(timeline), time.Duration(max(0, age)*float64(time.Second))
	if s.System, err = strconv.ParseUint(system, 10, 64); err != nil {
		return fmt.Errorf("%w: system identifier %q", signalbox.ErrInvalid, system)
	}
	if s.LSN, err = parseLSN(lsn); err != nil {
		return err
	}
	s.Received, err = parseLSN(received)
	return err
}

func scanSenders(rows pgx.Rows) ([]sender, error) {
	var out []sender
	var w sender
	var flush, replay string
	_, err := pgx.ForEachRow(rows, []any{&w.Name, &w.State, &w.Sync, &flush, &replay, &w.Logical}, func() (err error) {
		if w.Flush, err = parseLSN(flush); err != nil {
			return err
		}
		w.Replay, err = parseLSN(replay)
		out = append(out, w)
		return err
	})
	return out, err
}

// senders reads the standbys only: what a step-down waits for.
func senders(ctx context.Context, conn *pgx.Conn) ([]sender, error) {
	rows, err := conn.Query(ctx, sqlSenders)
	if err != nil {
		return nil, fmt.Errorf("list standbys: %w", err)
	}
	out, err := scanSenders(rows)
	if err != nil {
		return nil, fmt.Errorf("list standbys: %w", err)
	}
	return out, nil
}
