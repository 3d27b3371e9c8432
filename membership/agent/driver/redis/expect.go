package redis

import (
	"context"
	"fmt"
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

// strangeAdvice is what to do about a replica without a whole copy.
const strangeAdvice = "bring the old master back; to go on with the data that the replica has, restart its agent, which forgets what it saw"

// unseen reports whether the master was not seen since the agent's start.
func (d *Driver) unseen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen.at.IsZero()
}

// strange says why a replica must not take the place of a master that cannot be
// reached: its data is not of that master's replication as it was last seen. It
// never had a whole copy, or was receiving a new one, and all that the master
// acknowledged may be missing. nil where that is not so, or nobody has seen the
// master.
func (d *Driver) strange(s *server) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen.at.IsZero() || d.seen.position.Replication == s.ReplID {
		return nil
	}
	return fmt.Errorf("history-differs: the replica has no whole copy of its master's data: it is of replication %.8s, and the master, when it was last seen, of %.8s",
		s.ReplID, d.seen.position.Replication)
}
