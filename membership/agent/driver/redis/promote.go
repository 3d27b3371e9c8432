package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// arriveWithin is how long a promotion waits for what is still on its way.
const arriveWithin = time.Second

// Promote implements driver.Driver. It refuses while the data has not reached
// the position of the certificate: what is missing was acknowledged to somebody.
func (d *Driver) Promote(ctx context.Context, order driver.Promotion) error {
	return d.turn.Run(ctx, "promote", func() error {
		began := time.Now()
		if err := d.promote(ctx, order); err != nil {
			return err
		}
		d.cfg.Log.Info().Str("event", "promoted").Uint64("term", uint64(order.Term)).Dur("took", time.Since(began)).Msg("the server is master")
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
	s, err := d.running(ctx)
	if err != nil {
		return err
	}
	if s, err = d.loaded(ctx, s); err != nil {
		return err
	}
	if s.Cluster {
		return errors.New("cluster-mode: the server is part of a Redis Cluster, which moves masters itself")
	}
	if err := d.mayOpen(ctx, s, want); err != nil {
		return err
	}
	if err := d.closeFile(); err != nil {
		return err
	}
	mem := d.mem.Get()
	if mem.Role != roleMaster || mem.Term != order.Term || mem.Run != s.Run {
		// On the disk before the server opens: after a crash in between it is never
		// opened for a lower term.
		err := d.mem.Change(func(m *memory) {
			m.Role, m.Term, m.Run, m.Position, m.Boot, m.Upstream = roleMaster, order.Term, s.Run, "", "", ""
		})
		if err != nil {
			return err
		}
	}
	if err := d.bind(ctx, order.Term); err != nil {
		return err
	}
	if !s.Master {
		if err := d.own.order(ctx, "REPLICAOF", "NO", "ONE"); err != nil {
			return err
		}
	}
	return d.own.order(ctx, "CLIENT", "UNPAUSE")
}

// mayOpen returns nil when the server's data is what the service's was.
func (d *Driver) mayOpen(ctx context.Context, s *server, want *Position) error {
	mem := d.mem.Get()
	switch {
	case mem.Role == roleMaster && mem.Run != s.Run:
		return d.survived(s, "it was master when it ended")
	case mem.Role == roleClosed && want != nil && string(want.Bytes()) == mem.Position:
		if s.reached(*want) == nil {
			return nil
		}
		// Started again since: its append-only file has what it had acknowledged,
		// but for the last second where the whole machine was.
		if mem.Boot != bootID() {
			return errors.New("crashed: the machine was started again since the step-down; nobody can tell whether its disk has the last second: promote the replica")
		}
		return d.survived(s, "it has ended since the step-down")
	case mem.Role == roleFollow && want == nil && !s.Master:
		if s.Syncing {
			return errors.New("syncing: the replica is receiving its master's data and has no whole copy yet")
		}
		return d.mayLose(s)
	case want == nil:
		return nil
	}
	return d.arrived(ctx, s, *want)
}

// survived returns nil when a server that was started again has what it had.
func (d *Driver) survived(s *server, what string) error {
	if s.AOF {
		return nil
	}
	return fmt.Errorf("crashed-without-aof: %s, and without appendonly its disk has an old snapshot at best: promote the replica (signalbox failover), or set appendonly yes before", what)
}

// arrived waits for what is still on its way, a moment.
func (d *Driver) arrived(ctx context.Context, s *server, want Position) error {
	ctx, cancel := context.WithTimeout(ctx, arriveWithin)
	defer cancel()
	err := s.reached(want)
	_ = managed.Until(ctx, "wait for what is on its way", func() (bool, error) { // what is missing says more than how the waiting ended
		var late *behindError
		if !errors.As(err, &late) || s.Master {
			return true, nil
		}
		again, lookErr := d.own.look(ctx)
		if lookErr == nil {
			s, err = again, again.reached(want)
		}
		return false, lookErr
	})
	return err
}

// mayLose returns nil when a failover to this server loses no more than allowed.
func (d *Driver) mayLose(s *server) error {
	if err := d.strange(s); err != nil {
		return fmt.Errorf("%w; %s", err, strangeAdvice)
	}
	if d.cfg.MaxLoss != nil && d.unseen() {
		return errors.New("max-loss: nobody knows how much is missing here: the old master was not seen since the agent's start; allow any loss to go on (max_loss)")
	}
	lag, _ := d.lag(s, nil)
	if d.cfg.MaxLoss != nil && lag > *d.cfg.MaxLoss {
		return fmt.Errorf("max-loss: %s of what the master had when it was last seen are not here, more than %s", signalbox.Size(lag), signalbox.Size(*d.cfg.MaxLoss))
	}
	return nil
}

// Prepare implements driver.Preparer: connections are made, and the file is
// looked at, before anything is interrupted.
func (d *Driver) Prepare(ctx context.Context, order driver.Preparation) error {
	s, err := d.own.look(ctx)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if !order.Promote {
		for _, r := range s.Replicas {
			if l, err := d.peer(r.Address); err == nil {
				_, _ = l.look(ctx) // what is wrong with it is named by Ready and StepDown
			}
		}
	}
	return d.closeFile()
}
