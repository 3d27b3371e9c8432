package redis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// writer writes over one connection until it breaks, and knows what was acknowledged.
type writer struct {
	acked []string
	err   error
}

// write starts writing; the result is complete when the group is done.
func write(ctx context.Context, s *site, all *sync.WaitGroup) *writer {
	w := &writer{}
	id := names.Add(1)
	c := s.Open()
	all.Go(func() {
		defer c.Close()
		for n := 0; ; n++ {
			key := fmt.Sprintf("w:%d:%d", id, n)
			if w.err = c.Set(ctx, key, "x", 0).Err(); w.err != nil {
				return
			}
			w.acked = append(w.acked, key)
		}
	})
	return w
}

// lost counts the acknowledged writes that a server does not have.
func lost(ctx context.Context, s *site, writers ...*writer) int {
	s.t.Helper()
	missing := 0
	for _, w := range writers {
		for at := 0; at < len(w.acked); at += 1000 {
			part := w.acked[at:min(at+1000, len(w.acked))]
			n, err := s.client.Exists(ctx, part...).Result()
			drivertest.Check(s.t, err)
			missing += len(part) - int(n)
		}
	}
	return missing
}

// Guards: nothing acknowledged is lost in a planned switch, there and back, with
// clients that write as fast as they can; their connections are closed; the old
// master comes back as a replica by itself, without a whole copy.
func TestSwitchAndBackUnderLoad(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	master, standby := p.east, p.west
	for term := signalbox.Term(2); term < 8; term++ {
		var all sync.WaitGroup
		a, b := write(p.Ctx, master, &all), write(p.Ctx, master, &all)
		p.Await(func() bool { return master.client.DBSize(p.Ctx).Val() > 200*int64(term) }, func() any { return term })
		drivertest.Check(t, standby.driver.Prepare(p.Ctx, driver.Preparation{Service: "db", Term: term - 1, Promote: true}))
		drivertest.Check(t, master.driver.Prepare(p.Ctx, driver.Preparation{Service: "db", Term: term - 1}))
		idle, err := net.Dial("tcp", master.Address())
		drivertest.Check(t, err)
		began := time.Now()
		position := p.StepDown(master, term-1)
		stopped := time.Since(began)
		all.Wait()
		drivertest.Check(t, idle.SetReadDeadline(time.Now().Add(patience)))
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("a connection was left open: %v", err)
		}
		idle.Close()
		p.Promote(standby, term, position)
		t.Logf("term %d: stepped down in %s, promoted in %s, %d acknowledged", term, stopped, time.Since(began)-stopped, len(a.acked)+len(b.acked))
		if n := lost(p.Ctx, standby, a, b); n != 0 {
			t.Fatalf("%d acknowledged writes are lost", n)
		}
		standby.set(p.Ctx, "after", fmt.Sprint(term))
		full := standby.info(p.Ctx, "sync_full")
		p.follow(master, standby, term)
		if now := standby.info(p.Ctx, "sync_full"); now != full {
			t.Fatalf("the old master took a whole copy: %s full synchronizations, %s before", now, full)
		}
		master, standby = standby, master
	}
}

// Guards: a pause expires by itself and is no fence: what is written after it is
// in the position, and a step-down that was frozen for longer than its pause
// loses nothing.
func TestPauseIsNoFence(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	pause, waited := 50*time.Millisecond, time.Duration(0)
	p.Await(func() bool { // a write that is late on a busy machine meets no pause
		p.east.do(p.Ctx, "CLIENT", "PAUSE", pause.Milliseconds(), "WRITE")
		began := time.Now()
		p.east.set(p.Ctx, "after", "the pause")
		waited = time.Since(began)
		pause *= 2
		return waited >= pause/4
	}, func() any { return fmt.Sprintf("the pause held a write for %s: this test shows nothing", waited) })

	// The replica answers nothing, so the step-down waits; its driver dies, and
	// the master goes on by itself.
	drivertest.Check(t, p.east.driver.Prepare(p.Ctx, driver.Preparation{Service: "db", Term: 1}))
	p.west.Signal(syscall.SIGSTOP)
	p.east.set(p.Ctx, "not", "there yet")
	dying, die := context.WithCancel(p.Ctx)
	// The reopening of a driver that is given up must not be what helps.
	p.east.do(p.Ctx, "ACL", "SETUSER", "signalbox", "-client|unpause")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = p.east.driver.StepDown(dying, p.Planned(1))
	}()
	p.Await(func() bool { return !p.east.writes() }, func() any { return "the writes are not paused" })
	die()
	<-done
	var all sync.WaitGroup
	late := write(p.Ctx, p.east, &all) // waits for the end of the pause and goes on
	p.Await(p.east.writes, func() any { return "the pause does not end" })

	p.east.do(p.Ctx, "ACL", "SETUSER", "signalbox", "+client|unpause")
	p.west.Signal(syscall.SIGCONT)
	position := p.StepDown(p.east, 1)
	all.Wait()
	p.Promote(p.west, 2, position)
	if n := lost(p.Ctx, p.west, late); n != 0 || len(late.acked) == 0 {
		t.Fatalf("%d of %d acknowledged writes are lost", n, len(late.acked))
	}
}

