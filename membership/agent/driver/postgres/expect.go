package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Expect implements driver.Reckoner: what the primary had when it was last seen
// and this standby has not received.
func (d *Driver) Expect(ctx context.Context) (*driver.ExpectedLoss, error) {
	if d.mem.Get().Role != roleStandby {
		return nil, nil
	}
	var text string
	err := d.watch.use(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text").Scan(&text)
	})
	if err != nil {
		return nil, err
	}
	reach, err := parseLSN(text)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := &driver.ExpectedLoss{Limit: d.cfg.MaxLoss}
	if e.Known = !d.seen.at.IsZero(); e.Known {
		e.Bytes, e.Age = reach.Behind(d.seen.lsn), time.Since(d.seen.at)
	}
	return e, nil
}

// Lost implements driver.Reckoner. A standby that was primary and came back
// without a rewind had nothing alone.
func (d *Driver) Lost() *driver.Loss {
	m := d.mem.Get()
	switch {
	case m.Role != roleStandby || m.Term == 0:
		return nil
	case m.Loss == nil || m.Loss.Term != m.Term:
		return &driver.Loss{Term: m.Term, Known: true}
	}
	return &driver.Loss{Term: m.Term, Known: true, Bytes: m.Loss.Bytes, Writes: uint64(m.Loss.Transactions), Kept: m.Loss.Kept}
}
