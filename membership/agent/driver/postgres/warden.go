package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Warded launches servers under a warden, which ends them when their lease does,
// whether the agent lives then or not.
type Warded struct{ Client *warden.Client }

// Launch implements Launcher.
func (w Warded) Launch(ctx context.Context, l Launch) (<-chan struct{}, error) {
	spec := warden.Spec{
		Command: append([]string{l.Path}, l.Args...), Env: l.Env, Output: l.Log,
		Term: l.Lease.Term, Deadline: l.Lease.Boot, DeadMan: l.Lease.Boot != 0, As: warden.As(l.As),
	}
	// What an earlier run left behind is being killed by the warden at this moment.
	if _, err := w.Client.Wait(ctx, ""); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	state, err := w.Client.Start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = w.Client.Wait(context.Background(), state.Run) // how it ended stands in its log
	}()
	return ended, nil
}

// Arm implements armer.
func (w Warded) Arm(ctx context.Context, term signalbox.Term, boot time.Duration) error {
	return w.Client.Arm(ctx, term, boot)
}

// armer is a Launcher with a dead-man.
type armer interface {
	Arm(ctx context.Context, term signalbox.Term, boot time.Duration) error
}

// ErrNoDeadMan is returned when a lease is to be kept by a server that nobody
// would end in time: one that was not started under a warden.
var ErrNoDeadMan = errors.New("the server was not started under a warden: restart it once by stepping it down, or use no leases")

// Lease implements driver.Leaser.
func (d *Driver) Lease(ctx context.Context, order driver.LeaseOrder) error {
	a, ok := d.cfg.Launch.(armer)
	if !ok {
		return ErrNoDeadMan
	}
	d.lease.Offer(order)
	err := a.Arm(ctx, order.Term, order.Boot)
	if !errors.Is(err, warden.ErrNotRunning) {
		return err
	}
	if p, err := findPostmaster(d.cfg.Data); err == nil && p != nil && p.pid != 0 {
		return ErrNoDeadMan
	}
	return nil // it is armed from its start
}