// Guards: a server that stepped down takes no write from a client connected
// straight to it: neither then, nor after a restart by whoever, nor after a
// restart as a person would do it with the configuration file.
func TestOldMasterTakesNoWrite(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.set(p.Ctx, "mine", "x")
	position := p.StepDown(p.east, 1)
	if p.east.writes() {
		t.Fatal("it takes writes after its step-down")
	}
	p.east.Kill()
	drivertest.Check(t, p.east.Start())
	drivertest.Check(t, p.east.Up(p.Ctx))
	if p.east.writes() {
		t.Fatal("it takes writes after a restart")
	}
	p.Promote(p.west, 2, position)
	p.follow(p.east, p.west, 2)
	if p.east.writes() {
		t.Fatal("it takes writes as a replica")
	}
}

// Guards: nothing starts as a master, not even one that was killed as a master
// and whose file a person had rewritten then.
func TestKilledMasterStartsClosed(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.do(p.Ctx, "CONFIG", "SET", "maxmemory", "100mb")
	p.east.do(p.Ctx, "CONFIG", "REWRITE") // Redis drops the replicaof line: it is master
	_, err := p.east.driver.Status(p.Ctx) // as the agent asks every now and then
	drivertest.Check(t, err)
	p.east.Kill()
	drivertest.Check(t, p.east.Start())
	drivertest.Check(t, p.east.Up(p.Ctx))
	if p.east.writes() {
		t.Fatal("a killed master takes writes when it is started")
	}
}

// Guards: a repeated StepDown says the same, also after a start of the agent, and
// an old master that is given a term again serves on with its data.
func TestStepDownAgainAndFallback(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.set(p.Ctx, "one", "x")
	first := p.StepDown(p.east, 1)
	p.east.again()
	if again := p.StepDown(p.east, 1); string(again) != string(first) {
		t.Fatalf("position %q, then %q", first, again)
	}
	p.Promote(p.east, 3, nil)
	p.east.set(p.Ctx, "two", "x")
	p.Ready(p.west)
	if err := p.east.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2}); err == nil {
		t.Fatal("it opened a term below the newest that it served")
	}
	position := p.StepDown(p.east, 3)
	p.Promote(p.west, 4, position)
	if n := p.west.client.Exists(p.Ctx, "one", "two").Val(); n != 2 {
		t.Fatalf("%d of 2 keys", n)
	}
}

// Guards: an agent killed between the server's becoming a replica and the note of
// it says the right position afterwards.
func TestAgentKilledInStepDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.set(p.Ctx, "one", "x")
	p.east.do(p.Ctx, "REPLICAOF", "127.0.0.1", "1") // all that it came to
	p.east.again()
	position := p.StepDown(p.east, 1)
	if len(position) == 0 {
		t.Fatal("no position of a master that stepped down")
	}
	p.Promote(p.west, 2, position)
	if n := p.west.client.Exists(p.Ctx, "one").Val(); n != 1 {
		t.Fatal("the write is lost")
	}
}

// debian is what in the package's /etc/redis/redis.conf could be in the way.
const debian = `bind 127.0.0.1 -::1
protected-mode yes
tcp-backlog 511
daemonize yes
always-show-logo no
set-proc-title yes
dbfilename dump.rdb
replica-serve-stale-data yes
replica-read-only yes
repl-diskless-sync yes
maxmemory-policy noeviction
client-output-buffer-limit replica 256mb 64mb 60
`

// Guards: a running server, as Debian's package has it, is taken over without a
// restart and without its clients' noticing; from its next start on it runs under
// the warden.
func TestAdopt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := lab.Node("adopted")
	drivertest.Check(t, err)
	own, err := os.ReadFile(n.File())
	drivertest.Check(t, err)
	drivertest.Check(t, os.WriteFile(n.File(), append([]byte(debian), own...), 0o600))
	drivertest.Check(t, n.Start("--supervised", "no", "--daemonize", "no")) // as its unit does, without systemd
	drivertest.Check(t, n.Up(ctx))
	s := siteOf(t, n, nil)
	s.set(ctx, "before", "x")
	status, err := s.driver.Status(ctx)
	drivertest.Check(t, err)
	if !status.Master || status.Term != 0 {
		t.Fatalf("%+v", status)
	}
	pid, clients := n.PID(), s.info(ctx, "total_connections_received")
	p := drivertest.NewOrders(t, patience)
	p.Promote(s, 1, nil)
	s.set(ctx, "after", "x")
	if now := s.info(ctx, "total_connections_received"); now != clients || n.PID() != pid {
		t.Fatalf("clients connected again, or it was restarted: %s connections, %s before", now, clients)
	}
	err = s.driver.Lease(ctx, driver.LeaseOrder{Service: "db", Term: 1, Deadline: time.Now().Add(patience), Boot: driver.BootTime() + patience})
	if !errors.Is(err, redis.ErrNoDeadMan) {
		t.Fatalf("%v: nobody would end it with its lease", err)
	}
	p.StepDown(s, 1)
	n.Kill()
	p.Await(func() bool {
		status, err = s.driver.Status(ctx)
		return err == nil && status.Run != ""
	}, func() any { return err })
	if s.writes() {
		t.Fatal("it takes writes")
	}
	state, err := s.cfg.Warden.State(ctx)
	if err != nil || !state.Running {
		t.Fatalf("%+v, %v: it does not run under the warden", state, err)
	}
}
