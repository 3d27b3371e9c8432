package redis

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

const (
	// startTimeout bounds the wait for a started server's first answer. How long
	// it loads its data afterwards is not bounded.
	startTimeout = 10 * time.Second
	// reviveEvery is how often a server that has ended is started again at most.
	reviveEvery = 2 * time.Second
	// logName is the file of what the server writes to its standard output.
	logName = "redis.log"
	// maxComplaint bounds what is quoted of it, in bytes.
	maxComplaint = 400
)

// running looks at the server, and starts it first where it does not run.
func (d *Driver) running(ctx context.Context) (*server, error) {
	s, err := d.own.look(ctx)
	if !errors.Is(err, errDown) {
		return s, err
	}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return d.own.look(ctx)
}

// start starts the server, as a replica, and waits until it answers.
func (d *Driver) start(ctx context.Context) error {
	if err := d.closeFile(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	started, err := d.launch(ctx)
	if err != nil {
		return err
	}
	err = managed.Until(ctx, "start server", func() (bool, error) {
		_, err := d.own.look(ctx)
		if !errors.Is(err, errDown) {
			return true, err
		}
		state, err := d.cfg.Warden.State(ctx)
		if err != nil || state.Running {
			return false, err
		}
		if !started { // that was one which has ended by now
			started, err = d.launch(ctx)
			return false, err
		}
		return false, fmt.Errorf("start server: it ended (%s): %s", state.Exit, tail(filepath.Join(d.cfg.State, logName)))
	})
	if err == nil {
		d.cfg.Log.Info().Str("event", "server_started").Dur("took", time.Since(began)).Msg("the server runs, as a replica")
	}
	return err
}

// launch has the warden start it; false when one ends or starts just now.
func (d *Driver) launch(ctx context.Context) (bool, error) {
	_, err := d.cfg.Warden.Start(ctx, warden.Spec{
		// The command line wins over the file; the server stays in the foreground, and no client can write to a replica.
		Command: []string{d.cfg.Server, d.cfg.File, "--daemonize", "no", "--supervised", "no", "--replica-read-only", "yes"},
		Env:     []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}, As: d.cfg.As, Output: filepath.Join(d.cfg.State, logName),
		DeadMan: d.mem.Get().Leases,
	})
	if errors.Is(err, warden.ErrRunning) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("start server: %w", err)
	}
	return true, nil
}

// revive starts a server that has ended, unless an order is being carried out.
func (d *Driver) revive(ctx context.Context) {
	if !d.turn.Try() {
		return
	}
	defer d.turn.Give()
	if !d.revived.Due(reviveEvery) {
		return
	}
	err := d.closeFile()
	if err == nil {
		_, err = d.launch(ctx)
	}
	if err != nil {
		d.cfg.Log.Warn().Err(err).Str("event", "server_start").Msg("the server has ended and cannot be started")
	}
}

// loaded waits until the server has its data.
func (d *Driver) loaded(ctx context.Context, s *server) (*server, error) {
	if !s.Loading {
		return s, nil
	}
	err := managed.Until(ctx, "wait until the data is loaded", func() (done bool, err error) {
		s, err = d.own.look(ctx)
		return err == nil && !s.Loading, err
	})
	return s, err
}

// tail is what a server complained about at the end of its log, on one line.
func tail(path string) string {
	lines := strings.Split(strings.TrimSpace(managed.Tail(path, 4096)), "\n")
	text := strings.Join(lines[max(0, len(lines)-4):], "; ")
	return text[max(0, len(text)-maxComplaint):]
}

// ErrNoDeadMan is returned when a lease is to be kept by a server that nobody
// would end in time: one that was not started under a warden.
var ErrNoDeadMan = errors.New("the server was not started by its agent: shut it down once while it is a replica (the agent starts it again), or use no leases")

// Lease implements driver.Leaser. It binds the server from its promotion to the
// term until it is stepped down; a replica needs none.
func (d *Driver) Lease(ctx context.Context, order driver.LeaseOrder) error {
	d.lease.Offer(order)
	mem := d.mem.Get()
	if !mem.Leases {
		if err := d.noteLeases(ctx); err != nil {
			return err
		}
	}
	if mem.Role != roleMaster || mem.Term != order.Term {
		return nil // armed when it is promoted
	}
	return d.arm(ctx, order)
}

// noteLeases has the server end with its warden from its next start on.
func (d *Driver) noteLeases(ctx context.Context) error {
	if err := d.turn.Take(ctx); err != nil {
		return err
	}
	defer d.turn.Give()
	return d.mem.Change(func(m *memory) { m.Leases = true })
}

func (d *Driver) arm(ctx context.Context, order driver.LeaseOrder) error {
	err := d.cfg.Warden.Arm(ctx, order.Term, order.Boot)
	if !errors.Is(err, warden.ErrNotRunning) {
		return err
	}
	if _, err := d.own.look(ctx); !errors.Is(err, errDown) {
		return ErrNoDeadMan
	}
	return nil // it is armed when it is promoted again
}

// bind arms the warden with the term's lease, or disarms it where there is none.
func (d *Driver) bind(ctx context.Context, term signalbox.Term) error {
	if lease := d.lease.Of(term); lease.Boot != 0 {
		return d.arm(ctx, lease)
	}
	return d.unbind(ctx)
}

func (d *Driver) unbind(ctx context.Context) error {
	if err := d.cfg.Warden.Disarm(ctx); err != nil && !errors.Is(err, warden.ErrNotRunning) {
		return err
	}
	return nil
}
