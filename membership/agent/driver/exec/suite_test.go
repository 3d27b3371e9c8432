package execdriver_test

import (
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	execdriver "github.com/signalbox-io/signalbox/membership/agent/driver/exec"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// self is the test's own program, which a warden finds when this file is gone.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, o execdriver.Options) driver.Driver {
	t.Helper()
	d, err := execdriver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// orders are the commands that tell a service over HTTP.
func orders(t *testing.T, base string) execdriver.Options {
	t.Helper()
	c := execdriver.Command{self(t), "order", base + "/signalbox"}
	return execdriver.Options{
		Service: "subject", Instance: "subject-1", Address: "127.0.0.1:1", Dir: t.TempDir(),
		Status: c, Ready: c, StepDown: c, Promote: c, Prepare: c, Follow: c,
	}
}

// kill ends what runs under a warden as a crash does.
func kill(t *testing.T, dir string) {
	t.Helper()
	w, err := warden.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	state, err := w.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Wait(t.Context(), state.Run); err != nil {
		t.Fatal(err)
	}
}

// TestCommands runs the suite of all drivers with commands alone: somebody else
// runs the service.
func TestCommands(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		s := newService()
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		o := orders(t, server.URL)
		return drivertest.Subject{
			Driver: open(t, o), Reopen: func(t *testing.T) driver.Driver { return open(t, o) },
			Serves:    func() bool { return served(server.URL) },
			Positions: true, Beyond: driver.Position("beyond"), Master: "127.0.0.1:2",
			Incoming: func() []driver.Peer { return s.comes }, // told by a command that has ended
			Spoil: func(*testing.T) string {
				s.spoiled.Store(true)
				return "cache-cold"
			},
			Busy: func(*testing.T) func() {
				done := make(chan bool)
				go func() { done <- served(server.URL + "/slow") }()
				<-s.entered
				return func() { close(s.hold); <-done }
			},
		}
	})
}

// TestStandby runs the suite with a service that the driver runs, as a standby
// that commands promote.
func TestStandby(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		address := freeAddress(t)
		o := orders(t, "http://"+address)
		o.Run, o.KillTime = execdriver.Command{self(t), "gated", address}, time.Second
		drivertest.Warden(t, o.Dir, syscall.SIGKILL)
		d := open(t, o)
		started(t, d)
		return drivertest.Subject{
			Driver: d, Reopen: func(t *testing.T) driver.Driver { return open(t, o) },
			Serves:    func() bool { return served("http://" + address) },
			Positions: true, Beyond: driver.Position("beyond"), Master: "127.0.0.1:2",
			Restart: func(t *testing.T) { kill(t, o.Dir); started(t, d) },
		}
	})
}

// started waits until what always runs answers.
func started(t *testing.T, d driver.Driver) {
	t.Helper()
	eventually(t, "the service to start", func() bool {
		if _, err := d.Status(t.Context()); err != nil {
			return false
		}
		ready, err := d.Ready(t.Context())
		return err == nil && ready.Ready
	})
}

// TestRun runs the suite with a service that knows nothing of Signalbox: it is
// master exactly while it runs.
func TestRun(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		address := freeAddress(t)
		o := execdriver.Options{
			Service: "subject", Instance: "subject-1", Dir: t.TempDir(), Run: execdriver.Command{self(t), "plain", address},
			Status: execdriver.Command{self(t), "probe", address}, KillTime: time.Second,
		}
		drivertest.Warden(t, o.Dir, syscall.SIGKILL)
		d := open(t, o)
		return drivertest.Subject{
			Driver: d, Reopen: func(t *testing.T) driver.Driver { return open(t, o) },
			Serves:  func() bool { return served("http://" + address) },
			Restart: func(t *testing.T) { kill(t, o.Dir) },
		}
	})
}
