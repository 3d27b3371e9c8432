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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	httpdriver "github.com/signalbox-io/signalbox/membership/agent/driver/http"
	"github.com/signalbox-io/signalbox/rpc/ports"
)

// TestTicketsKeepsTheContract guards what the quick start shows: closed at the
// start, refusal by term, nothing in flight after step-down, terms that only
// grow, and a database that refuses an old master.
func TestTicketsKeepsTheContract(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := start(t, "east", filepath.Join(t.TempDir(), "tickets.db"))
	lease := func(s service, d time.Duration) error {
		return s.driver.Lease(ctx, driver.LeaseOrder{Service: "tickets", Term: 7, Deadline: time.Now().Add(d), Boot: driver.BootTime() + d})
	}
	// A lease as short as this machine can pass on, and when it is over.
	shortLease := func(s service) (over time.Time) {
		for d := time.Millisecond; ; d *= 10 {
			err := lease(s, d)
			if err == nil {
				return time.Now().Add(d)
			}
			if d > time.Second {
				t.Fatal(err)
			}
		}
	}
	if err := s.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7, Leased: true}); err == nil {
		t.Error("promoted without the lease that the term needs")
	}
	must(t, lease(s, time.Minute))
	must(t, s.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7, Leased: true}))
	s.want(t, "7", http.StatusOK, `"ticket": 1`)
	awaitPast(t, shortLease(s)) // takes nothing back
	s.want(t, "7", http.StatusOK, `"ticket": 2`)
	if err := s.driver.Lease(ctx, driver.LeaseOrder{Service: "tickets", Term: 6, Deadline: time.Now().Add(time.Minute), Boot: driver.BootTime() + time.Minute}); err == nil {
		t.Error("it took a lease of term 6")
	}

	frozen := start(t, "west", filepath.Join(t.TempDir(), "tickets.db"))
	shortLease(frozen)
	must(t, frozen.driver.Promote(ctx, driver.Promotion{Service: "tickets", Term: 7}))
	for d := time.Second; ; d *= 4 { // until it is frozen within its lease
		within := time.Now().Add(d)
		err := lease(frozen, d)
		over := time.Now().Add(d)
		frozen.freeze(t)
		if err == nil && time.Now().Before(within) {
			awaitPast(t, over)
			break
		}
		must(t, frozen.process.Signal(syscall.SIGCONT))
		if d > 10*time.Second {
			t.Fatalf("not frozen within its lease: %v", err)
		}
	}
	must(t, frozen.process.Signal(syscall.SIGCONT))
	frozen.want(t, "7", http.StatusServiceUnavailable, "not master")
	if status, err := frozen.driver.Status(ctx); err != nil || status.Master {
		t.Errorf("after its lease: %+v, %v", status, err)
	}
}

// freeze stops the process and returns when it is.
func (s service) freeze(t *testing.T) {
	t.Helper()
	must(t, s.process.Signal(syscall.SIGSTOP))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid))
		must(t, err)
		if strings.Contains(string(stat), ") T ") {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
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
	block, err := ports.Take()
	must(t, err)
	t.Cleanup(block.Close)
	first, err := block.Ports(2)
	must(t, err)
	port, orders := strconv.Itoa(first), strconv.Itoa(first+1)
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
	deadline := time.After(2 * time.Minute)
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
