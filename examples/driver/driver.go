// Package filedriver is the smallest whole driver, to begin one from: it drives
// a service that is master while a file says so. See docs/writing-a-driver.md.
//
// The service looks at the file "master" in its directory before each piece of
// work, which holds the term, and keeps a file in "busy" while it works.
//
// It guarantees what package driver asks for, and passes drivertest. It does not
// guarantee that the service looks.
package filedriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Driver drives the service of one directory.
type Driver struct{ dir string }

var _ driver.Driver = (*Driver)(nil)

// New returns the driver of a directory. It changes nothing there: the service
// goes on as it is.
func New(dir string) (*Driver, error) {
	if err := os.MkdirAll(filepath.Join(dir, "busy"), 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	return &Driver{dir: dir}, nil
}

// Status says what the service is doing, and changes nothing.
func (d *Driver) Status(context.Context) (driver.Status, error) {
	term, err := d.term("master")
	if err != nil {
		return driver.Status{}, err // nobody knows
	}
	busy, err := os.ReadDir(filepath.Join(d.dir, "busy"))
	return driver.Status{Master: term != 0, Term: term, InFlight: uint64(len(busy))}, err
}

// Ready says whether it could be promoted. A problem has a stable name, and says
// what to do.
func (d *Driver) Ready(context.Context) (driver.Readiness, error) {
	if _, err := os.Stat(filepath.Join(d.dir, "broken")); err == nil {
		return driver.Readiness{
			Problem:  "it is broken",
			Problems: []driver.Problem{{Name: "broken", What: "the file broken is there", Do: "repair the service and remove the file"}},
		}, nil
	}
	return driver.Readiness{Ready: true}, nil
}

// Promote opens: first what must not be forgotten is made durable, then the
// service sees it. Doing it again changes nothing.
func (d *Driver) Promote(_ context.Context, o driver.Promotion) error {
	newest, err := d.term("newest")
	if err != nil {
		return err
	}
	if o.Term < newest || o.Term == 0 {
		return fmt.Errorf("promote to term %d: %w: term %d was served", o.Term, signalbox.ErrRefused, newest)
	}
	if err := d.write("newest", o.Term); err != nil {
		return err
	}
	return d.write("master", o.Term)
}

// StepDown closes, and returns when nothing is in flight any more. After the end
// of ctx the service stays closed: the agent repeats the order, or promotes.
func (d *Driver) StepDown(ctx context.Context, o driver.StepDown) (driver.Position, error) {
	now, err := d.term("master")
	if err != nil {
		return nil, err
	}
	if o.Term < now {
		return nil, fmt.Errorf("step down from term %d: %w: it was promoted to term %d", o.Term, signalbox.ErrConflict, now)
	}
	if err := os.Remove(filepath.Join(d.dir, "master")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("close: %w", err)
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		s, err := d.Status(ctx)
		if err != nil || s.InFlight == 0 {
			return nil, err // a service with data returns its position here
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Stop has nothing to release. It does not stop the service.
func (d *Driver) Stop(context.Context) error { return nil }

// term reads a file that holds a term; 0 when there is none.
func (d *Driver) term(name string) (signalbox.Term, error) {
	raw, err := os.ReadFile(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read term: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read term: %w", err)
	}
	return signalbox.Term(n), nil
}

// write replaces a file that holds a term, durably.
func (d *Driver) write(name string, t signalbox.Term) error {
	path := filepath.Join(d.dir, name)
	file, err := os.Create(path + ".new")
	if err != nil {
		return fmt.Errorf("write term: %w", err)
	}
	_, err = fmt.Fprintln(file, uint64(t))
	if err := errors.Join(err, file.Sync(), file.Close(), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("write term: %w", err)
	}
	return nil
}
