package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	"github.com/signalbox-io/signalbox/tests/lab"
)

const (
	frozenChild = "SIGNALBOX_TEST_FROZEN_CHILD" // its lease
	// frozenLease has to be long enough to be stopped in: where a busy machine was not, it is taken again, four times as
	// long, up to frozenWait.
	frozenLease = 4 * time.Second
	frozenWait  = 2 * time.Minute
)

func TestMain(m *testing.M) {
	if text := os.Getenv(frozenChild); text != "" {
		lease, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		serveAsMaster(lease)
		return
	}
	lab.Serve()
	if err := lab.Enter(); err != nil && !errors.Is(err, lab.ErrRoot) { // without root only some tests fail
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveAsMaster is the process that is frozen: a Go service behind the library's
// gate, master of term 7 with a lease. It says where it listens and until when the
// lease lasts, then "entered" when a slow request has written its reply, which goes
// on when a line comes in.
func serveAsMaster(lease time.Duration) {
	in := bufio.NewReader(os.Stdin)
	gate := guard.New(guard.Options{})
	ctx := context.Background()
	until := driver.BootTime() + lease
	order := driver.LeaseOrder{Service: "orders", Term: 7, Deadline: time.Now().Add(lease), Boot: until}
	if err := gate.Lease(ctx, order); err != nil {
		panic(err)
	}
	if err := gate.Promote(ctx, driver.Promotion{Service: "orders", Term: 7}); err != nil {
		panic(err)
	}
	server := httptest.NewServer(gate.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "done as master")
		if r.URL.Path == "/slow" {
			fmt.Println("entered")
			_, _ = in.ReadString('\n')
		}
	})))
	fmt.Println(server.URL, int64(until))
	select {} // the parent ends it
}

// master is that process, from outside.
type master struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Writer
	out   *bufio.Reader
	url   string
	until time.Duration
}

func startMaster(t *testing.T, lease time.Duration) *master {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), frozenChild+"="+lease.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	m := &master{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	if _, err := fmt.Fscan(m.out, &m.url, &m.until); err != nil {
		t.Fatal(err)
	}
	return m
}

// ask sends a request of term 7; the reply's body is in words.
func (m *master) ask(path string) (status int, notMaster, body string, err error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), frozenWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url+path, http.NoBody)
	if err != nil {
		return 0, "", "", err
	}
	req.Header.Set(signalbox.HeaderTerm, "7")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get(signalbox.HeaderNotMaster), string(raw), err
}

// wakesLate stops the process while a request is in it, and lets it go on when its
// lease has run out: it answers nothing as master any more.
func wakesLate(t *testing.T, stop, resume func(m *master) error) {
	t.Helper()
	lease := frozenLease
	for !wokeLate(t, lease, stop, resume) {
		if lease *= 4; lease > frozenWait {
			t.Fatal("this machine takes longer than any lease to stop a process")
		}
	}
}

// wokeLate is one try; false when the lease was over before the process was stopped.
func wokeLate(t *testing.T, lease time.Duration, stop, resume func(m *master) error) bool {
	t.Helper()
	m := startMaster(t, lease)
	status, _, body, err := m.ask("/")
	if driver.BootTime() >= m.until {
		return false
	}
	if err != nil || status != http.StatusCreated || body != "done as master" {
		t.Fatalf("within its lease: %d %q, %v", status, body, err)
	}
	type reply struct {
		status          int
		notMaster, body string
		err             error
	}
	inside := make(chan reply, 1)
	go func() {
		var r reply
		r.status, r.notMaster, r.body, r.err = m.ask("/slow")
		inside <- r
	}()
	entered := make(chan error, 1)
	go func() {
		for line := ""; line != "entered\n"; {
			var err error
			if line, err = m.out.ReadString('\n'); err != nil {
				entered <- err
				return
			}
		}
		entered <- nil
	}()
	select {
	case err := <-entered:
		if err != nil {
			t.Fatal(err)
		}
	case r := <-inside:
		if driver.BootTime() >= m.until { // it came when the lease was over
			return false
		}
		t.Fatalf("not let in within the lease: %+v", r)
	}
	if err := stop(m); err != nil {
		t.Fatal(err)
	}
	if driver.BootTime() >= m.until {
		return false
	}
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for driver.BootTime() < m.until {
		<-pace.C
	}
	if err := resume(m); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(m.in, "go\n"); err != nil {
		t.Fatal(err)
	}
	r := <-inside
	if r.err != nil || r.status != http.StatusGatewayTimeout || r.notMaster != "" || strings.Contains(r.body, "done") {
		t.Errorf("what was in flight: %d %q, not master %q, %v; want 504", r.status, r.body, r.notMaster, r.err)
	}
	status, notMaster, body, err := m.ask("/")
	if err != nil || status != http.StatusServiceUnavailable || notMaster != "7" {
		t.Errorf("afterwards: %d %q, not master %q, %v; want 503", status, body, notMaster, err)
	}
	return true
}

// TestStoppedMasterWakesLate: a process that SIGSTOP held for longer than its lease
// answers nothing as master (rule 2).
func TestStoppedMasterWakesLate(t *testing.T) {
	wakesLate(t,
		func(m *master) error { return m.cmd.Process.Signal(syscall.SIGSTOP) },
		func(m *master) error { return m.cmd.Process.Signal(syscall.SIGCONT) })
}
