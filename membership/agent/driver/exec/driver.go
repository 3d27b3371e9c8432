package execdriver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

const (
	// again is the wait before a step-down that is not done is asked for again.
	again = 50 * time.Millisecond
	// maxLag bounds the lag that a command may claim.
	maxLag = 365 * 24 * time.Hour
)

// Driver drives one instance by commands. Safe for concurrent use as package
// driver says.
type Driver struct {
	opt    Options
	warden *warden.Client // of Run, nil without one

	mem     *managed.Memory[record]
	lease   managed.Lease
	started managed.Pace // of starting Run as a standby
}

// Managed is a Driver that runs the service itself and can end it with its lease.
type Managed struct{ *Driver }

var (
	_ driver.Driver   = (*Driver)(nil)
	_ driver.Preparer = (*Driver)(nil)
	_ driver.Follower = (*Driver)(nil)
	_ driver.Leaser   = Managed{}
)

// New returns the driver of an instance: a Managed when there is something to
// run, else a *Driver. It starts nothing.
func New(o Options) (driver.Driver, error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("exec driver of %s: %w", o.Instance, err)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("exec driver of %s: %w", o.Instance, err)
	}
	mem, err := managed.OpenMemory[record](filepath.Join(o.Dir, recordName))
	if err != nil {
		return nil, fmt.Errorf("exec driver of %s: %w", o.Instance, err)
	}
	d := &Driver{opt: o, mem: mem}
	if len(o.Run) == 0 {
		return d, nil
	}
	if d.warden, err = warden.New(o.Dir, o.Warden); err != nil {
		return nil, fmt.Errorf("exec driver of %s: %w", o.Instance, err)
	}
	return Managed{d}, nil
}

// Ready implements driver.Driver.
func (d *Driver) Ready(ctx context.Context) (driver.Readiness, error) {
	if len(d.opt.Ready) == 0 {
		return driver.Readiness{Ready: true}, nil
	}
	r, err := d.call(ctx, "ready", d.opt.Ready)
	if err != nil {
		return driver.Readiness{}, err
	}
	if r.code != 0 && r.code != exitNotReady {
		return driver.Readiness{}, r.fault("ready")
	}
	out := driver.Readiness{Ready: r.code == 0}
	if lag, err := strconv.ParseFloat(r.first("lag-seconds"), 64); err == nil {
		out.Lag = time.Duration(max(0, min(lag, maxLag.Seconds())) * float64(time.Second))
	}
	out.LagBytes, _ = strconv.ParseUint(r.first("lag-bytes"), 10, 64) // what is no number says nothing
	for _, text := range r.facts["problem"] {
		parts := append(strings.SplitN(text, "|", 3), "", "")
		if len(out.Problems) < driver.MaxProblems {
			out.Problems = append(out.Problems, driver.Problem{Name: parts[0], What: parts[1], Do: parts[2]})
		}
	}
	if !out.Ready {
		out.Problem = r.last
		if out.Problem == "" && len(out.Problems) > 0 {
			out.Problem = out.Problems[0].What
		}
	}
	return out, nil
}

// Status implements driver.Driver.
func (d *Driver) Status(ctx context.Context) (driver.Status, error) {
	s, err := d.look(ctx)
	if err != nil {
		return driver.Status{}, err
	}
	rec := d.mem.Get()
	if s.Master { // also when nobody ordered it: the agent closes it then
		s.Term = rec.Newest
	}
	return s, nil
}

// look asks whether the service serves.
func (d *Driver) look(ctx context.Context) (driver.Status, error) {
	var s driver.Status
	if d.warden != nil {
		state, err := d.runs(ctx)
		if err != nil || !state.Running || state.Stopping {
			return s, err
		}
		s.Master = true
		if d.always() { // else a start is a promotion, and nothing that the agent has to notice
			s.Run = state.Run
		}
	}
	if len(d.opt.Status) == 0 {
		return s, nil
	}
	r, err := d.call(ctx, "status", d.opt.Status)
	if err != nil {
		return driver.Status{}, err
	}
	if r.code != 0 && r.code != exitNotServing {
		return driver.Status{}, r.fault("status")
	}
	s.Master = r.code == 0
	s.InFlight, _ = strconv.ParseUint(r.first("in-flight"), 10, 64) // what is no number says nothing
	s.Leaving = r.first("leaving") == "true"
	if run := r.first("run"); run != "" {
		s.Run += run[:min(len(run), maxProblem)]
	}
	return s, nil
}

// StepDown implements driver.Driver.
func (d *Driver) StepDown(ctx context.Context, o driver.StepDown) (driver.Position, error) {
	rec := d.mem.Get()
	if rec.Open && o.Term < rec.Newest {
		return nil, fmt.Errorf("step down from term %d: %w: it was promoted to term %d", o.Term, signalbox.ErrConflict, rec.Newest)
	}
	now, err := d.look(ctx)
	if err != nil && !rec.Open {
		return nil, err
	}
	if err == nil && !now.Master && !rec.Open {
		return position(rec.Position), nil
	}
	said, err := d.close(ctx, o)
	if err != nil {
		return nil, err
	}
	if now, err = d.look(ctx); err != nil {
		return nil, err
	}
	if now.Master {
		return nil, errors.New("step-down: it said that it is done, and the status says that the service serves")
	}
	rec.Open, rec.Position = false, said
	if len(said) > signalbox.MaxPosition {
		return nil, fmt.Errorf("step-down: %w: its position has %d bytes, at most %d", signalbox.ErrInvalid, len(said), signalbox.MaxPosition)
	}
	if err := d.write(rec); err != nil {
		return nil, err
	}
	return position(said), nil
}

