package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// upstreamTimeout bounds the look at the primary, so that its silence leaves
// time for the look at the own server.
const upstreamTimeout = 500 * time.Millisecond

// Ready implements driver.Driver. The lag of a standby whose primary cannot be
// reached is what a failover to it would lose at least, by the last look at the
// primary, and how long ago that was.
func (d *Driver) Ready(ctx context.Context) (driver.Readiness, error) {
	p, err := findPostmaster(d.cfg.Data)
	if err != nil {
		return driver.Readiness{}, err
	}
	if p == nil || p.pid == 0 {
		return managed.Readiness(managed.Found(true, "server-down", "look at the driver's log and the server's; it is started when it is promoted or follows", "the server does not run")), nil
	}
	up := d.lookUp(ctx)
	var own *server
	err = d.watch.use(ctx, func(c *pgx.Conn) (err error) {
		own, err = d.look(ctx, c)
		return err
	})
	if ctx.Err() != nil {
		return driver.Readiness{}, err
	}
	if err != nil {
		return managed.Readiness(managed.Finding{Problem: accessProblem("this server", err), Blocks: true}), nil
	}
	if !own.InRecovery {
		up = nil
	}
	r := managed.Readiness(judge(own, up, d.disks(), d.limits())...)
	if own.InRecovery {
		r.LagBytes, r.Lag = d.lag(own, up)
		d.keepReady(ctx, own, up)
	}
	return r, nil
}

func (d *Driver) limits() limits {
	l := limits{maxLag: d.cfg.MaxLag, minFree: d.cfg.MinFree, slot: slotName(d.cfg.Name), long: d.cfg.LongTransaction, policy: d.cfg.Transactions}
	l.standbys, l.rewindOK = d.cfg.Standbys, len(d.cfg.Standbys) > 0
	return l
}

// lag is how far a standby is behind.
func (d *Driver) lag(own *server, up *upstream) (uint64, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen.at.IsZero() {
		return 0, own.ReplayAge
	}
	behind := own.LSN.Behind(d.seen.lsn)
	switch {
	case up != nil && up.err != nil:
		return behind, time.Since(d.seen.at)
	case behind == 0:
		return 0, 0
	}
	return behind, own.ReplayAge
}

// lookUp looks at the primary that is followed; nil when nobody is.
func (d *Driver) lookUp(ctx context.Context) *upstream {
	d.mu.Lock()
	s, address := d.up, d.mem.Get().Upstream
	d.mu.Unlock()
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	up := &upstream{address: address}
	up.err = s.use(ctx, func(c *pgx.Conn) error { return up.read(ctx, c) })
	if up.err != nil {
		up.server = nil
		return up
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.up == s && !up.server.InRecovery {
		d.seen = sight{lsn: up.server.LSN, at: time.Now()}
	}
	return up
}

// read looks at a primary.
func (u *upstream) read(ctx context.Context, c *pgx.Conn) (err error) {
	if u.server, err = look(ctx, c, nil, time.Hour); err != nil {
		return err
	}
	u.history = history{timeline: u.server.Timeline}
	if u.server.Timeline == 1 {
		return nil
	}
	var content string
	name := fmt.Sprintf("pg_wal/%08X.history", u.server.Timeline)
	if err := c.QueryRow(ctx, "select pg_read_file($1)", name).Scan(&content); err != nil {
		return fmt.Errorf("read history of timeline %d: %w", u.server.Timeline, err)
	}
	u.history, err = parseHistory(u.server.Timeline, content)
	return err
}

// look looks at the own server.
func (d *Driver) look(ctx context.Context, c *pgx.Conn) (*server, error) {
	own, err := look(ctx, c, d.mine(), d.cfg.LongTransaction)
	if err != nil || !own.InRecovery || own.Receiver != nil {
		return own, err
	}
	own.Timeline, err = d.stream.timeline(ctx)
	return own, err
}

// mine are the server's processes of the driver's own sessions.
func (d *Driver) mine() []int32 {
	return []int32{int32(d.orders.pid.Load()), int32(d.watch.pid.Load())}
}

// disks are where the server writes.
func (d *Driver) disks() []managed.Disk { return managed.Disks(d.cfg.Data, d.tools.wal()) }
