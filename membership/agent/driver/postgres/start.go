package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// launchTimeout bounds the wait for a started server's first sign of life.
const launchTimeout = 10 * time.Second

// signalFile makes a server start as a standby. It lies there at all times but
// while a primary is started on purpose: whoever starts the server otherwise, a
// person or the distribution's unit, gets a standby.
func (d *Driver) signalFile() string { return filepath.Join(d.cfg.Data, "standby.signal") }

func (d *Driver) forbidPrimary() error {
	path := d.signalFile()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := managed.ReplaceFile(path, nil, 0o600, d.cfg.As); err != nil {
		return fmt.Errorf("have the server start as a standby: %w", err)
	}
	return nil
}

func (d *Driver) allowPrimary() error {
	if err := os.Remove(d.signalFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("have the server start as a primary: %w", err)
	}
	return managed.Sync(d.cfg.Data)
}

// startStandby starts the stopped server as a standby of the primary at address;
// of nobody when that is "".
func (d *Driver) startStandby(ctx context.Context, address string) error {
	if err := d.forbidPrimary(); err != nil {
		return err
	}
	settings := []string{"primary_conninfo=", "primary_slot_name="}
	if address != "" {
		conninfo, err := d.conninfo(address)
		if err != nil {
			return err
		}
		name := slotName(d.cfg.Name)
		settings = []string{"primary_conninfo=" + conninfo + " application_name=" + name, "primary_slot_name=" + name}
	}
	return d.start(ctx, settings, driver.LeaseOrder{}) // it serves nobody and needs no lease
}

// startPrimary starts the stopped server as the primary that it was.
func (d *Driver) startPrimary(ctx context.Context) error {
	if err := d.allowPrimary(); err != nil {
		return err
	}
	err := d.start(ctx, nil, d.lease.Newest())
	return errors.Join(err, d.forbidPrimary())
}

// start starts the server and waits until it accepts sessions.
func (d *Driver) start(ctx context.Context, settings []string, lease driver.LeaseOrder) error {
	if err := d.clearPID(); err != nil {
		return err
	}
	args := []string{"-D", d.cfg.Data}
	settings = append(settings, "restart_after_crash=off", "hot_standby=on", "recovery_target_timeline=latest", "wal_retrieve_retry_interval=200ms")
	for _, s := range append(append([]string(nil), d.cfg.Options...), settings...) {
		args = append(args, "-c", s)
	}
	cmd := d.tools.command(ctx, "postgres", args...)
	log := filepath.Join(d.cfg.State, "postgres.log")
	began := time.Now()
	ended, err := d.cfg.Launch.Launch(ctx, Launch{Path: cmd.Path, Args: args, Env: cmd.Env, As: d.cfg.As, Log: log, Lease: lease})
	if err != nil {
		return err
	}
	var last error
	err = managed.Until(ctx, "start server", func() (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("start server: it ended at once: %s", tail(log))
		default:
		}
		p, err := findPostmaster(d.cfg.Data)
		if err != nil || p == nil || p.pid == 0 {
			if time.Since(began) > launchTimeout {
				return false, fmt.Errorf("start server: no sign of it after %s: %s", launchTimeout, tail(log))
			}
			return false, nil // postmaster.pid may be half written
		}
		last = d.orders.use(ctx, func(c *pgx.Conn) error { return c.Ping(ctx) })
		if last == nil || starting(last) || time.Since(began) < launchTimeout {
			return last == nil, nil
		}
		return false, fmt.Errorf("start server: %s", accessProblem("it runs, but", last).What)
	})
	if err == nil {
		d.cfg.Log.Info().Str("event", "server_started").Dur("took", time.Since(began)).Msg("the server accepts sessions")
	} else if last != nil && !starting(last) {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return err
}

// clearPID removes the postmaster.pid of a server that is gone for certain: after
// a while its process id may be another program's.
func (d *Driver) clearPID() error {
	p, err := findPostmaster(d.cfg.Data)
	if err != nil || p == nil {
		return err
	}
	if p.pid != 0 || p.attached() {
		return fmt.Errorf("start server: process %d of an earlier one still lives", p.pid)
	}
	if err := os.Remove(filepath.Join(d.cfg.Data, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start server: %w", err)
	}
	return nil
}

// maxComplaint bounds what is quoted of a server's log, in bytes.
const maxComplaint = 800

// tail is what a server complained about at the end of its log, on one line.
func tail(path string) string { return complaint(managed.Tail(path, maxOutput)) }

// complaint picks what matters from a log: what ended the server, and the hints
// to it. Sessions that were refused meanwhile do not.
func complaint(log string) string {
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(log), "\n") {
		for _, level := range []string{"FATAL:", "PANIC:", "DETAIL:", "HINT:", "postgres: "} {
			_, text, found := strings.Cut(line, level)
			if found && !strings.Contains(text, "the database system is") {
				out = append(out, strings.TrimSpace(text))
				break
			}
		}
	}
	text := strings.Join(out[max(0, len(out)-3):], "; ")
	return text[max(0, len(text)-maxComplaint):]
}
