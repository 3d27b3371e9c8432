package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// promoteAgain is how long a promotion may show no effect before it is asked for
// again. PostgreSQL 15 can miss the request while it waits between two attempts
// to reach its old primary; then it notices after wal_retrieve_retry_interval,
// 5 s by default.
const promoteAgain = 25 * time.Millisecond

// settleTimeout bounds what is done after a promotion, beside the service.
const settleTimeout = 10 * time.Minute

// Promote implements driver.Driver. It refuses while the data has not reached
// the position of the certificate: what is missing was acknowledged to somebody.
func (d *Driver) Promote(ctx context.Context, order driver.Promotion) error {
	return d.turn.Run(ctx, "promote", func() error {
		began := time.Now()
		if err := d.promote(ctx, order); err != nil {
			return err
		}
		d.cfg.Log.Info().Str("event", "promoted").Uint64("term", uint64(order.Term)).Dur("took", time.Since(began)).Msg("the server is primary")
		go d.settle(order.Term)
		return nil
	})
}

func (d *Driver) promote(ctx context.Context, order driver.Promotion) error {
	if mem := d.mem.Get(); order.Term < mem.Term {
		return fmt.Errorf("term %d is below %d, which this server served", order.Term, mem.Term)
	}
	var want *Position
	if len(order.Position) > 0 {
		p, err := ParsePosition(order.Position)
		if err != nil {
			return err
		}
		want = &p
	}
	p, err := findPostmaster(d.cfg.Data)
	if err != nil {
		return err
	}
	if p == nil || p.pid == 0 {
		if p != nil {
			if err := p.gone(ctx); err != nil {
				return err
			}
		}
		if err := d.restart(ctx, order, want); err != nil {
			return err
		}
	} else {
		p.thaw()
	}
	return d.orders.use(ctx, func(c *pgx.Conn) error {
		var recovery bool
		if err := c.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovery); err != nil {
			return err
		}
		if !recovery { // it is primary already, and a higher term interrupts nothing
			return d.promoting(order.Term)
		}
		if err := d.caughtUp(ctx, c, want); err != nil {
			return err
		}
		// The term is on the disk before the server opens: after a crash in between
		// it is never opened for a lower one.
		if err := d.promoting(order.Term); err != nil {
			return err
		}
		return d.open(ctx, c)
	})
}

// restart starts a stopped server: as the primary that it was when its own log
// has the position, else as the standby that it was.
func (d *Driver) restart(ctx context.Context, order driver.Promotion, want *Position) error {
	mem := d.mem.Get()
	if mem.Rewinding {
		return errors.New("rewind-interrupted: this data directory is half rewound; it is finished when it follows, or made anew with pg_basebackup")
	}
	s, err := d.tools.inspect(ctx)
	if err != nil {
		return err
	}
	if !s.primary() {
		return d.startStandby(ctx, mem.Upstream)
	}
	if want != nil {
		if err := reached(*want, s.System, s.End, d.tools.history(s.Timeline)); err != nil {
			return err
		}
	}
	if err := d.promoting(order.Term); err != nil {
		return err
	}
	return d.startPrimary(ctx)
}

// promoting notes a promotion before it happens.
func (d *Driver) promoting(term signalbox.Term) error {
	mem := d.mem.Get()
	if mem.Role == rolePrimary && mem.Term == term {
		return nil
	}
	return d.mem.Change(func(m *memory) {
		if m.Role != rolePrimary {
			m.Role, m.Position = rolePromoting, ""
		}
		m.Term = term
	})
}

// reached says whether data has everything up to a position, or what it lacks.
func reached(want Position, system uint64, end LSN, h history) error {
	if want.System != system {
		return fmt.Errorf("system-differs: the old master's data is of database cluster %d, this server's of %d", want.System, system)
	}
	at, known := h.until(want.Timeline)
	switch {
	case !known:
		return fmt.Errorf("timeline-differs: the old master was on timeline %d, which timeline %d here never was on", want.Timeline, h.timeline)
	case at < want.LSN:
		return fmt.Errorf("timeline-differs: timeline %d here left the old master's %d at %s, before its end at %s", h.timeline, want.Timeline, at, want.LSN)
	case end < want.LSN:
		return fmt.Errorf("position-missing: replayed to %s, %s short of %s: something acknowledged is not here; bring the old master back so that it can be sent",
			end, signalbox.Size(end.Behind(want.LSN)), want.LSN)
	}
	return nil
}

// caughtUp waits until the standby has replayed what it has received, and refuses
// when that is not enough. Without a position the limit is max-loss.
func (d *Driver) caughtUp(ctx context.Context, c *pgx.Conn, want *Position) error {
	own, err := d.look(ctx, c)
	if err != nil {
		return err
	}
	if want == nil {
		return d.bearable(own)
	}
	h := history{timeline: own.Timeline}
	if own.Timeline != want.Timeline {
		h = d.tools.history(own.Timeline)
	}
	if err := reached(*want, own.System, max(own.LSN, own.Received), h); err != nil {
		return err
	}
	return managed.Until(ctx, fmt.Sprintf("wait for the replay to reach %s", want.LSN), func() (bool, error) {
		var text string
		if err := c.QueryRow(ctx, "select pg_last_wal_replay_lsn()::text").Scan(&text); err != nil {
			return false, err
		}
		lsn, err := parseLSN(text)
		return lsn >= want.LSN, err
	})
}

