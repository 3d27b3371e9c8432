package execdriver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// restartEvery is how often a standby that has ended is started again at most.
const restartEvery = 2 * time.Second

// outputName is the file of what Run writes.
const outputName = "output.log"

// always reports whether Run runs as a standby too.
func (d *Driver) always() bool { return len(d.opt.Promote) > 0 }

// runs says how Run is. What always runs is started here, as a standby: nothing
// starts as master.
func (d *Driver) runs(ctx context.Context) (warden.State, error) {
	state, err := d.warden.State(ctx)
	if err != nil || state.Running || !d.always() {
		return state, err
	}
	if !d.started.Due(restartEvery) {
		return state, nil
	}
	return d.launch(ctx, driver.LeaseOrder{})
}

// launch starts Run, armed when there is a lease.
func (d *Driver) launch(ctx context.Context, lease driver.LeaseOrder) (warden.State, error) {
	state, err := d.warden.Start(ctx, warden.Spec{
		Command: d.opt.Run, Dir: d.opt.WorkDir, Env: append(append(os.Environ(), d.opt.Env...), d.environment("run", []string{termVar(lease.Term)})...),
		As: d.opt.As, Output: filepath.Join(d.opt.Dir, outputName), KillTime: d.opt.KillTime,
		DeadMan: lease.Boot != 0, Term: lease.Term, Deadline: lease.Boot,
	})
	if errors.Is(err, warden.ErrRunning) {
		return d.warden.State(ctx)
	}
	return state, err
}

// startRun has Run run for a term: armed from the start where the term has a
// lease, without a deadline where it has none.
func (d *Driver) startRun(ctx context.Context, term signalbox.Term) error {
	lease := d.lease.Of(term)
	state, err := d.warden.State(ctx)
	if err != nil {
		return err
	}
	if state.Stopping { // a step-down that was given up: it ends all the same
		if state, err = d.warden.Wait(ctx, state.Run); err != nil {
			return err
		}
	}
	if !state.Running {
		lease.Term = term
		_, err = d.launch(ctx, lease)
		return err
	}
	if lease.Boot == 0 {
		return d.warden.Disarm(ctx)
	}
	return d.warden.Arm(ctx, term, lease.Boot)
}

// stopRun stops what runs as master only; what always runs goes on as a standby,
// which needs no lease.
func (d *Driver) stopRun(ctx context.Context) error {
	if d.always() {
		return d.warden.Disarm(ctx)
	}
	_, err := d.warden.Stop(ctx, syscall.SIGTERM, d.opt.StopTimeout, "it did not end in time after SIGTERM")
	return err
}

// Lease implements driver.Leaser: the warden kills what runs when the lease has
// run out. One that is given before the promotion to its term binds from its
// first moment on.
func (m Managed) Lease(ctx context.Context, o driver.LeaseOrder) error {
	d := m.Driver
	d.lease.Offer(o)
	rec := d.mem.Get()
	if !rec.Open || rec.Newest != o.Term {
		return nil
	}
	err := d.warden.Arm(ctx, o.Term, o.Boot)
	if errors.Is(err, warden.ErrNotRunning) {
		return nil // it is armed when it is started
	}
	return err
}
