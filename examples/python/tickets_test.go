// Package python tests the example service in Python against the driver that agents use.
package python

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	httpdriver "github.com/signalbox-io/signalbox/membership/agent/driver/http"
)

// TestTicketsKeepsTheContract guards what the quick start shows: closed at the
// start, refusal by term, nothing in flight after step-down, terms that only
// grow, and a database that refuses an old master.
func TestTicketsKeepsTheContract(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	database := filepath.Join(t.TempDir(), "tickets.db")
	east, west := start(t, "east", database), start(t, "west", database)

	east.want(t, "7", http.StatusServiceUnavailable, "not master")
	must(t, east.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7}))
	east.want(t, "7", http.StatusOK, `"ticket": 1`)
	east.want(t, "8", http.StatusServiceUnavailable, "not master")
	if ready, err := west.driver.Ready(ctx); err != nil || !ready.Ready {
		t.Errorf("ready: %+v, %v", ready, err)
	}

	_, err := east.driver.StepDown(ctx, driver.StepDown{Service: "tickets", Term: 7, Deadline: time.Now().Add(5 * time.Second)})
	must(t, err)
	if s, err := east.driver.Status(ctx); err != nil || s.Master || s.InFlight != 0 || s.Term != 7 || s.Run == "" {
		t.Errorf("status after step-down: %+v, %v", s, err)
	}
	east.want(t, "7", http.StatusServiceUnavailable, "not master")
	must(t, west.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 8}))
	west.want(t, "7", http.StatusOK, `"ticket": 2`)
	if err := west.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 6}); err == nil {
		t.Error("it went back to term 6")
	}

	must(t, east.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7})) // an old master that woke up
	east.want(t, "7", http.StatusServiceUnavailable, "knows a newer master than term 7")
}

// TestTicketsKeepsToItsLease guards the dead-man: with nobody to tell it, the
// service is no longer master when its lease has run out, also after it was frozen.
func TestTicketsKeepsToItsLease(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := start(t, "east", filepath.Join(t.TempDir(), "tickets.db"))
	lease := func(d time.Duration) error {
		return s.driver.Lease(ctx, driver.LeaseOrder{Service: "tickets", Term: 7, Deadline: time.Now().Add(d), Boot: driver.BootTime() + d})
	}
	if err := s.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7, Leased: true}); err == nil {
		t.Error("promoted without the lease that the term needs")
	}
	must(t, lease(30*time.Second))
	must(t, s.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7, Leased: true}))
	s.want(t, "7", http.StatusOK, `"ticket": 1`)
	must(t, lease(time.Millisecond)) // takes nothing back
	s.want(t, "7", http.StatusOK, `"ticket": 2`)
	if err := s.driver.Lease(ctx, driver.LeaseOrder{Service: "tickets", Term: 6, Deadline: time.Now().Add(time.Minute), Boot: driver.BootTime() + time.Minute}); err == nil {
		t.Error("it took a lease of term 6")
	}

	frozen := start(t, "west", filepath.Join(t.TempDir(), "tickets.db"))
	order := driver.LeaseOrder{Service: "tickets", Term: 7, Deadline: time.Now().Add(time.Second), Boot: driver.BootTime() + time.Second}
	must(t, frozen.driver.Lease(ctx, order))
	must(t, frozen.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7}))
	must(t, frozen.process.Signal(syscall.SIGSTOP))
	awaitPast(t, order.Deadline)
	must(t, frozen.process.Signal(syscall.SIGCONT))
	frozen.want(t, "7", http.StatusServiceUnavailable, "not master")
	if status, err := frozen.driver.Status(ctx); err != nil || status.Master {
		t.Errorf("after its lease: %+v, %v", status, err)
	}
}

// awaitPast waits until the clock has passed a moment.
func awaitPast(t *testing.T, moment time.Time) {
	t.Helper()
	timer := time.NewTimer(time.Until(moment) + time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

type service struct {
	url     string
	driver  *httpdriver.Driver
	process *os.Process
}

func start(t *testing.T, name, database string) service {
	t.Helper()
	port, orders := freePort(t), freePort(t)
	cmd := exec.Command("python3", "tickets.py", name, port, orders, database)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	d, err := httpdriver.New("http://127.0.0.1:" + orders + "/signalbox")
	must(t, err)
	s := service{"http://127.0.0.1:" + port + "/", d, cmd.Process}
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := d.Status(t.Context())
		c, dialErr := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if dialErr == nil {
			_ = c.Close()
		}
		if err == nil && dialErr == nil {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s does not start: %v, %v", name, err, dialErr)
		}
	}
}

// want takes a ticket over a route of the term.
func (s service) want(t *testing.T, term string, status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, http.NoBody)
	must(t, err)
	req.Header.Set("X-Signalbox-Term", term)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	have, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != status || !strings.Contains(string(have), body) {
		t.Errorf("ticket for term %s: %d %s, want %d %s", term, resp.StatusCode, have, status, body)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
