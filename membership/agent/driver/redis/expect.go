package redis

import (
	"context"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Expect implements driver.Reckoner: what the master had when it was last seen
// and this replica has not.
func (d *Driver) Expect(ctx context.Context) (*driver.ExpectedLoss, error) {
	if d.mem.Get().Role != roleFollow {
		return nil, nil
	}
	s, err := d.own.look(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := &driver.ExpectedLoss{Limit: d.cfg.MaxLoss}
	if e.Known = !d.seen.at.IsZero() && d.seen.position.Replication == s.ReplID; e.Known {
		e.Bytes, e.Age = behind(s.Offset, d.seen.position.Offset), time.Since(d.seen.at)
	}
	return e, nil
}

// Lost implements driver.Reckoner. A replica that was master and had nothing
// alone has no loss of that term in its state.
func (d *Driver) Lost() *driver.Loss {
	m := d.mem.Get()
	switch {
	case m.Role != roleFollow || m.Term == 0:
		return nil
	case m.Loss == nil || m.Loss.Term != m.Term:
		return &driver.Loss{Term: m.Term, Known: true}
	}
	return &driver.Loss{Term: m.Term, Known: m.Loss.Bytes > 0, Bytes: m.Loss.Bytes, Kept: m.Loss.Kept}
}
