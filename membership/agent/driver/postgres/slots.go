package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// slotsEvery is how often a standby moves the slots on that it keeps for the others.
const slotsEvery = 10 * time.Second

// keepSlots makes a slot for each other instance, so that the log which it will
// need is not thrown away before it follows. Without it that instance may have to
// be copied anew; the promotion does not wait for that.
func (d *Driver) keepSlots(ctx context.Context, c *pgx.Conn) {
	for _, name := range d.cfg.Standbys {
		if err := makeSlot(ctx, c, slotName(name)); err != nil {
			d.cfg.Log.Warn().Err(err).Str("event", "slot").Str("standby", name).Msg("no replication slot for a standby")
		}
	}
}

// keepReady has a standby keep, now and then, the log that the others will need
// if it is promoted, and no more of it: each slot is moved on to where the same
// one is on the primary, and not beyond what is replayed here. A failover leaves
// no time to make them.
func (d *Driver) keepReady(ctx context.Context, own *server, up *upstream) {
	if up == nil || up.err != nil || len(d.cfg.Standbys) == 0 || !d.slots.Due(slotsEvery) {
		return
	}
	err := d.watch.use(ctx, func(c *pgx.Conn) error {
		d.keepSlots(ctx, c)
		for _, name := range d.cfg.Standbys {
			to := own.LSN
			if i := slices.IndexFunc(up.server.Slots, func(s slot) bool { return s.Name == slotName(name) && s.Restart != 0 }); i >= 0 {
				to = min(to, up.server.Slots[i].Restart)
			}
			_, err := c.Exec(ctx, `select pg_replication_slot_advance(slot_name, $2::text::pg_lsn) from pg_replication_slots
				where slot_name = $1 and not active and restart_lsn < $2::text::pg_lsn`, slotName(name), to.String())
			if err != nil {
				return fmt.Errorf("move slot of %s on: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		d.cfg.Log.Warn().Err(err).Str("event", "slot").Msg("a slot keeps more log than it has to")
	}
}

func makeSlot(ctx context.Context, c *pgx.Conn, name string) error {
	_, err := c.Exec(ctx, `select pg_create_physical_replication_slot($1, true) where not exists (select from pg_replication_slots where slot_name = $1)`, name)
	if err != nil {
		return fmt.Errorf("make slot %s: %w", name, err)
	}
	return nil
}

// dropSlots drops the slots that this server kept as a primary: nobody reads them
// now, and they would hold its log for ever. A standby makes its own anew.
func dropSlots(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots
		where not active and slot_type = 'physical' and left(slot_name, `+strconv.Itoa(len(slotPrefix))+`) = $1`, slotPrefix)
	if err != nil {
		return fmt.Errorf("drop old slots: %w", err)
	}
	return nil
}