func position(text string) driver.Position {
	if text == "" {
		return nil
	}
	return driver.Position(text)
}

// close has the service closed, and returns the position that it says.
func (d *Driver) close(ctx context.Context, o driver.StepDown) (said string, err error) {
	command, action := d.opt.StepDown, "step-down"
	if len(command) == 0 {
		command, action = d.opt.Stop, "stop"
	}
	if d.warden != nil {
		state, err := d.warden.State(ctx)
		if err != nil {
			return "", err
		}
		if !state.Running {
			command = nil // it has crashed: nobody is there to be told
		}
	}
	for len(command) > 0 {
		r, err := d.call(ctx, action, command, termVar(o.Term), deadlineVar(o.Deadline), incomingVar(o.Incoming))
		if err != nil {
			return "", err
		}
		said = r.first("position")
		if r.code == 0 {
			break
		}
		if r.code != exitNotYet {
			return "", r.fault(action)
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		}
	}
	if d.warden == nil {
		return said, nil
	}
	return said, d.stopRun(ctx)
}

// Promote implements driver.Driver.
func (d *Driver) Promote(ctx context.Context, o driver.Promotion) error {
	before := d.mem.Get()
	if o.Term < before.Newest || o.Term == 0 {
		return fmt.Errorf("promote to term %d: %w: it has served term %d", o.Term, signalbox.ErrRefused, before.Newest)
	}
	if err := d.write(record{Newest: o.Term, Open: true}); err != nil {
		return err
	}
	err := d.open(ctx, o)
	if err == nil {
		err = d.confirm(ctx)
	}
	switch {
	case err == nil:
		return nil
	case before.Open: // it serves as before
		return errors.Join(err, d.write(before))
	}
	return errors.Join(err, d.shut(ctx, before))
}

// confirm has the status say that the service serves. What was just started gets
// the time that ctx leaves.
func (d *Driver) confirm(ctx context.Context) error {
	for {
		now, err := d.look(ctx)
		if err == nil && now.Master {
			return nil
		}
		if err == nil {
			err = errors.New("promote: it said that it is done, and the status says that the service does not serve")
		}
		if d.warden == nil || ctx.Err() != nil {
			return err
		}
		state, lost := d.warden.State(ctx)
		if lost == nil && !state.Running {
			return fmt.Errorf("promote: what was started has ended: %s %s; see %s", state.Exit, state.Killed, filepath.Join(d.opt.Dir, outputName))
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// open has the service serve.
func (d *Driver) open(ctx context.Context, o driver.Promotion) error {
	if d.warden != nil {
		if err := d.startRun(ctx, o.Term); err != nil {
			return err
		}
	}
	if len(d.opt.Promote) == 0 {
		return nil
	}
	r, err := d.call(ctx, "promote", d.opt.Promote, termVar(o.Term), "SIGNALBOX_POSITION="+string(o.Position))
	if err == nil && r.code != 0 {
		err = r.fault("promote")
	}
	return err
}

// shut closes what a failed promotion may have opened. The newest term stays: a
// promotion that failed was one.
func (d *Driver) shut(ctx context.Context, before record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.opt.Timeout)
	defer cancel()
	now := record{Newest: d.mem.Get().Newest, Position: before.Position}
	switch {
	case d.warden != nil && len(d.opt.Promote) == 0:
		if err := d.stopRun(ctx); err != nil {
			return err
		}
	case len(d.opt.Stop) > 0:
		r, err := d.call(ctx, "stop", d.opt.Stop, termVar(now.Newest))
		if err == nil && r.code != 0 {
			err = r.fault("stop")
		}
		if err != nil {
			return err
		}
	}
	if s, err := d.look(ctx); err != nil || s.Master {
		return err // it stays recorded as open: the next step-down closes it
	}
	return d.write(now)
}

// Prepare implements driver.Preparer.
func (d *Driver) Prepare(ctx context.Context, o driver.Preparation) error {
	role := "SIGNALBOX_ROLE=step-down"
	if o.Promote {
		role = "SIGNALBOX_ROLE=promote"
	}
	return d.optional(ctx, "prepare", d.opt.Prepare, termVar(o.Term), role)
}

// Follow implements driver.Follower. From here on it is a standby: it has no
// position of its own any more.
func (d *Driver) Follow(ctx context.Context, o driver.Follow) error {
	rec := d.mem.Get()
	if rec.Open {
		return fmt.Errorf("follow %s: %w: it serves term %d", o.Address, signalbox.ErrConflict, rec.Newest)
	}
	rec.Position = ""
	if err := d.write(rec); err != nil {
		return err
	}
	return d.optional(ctx, "follow", d.opt.Follow, termVar(o.Term), "SIGNALBOX_MASTER="+string(o.Master), "SIGNALBOX_MASTER_ADDRESS="+o.Address)
}

func (d *Driver) optional(ctx context.Context, action string, c Command, env ...string) error {
	if len(c) == 0 {
		return nil
	}
	r, err := d.call(ctx, action, c, env...)
	if err == nil && r.code != 0 {
		err = r.fault(action)
	}
	return err
}

// Stop implements driver.Driver: there is nothing to release. What runs goes on.
func (d *Driver) Stop(context.Context) error { return nil }
