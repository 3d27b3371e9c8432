package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Follow implements driver.Follower. An old primary whose log has something that
// the new one's has not is rewound; the log of what is lost is kept beside, and
// how much it is stands in the driver's state.
func (d *Driver) Follow(ctx context.Context, order driver.Follow) error {
	return d.turn.Run(ctx, "follow "+order.Address, func() error { return d.follow(ctx, order) })
}

func (d *Driver) follow(ctx context.Context, order driver.Follow) error {
	p, err := findPostmaster(d.cfg.Data)
	if err != nil {
		return err
	}
	mem := d.mem.Get()
	running := p != nil && p.pid != 0
	if running {
		p.thaw()
		fine, err := d.follows(ctx, order.Address)
		if err != nil || fine {
			return err
		}
	}
	up, err := d.primary(ctx, order.Address)
	if err != nil {
		return err
	}
	if running {
		if err := p.stop(ctx); err != nil {
			return err
		}
	} else if p != nil {
		if err := p.gone(ctx); err != nil {
			return err
		}
	}
	if err := d.align(ctx, order.Address, up, mem.Rewinding); err != nil {
		return err
	}
	err = d.mem.Change(func(m *memory) {
		m.Role, m.Position, m.Upstream, m.Rewinding = roleStandby, "", order.Address, false
	})
	if err != nil {
		return err
	}
	d.followed(order.Address)
	if err := d.startStandby(ctx, order.Address); err != nil {
		return err
	}
	d.stream.close(ctx)
	return d.orders.use(ctx, func(c *pgx.Conn) error { return dropSlots(ctx, c) })
}

// follows reports whether the running server follows the address already; an
// error when it is primary, or follows it and cannot go on.
func (d *Driver) follows(ctx context.Context, address string) (bool, error) {
	var own *server
	err := d.orders.use(ctx, func(c *pgx.Conn) (err error) {
		own, err = d.look(ctx, c)
		return err
	})
	if err != nil {
		return false, err
	}
	if !own.InRecovery {
		return false, errOpen
	}
	if d.mem.Get().Upstream != address {
		return false, nil
	}
	if own.Receiver != nil && own.Receiver.Status == "streaming" {
		return true, nil
	}
	up, err := d.primary(ctx, address) // makes the slot again, should it be gone
	if err != nil {
		return false, err
	}
	return up.history.contains(own.Timeline, max(own.LSN, own.Received), max(own.LSN, own.Received)), nil
}

// primary looks at the primary to follow and makes this instance's slot there.
func (d *Driver) primary(ctx context.Context, address string) (*upstream, error) {
	conninfo, err := d.conninfo(address)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, conninfo+" dbname=postgres")
	if err != nil {
		p := accessProblem("the primary", err)
		return nil, fmt.Errorf("%s: %w; %s", p.Name, err, p.Do)
	}
	defer c.Close(context.Background())
	up := &upstream{address: address}
	if err := up.read(ctx, c); err != nil {
		return nil, err
	}
	if up.server.InRecovery {
		return nil, errors.New("upstream-not-primary: it is a standby itself; wait for its promotion")
	}
	return up, makeSlot(ctx, c, slotName(d.cfg.Name))
}

// align brings the stopped server's log in line with the primary's.
func (d *Driver) align(ctx context.Context, address string, up *upstream, again bool) error {
	own, err := d.tools.inspect(ctx)
	if err != nil {
		return err
	}
	plan := planRejoin(own, d.tools.history(own.Timeline), up.server.System, up.history)
	if plan.problem != nil {
		return fmt.Errorf("%s: %s; %s", plan.problem.Name, plan.problem.What, plan.problem.Do)
	}
	if !plan.rewind && !again {
		return d.forget(up.history)
	}
	began := time.Now()
	loss := Loss{Term: d.mem.Get().served(), Timeline: own.Timeline, From: plan.fork.String(), To: own.End.String(), Bytes: plan.lost}
	if plan.rewind {
		loss.Transactions = d.tools.commits(ctx, own.Timeline, plan.fork)
		if loss.Kept, err = d.keepLog(own, plan.fork); err != nil {
			return fmt.Errorf("keep the log of what is lost: %w", err)
		}
	}
	err = d.mem.Change(func(m *memory) {
		m.Rewinding = true
		if plan.rewind {
			m.Loss = &loss
		}
	})
	if err != nil {
		return err
	}
	if plan.trim {
		err = d.clearPID()
	} else {
		err = d.rewind(ctx, address)
	}
	if err != nil {
		return fmt.Errorf("rewind-failed: %w; if it goes on failing, move the data directory away and make the standby anew with pg_basebackup", err)
	}
	if err := d.forget(up.history); err != nil {
		return err
	}
	d.cfg.Log.Warn().Str("event", "rewound").Uint64("loss_bytes", loss.Bytes).Int("loss_transactions", loss.Transactions).Str("from", loss.From).Str("to", loss.To).
		Str("kept", loss.Kept).Dur("took", time.Since(began)).Msg("the old primary is rewound: what it had alone is kept beside and not in the service any more")
	return nil
}

// rewind makes the data directory that of the primary up to where they parted.
func (d *Driver) rewind(ctx context.Context, address string) error {
	conninfo, err := d.conninfo(address)
	if err != nil {
		return err
	}
	// pg_rewind goes by the primary's last checkpoint, which must be of its new timeline.
	if err := d.checkpoint(ctx, conninfo+" dbname=postgres"); err != nil {
		return err
	}
	if err := d.clearPID(); err != nil {
		return err
	}
	// It may have to recover the server in single-user mode, where there are no standbys.
	if err := d.allowPrimary(); err != nil {
		return err
	}
	out, err := d.tools.run(ctx, "pg_rewind", "-D", d.cfg.Data, "--source-server", conninfo+" dbname=postgres")
	d.cfg.Log.Info().Str("event", "pg_rewind").Msg(strings.ReplaceAll(strings.TrimSpace(out), "\n", " | "))
	return errors.Join(err, d.forbidPrimary())
}

// forget removes what is left of timelines that the primary's did not come from.
// A standby looks for the newest timeline and would wait for a dead one for ever;
// pg_rewind leaves them.
func (d *Driver) forget(primary history) error {
	names, err := os.ReadDir(d.tools.wal())
	if err != nil {
		return fmt.Errorf("forget dead timelines: %w", err)
	}
	for _, f := range names {
		timeline, ok := timelineOf(f.Name())
		if _, known := primary.until(timeline); !ok || known {
			continue
		}
		if err := os.Remove(filepath.Join(d.tools.wal(), f.Name())); err != nil {
			return fmt.Errorf("forget timeline %d: %w", timeline, err)
		}
	}
	return nil
}

// keepLog copies the segments that hold what is lost into the driver's state.
func (d *Driver) keepLog(own standing, from LSN) (string, error) {
	dir := filepath.Join(d.cfg.State, "lost", fmt.Sprintf("%08X-%016X", own.Timeline, uint64(from)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	size := own.sizes.segment
	for n := uint64(from) / size; n <= uint64(own.End)/size; n++ {
		perID := uint64(1<<32) / size
		name := fmt.Sprintf("%08X%08X%08X", own.Timeline, n/perID, n%perID)
		if err := copyFile(filepath.Join(d.tools.wal(), name), filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
			return "", err
		}
	}
	return dir, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
