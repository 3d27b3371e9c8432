package drivertest

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Main runs the tests of a driver of servers, with what open returns open
// meanwhile. The test's program is its servers' warden too: see warden.New.
func Main(m *testing.M, open func() (io.Closer, error)) {
	if len(os.Args) == 3 && os.Args[1] == "warden" { // started by a warden.Client
		if err := warden.Run(os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab, err := open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := lab.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Warden is the client of a directory's warden, which ends with the test, and
// what runs under it by a signal.
func Warden(t *testing.T, dir string, end syscall.Signal) *warden.Client {
	t.Helper()
	w, err := warden.New(dir, nil)
	Check(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := w.Stop(ctx, end, time.Minute, "the test is over")
		Check(t, err)
		Check(t, w.Quit(ctx))
	})
	return w
}

// Check fails the test at an error.
func Check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Refused checks that an error names a problem.
func Refused(t *testing.T, err error, name string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), name) {
		t.Fatalf("%v: want the problem %q", err, name)
	}
}

// ShowLog shows the end of a server's log when the test has failed.
func ShowLog(t *testing.T, server, path string) {
	if raw, err := os.ReadFile(path); err == nil && t.Failed() {
		t.Logf("log of %s:\n%s", server, raw[max(0, len(raw)-4000):])
	}
}

// A Server is one that a driver drives.
type Server interface {
	Driven() ServerDriver
	Address() string
}

// ServerDriver is what drivers of servers are.
type ServerDriver interface {
	driver.Driver
	driver.Preparer
	driver.Follower
}

// Orders gives the drivers of servers orders that must succeed.
type Orders struct {
	T       *testing.T
	Ctx     context.Context // bounds every wait
	Service signalbox.Service
}

// NewOrders returns orders whose every wait ends with the test, or after patience.
func NewOrders(t *testing.T, patience time.Duration) Orders {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return Orders{T: t, Ctx: ctx, Service: "db"}
}

// Await looks until met, and fails with what was seen last.
func (o Orders) Await(met func() bool, last func() any) {
	o.T.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-o.Ctx.Done():
			o.T.Fatalf("never happened; last: %+v", last())
		}
	}
}

// Planned is the order to step down of a handover that can be given up, with as
// much time as the test has.
func (o Orders) Planned(term signalbox.Term) driver.StepDown {
	deadline, _ := o.Ctx.Deadline()
	return driver.StepDown{Service: o.Service, Term: term, Deadline: deadline}
}

// StepDown steps a master down as planned. Drivers give a standby that is just
// connecting, or is a little behind, a moment only: on a busy machine they are
// asked again when they have interrupted nothing.
func (o Orders) StepDown(s Server, term signalbox.Term) driver.Position {
	o.T.Helper()
	return o.StepDownBy(s, o.Planned(term))
}

// StepDownBy is StepDown by an order.
func (o Orders) StepDownBy(s Server, order driver.StepDown) driver.Position {
	o.T.Helper()
	var position driver.Position
	var err error
	o.Await(func() bool {
		position, err = s.Driven().StepDown(o.Ctx, order)
		return err == nil || !strings.Contains(err.Error(), "nothing was interrupted")
	}, func() any { return err })
	Check(o.T, err)
	return position
}

// Promote promotes a server; without a position nobody said one.
func (o Orders) Promote(s Server, term signalbox.Term, position driver.Position) {
	o.T.Helper()
	Check(o.T, s.Driven().Promote(o.Ctx, driver.Promotion{Service: o.Service, Term: term, Position: position}))
}

// Follow has one server follow another and waits until it is ready.
func (o Orders) Follow(standby, master Server, term signalbox.Term) {
	o.T.Helper()
	Check(o.T, standby.Driven().Follow(o.Ctx, driver.Follow{Service: o.Service, Term: term, Address: master.Address()}))
	o.Ready(standby)
}

// Ready waits until a server is ready and has no problem.
func (o Orders) Ready(s Server) {
	o.T.Helper()
	var last driver.Readiness
	o.Await(func() bool {
		r, err := s.Driven().Ready(o.Ctx)
		last = r
		return err == nil && r.Ready && len(r.Problems) == 0
	}, func() any { return last })
}

// Problem awaits a problem of a server by its name, and that it says what to do.
func (o Orders) Problem(s Server, name string) driver.Problem {
	o.T.Helper()
	var got driver.Problem
	var last string
	o.Await(func() bool {
		r, err := s.Driven().Ready(o.Ctx)
		last = fmt.Sprintf("%s: %+v, %v", name, r, err)
		for _, one := range r.Problems {
			if err == nil && one.Name == name {
				got = one
				return true
			}
		}
		return false
	}, func() any { return last })
	if got.What == "" || got.Do == "" {
		o.T.Fatalf("problem %q does not say what or what to do: %+v", name, got)
	}
	return got
}