// bearable refuses a failover that may lose more than is allowed. Who was master
// last loses nothing.
func (d *Driver) bearable(own *server) error {
	if d.mem.Get().Role != roleStandby {
		return nil
	}
	d.mu.Lock()
	seen := d.seen
	d.mu.Unlock()
	reach := max(own.LSN, own.Received)
	lost := reach.Behind(seen.lsn)
	switch {
	case d.cfg.MaxLoss == nil:
	case seen.at.IsZero():
		return fmt.Errorf("max-loss: nobody knows how much is missing here: the old master was not seen since the agent's start; allow any loss to go on (max_loss)")
	case lost > *d.cfg.MaxLoss:
		return fmt.Errorf("max-loss: at least %s are missing here, by the last look at the old master %s ago; at most %s may be lost",
			signalbox.Size(lost), time.Since(seen.at).Round(time.Second/10), signalbox.Size(*d.cfg.MaxLoss))
	}
	line := d.cfg.Log.Warn().Str("event", "failover").Str("replayed", reach.String())
	if !seen.at.IsZero() {
		line = line.Uint64("loss_bytes", lost).Dur("loss_within", time.Since(seen.at))
	}
	line.Msg("promoting without the old master's word: what it acknowledged last may be missing here")
	return nil
}

// open promotes and waits until the server takes writes.
func (d *Driver) open(ctx context.Context, c *pgx.Conn) error {
	var asked time.Time
	err := managed.Until(ctx, "wait for the promotion", func() (bool, error) {
		var recovery bool
		if err := c.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovery); err != nil || !recovery {
			return err == nil, err
		}
		if time.Since(asked) < promoteAgain {
			return false, nil
		}
		asked = time.Now()
		_, err := c.Exec(ctx, "select pg_promote(false)")
		var over *pgconn.PgError
		if errors.As(err, &over) && over.Code == "55000" { // "recovery is not in progress": it was quick
			return true, nil
		}
		return false, err
	})
	if err == nil {
		return nil
	}
	for _, room := range d.disks() {
		if room.Free < 16<<20 { // a log segment
			return fmt.Errorf("disk-full: %s has %s free; make room, it is tried again: %w", room.Path, signalbox.Size(room.Free), err)
		}
	}
	return err
}

// settle does what a promotion leaves to do while clients are served already.
func (d *Driver) settle(term signalbox.Term) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if err := d.settled(ctx, term); err != nil {
		d.cfg.Log.Warn().Err(err).Str("event", "settle").Msg("not everything was done after the promotion")
	}
}

// settled notes the promotion, keeps the log that the others will need, and takes
// the first checkpoint of the new timeline: pg_rewind goes by it, and a crash is
// replayed sooner.
func (d *Driver) settled(ctx context.Context, term signalbox.Term) error {
	if err := d.turn.Take(ctx); err != nil {
		return err
	}
	mem := d.mem.Get()
	if mem.Term != term || mem.Role != rolePromoting {
		d.turn.Give()
		return nil // settled before, or overtaken by another order
	}
	d.followed("")
	err := errors.Join(
		d.forbidPrimary(),
		d.mem.Change(func(m *memory) { m.Role, m.Upstream = rolePrimary, "" }),
		d.orders.use(ctx, func(c *pgx.Conn) error { d.keepSlots(ctx, c); return nil }))
	d.stream.close(ctx)
	d.turn.Give()
	if err != nil {
		return err
	}
	return d.checkpoint(ctx, d.cfg.Connect)
}

// checkpoint has a server write one, over a session of its own.
func (d *Driver) checkpoint(ctx context.Context, dsn string) error {
	c, err := connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(ctx, "checkpoint"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// Prepare implements driver.Preparer: a checkpoint, so that a clean stop is
// short and so is the replay after a fast one. On a standby it connects, so that
// the promotion does not have to.
func (d *Driver) Prepare(ctx context.Context, order driver.Preparation) error {
	if err := d.turn.Take(ctx); err != nil {
		return err
	}
	defer d.turn.Give()
	return d.orders.use(ctx, func(c *pgx.Conn) error {
		if order.Promote {
			d.keepSlots(ctx, c)
			_, err := d.stream.timeline(ctx) // connects, which the promotion need not do then
			if err != nil {
				return err
			}
			_, err = d.look(ctx, c)
			return err
		}
		if _, err := c.Exec(ctx, "checkpoint"); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		own, err := d.look(ctx, c)
		if err != nil {
			return err
		}
		for _, t := range own.Long {
			d.cfg.Log.Warn().Str("event", "long_transaction").Int32("pid", t.PID).Dur("age", t.Age).Str("state", t.State).Str("query", t.Query).
				Msg("a transaction runs that may not end in time")
		}
		return nil
	})
}
