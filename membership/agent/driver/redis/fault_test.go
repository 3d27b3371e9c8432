package redis_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// Guards: a wrong password is named on either side, nothing is changed for it,
// and a password that was changed on both sides is read without a restart.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	bad := filepath.Join(p.west.cfg.State, "bad")
	drivertest.Check(t, os.WriteFile(bad, []byte("wrong\n"), 0o600))
	own := p.west.cfg
	p.west.cfg.Login.PasswordFile = bad
	p.west.cfg.Replicate = &own.Login
	p.west.again()
	p.Problem(p.west, "wrong-password")
	p.west.cfg = own
	p.west.cfg.Replicate = &redis.Login{User: "signalbox", PasswordFile: bad}
	p.west.again()
	p.Problem(p.west, "wrong-password")
	p.StepDown(p.east, 1)
	p.Promote(p.east, 2, nil)
	err := p.west.driver.Follow(p.Ctx, driver.Follow{Service: "db", Term: 2, Address: strings.Replace(p.east.Address(), "127.0.0.1", "127.0.0.2", 1)})
	if err == nil || p.west.info(p.Ctx, "master_host") != "127.0.0.1" {
		t.Fatalf("%v; the replica was sent to a master that nobody can reach", err)
	}
	p.east.do(p.Ctx, "ACL", "SETUSER", "signalbox", ">wrong")
	p.west.driver = nil
	p.west.again()
	p.Ready(p.west)
}

// Guards: a replica of another master is named, and never promoted to the
// position of a master that it does not come from.
func TestOtherMaster(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	stranger := newSite(t, "stranger", nil)
	p.Promote(stranger, 1, nil)
	stranger.set(p.Ctx, "strange", "x")
	p.west.do(p.Ctx, "REPLICAOF", "127.0.0.1", stranger.port())
	p.Problem(p.west, "other-master")
	p.Await(func() bool { return p.west.client.Exists(p.Ctx, "strange").Val() == 1 }, func() any { return "it does not follow the stranger" })
	position, err := p.east.driver.StepDown(p.Ctx, driver.StepDown{Service: "db", Term: 1}) // cannot be given up
	drivertest.Check(t, err)
	drivertest.Refused(t, p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2, Position: position}), "history-differs")
	if p.west.writes() {
		t.Fatal("it was promoted")
	}
	p.Promote(p.east, 3, nil)
	p.follow(p.west, p.east, 3)
}

// Guards: a replica that is too far behind is named with its lag, the step-down
// is refused before anything is interrupted, and a promotion refuses what lacks
// the position.
func TestTooFarBehind(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(c *redis.Config) { c.MaxLag = 64 << 10 })
	// It is busy for a while and applies nothing; its driver's question waits, too.
	behind := redis.Position{Replication: p.east.info(p.Ctx, "master_replid"), Offset: 1 << 30}
	drivertest.Refused(t, p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2, Position: behind.Bytes()}), "behind")
	if p.west.writes() {
		t.Fatal("it was promoted without the data")
	}
	p.west.Signal(syscall.SIGSTOP)
	p.east.set(p.Ctx, "big", strings.Repeat("x", 1<<20))
	_, err := p.east.driver.StepDown(p.Ctx, p.Planned(1))
	drivertest.Refused(t, err, "no-replica")
	p.east.set(p.Ctx, "goes", "on")
	p.Problem(p.east, "no-replica")
	p.west.Signal(syscall.SIGCONT)
	p.Ready(p.west)
	p.Ready(p.east)
}

// Guards: a replica that was receiving its master's data anew when the master
// died, and so has an older copy or none, is neither ready nor promoted; after a
// person has its agent forget, it is.
func TestHalfCopy(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.Ready(p.west)
	p.west.do(p.Ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.west)
	p.east.do(p.Ctx, "DEBUG", "CHANGE-REPL-ID") // as after a restart: a whole copy is needed
	p.east.set(p.Ctx, "lost", "x")
	p.Problem(p.west, "link-down")
	p.east.Kill()
	p.Problem(p.west, "history-differs")
	drivertest.Refused(t, p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2}), "history-differs")
	if p.west.writes() {
		t.Fatal("it was promoted")
	}
	p.west.again()
	p.Promote(p.west, 2, nil)
	p.west.set(p.Ctx, "new", "x")
}

// Guards: a replica whose link is cut names it, with the lag that a failover
// would lose, and a promotion that may lose more than max-loss is refused.
func TestMaxLoss(t *testing.T) {
	t.Parallel()
	none := uint64(0)
	p := newPair(t, func(c *redis.Config) { c.MaxLoss, c.MaxLag = &none, 1000 })
	p.west.do(p.Ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.west)
	p.Problem(p.west, "link-down")
	p.east.set(p.Ctx, "lost", strings.Repeat("x", 10_000))
	p.east.set(p.Ctx, "lost", "too")
	expected := func() driver.Readiness {
		r, err := p.west.driver.Ready(p.Ctx)
		drivertest.Check(t, err)
		return r
	}
	p.Await(func() bool { return expected().LagBytes > 10_000 }, func() any { return expected() })
	p.east.Kill()
	if r := expected(); r.LagBytes < 10_000 || r.Lag <= 0 || !r.Ready {
		t.Fatalf("expected loss: %+v", r)
	}
	drivertest.Refused(t, p.west.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 2}), "max-loss")
	p.west.cfg.MaxLoss = nil
	p.west.again()
	p.Promote(p.west, 2, nil)
	p.west.set(p.Ctx, "new", "x")

	// The old master comes back: it takes no write, follows, and what it had alone
	// is counted or at least kept.
	drivertest.Check(t, p.east.Start())
	drivertest.Check(t, p.east.Up(p.Ctx))
	if p.east.writes() {
		t.Fatal("the old master takes writes after a failover")
	}
	p.follow(p.east, p.west, 2)
	if p.east.client.Exists(p.Ctx, "lost").Val() != 0 || p.east.client.Exists(p.Ctx, "new").Val() != 1 {
		t.Fatal("the old master's data is not the new one's")
	}
	loss := p.east.driver.Loss()
	if loss == nil || loss.Kept == "" {
		t.Fatalf("loss %+v: want the files kept", loss)
	}
	if kept, err := filepath.Glob(filepath.Join(loss.Kept, "*")); err != nil || len(kept) == 0 {
		t.Fatalf("nothing in %s", loss.Kept)
	}
	p.west.do(p.Ctx, "CONFIG", "SET", "masterauth", "interlock")
	position := p.StepDown(p.west, 2) // and back
	p.Promote(p.east, 3, position)
	p.follow(p.west, p.east, 3)
}

// cut ends a replica's connection to its master.
func (p *pair) cut(replica *site) {
	p.T.Helper()
	drivertest.Check(p.T, replica.client.Do(p.Ctx, "CLIENT", "KILL", "TYPE", "master").Err())
}

// Guards: the bytes that an old master had alone are counted when it was not
// started again in between.
func TestLossIsCounted(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.west.do(p.Ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.west)
	p.Problem(p.west, "link-down")
	p.east.set(p.Ctx, "lost", strings.Repeat("x", 10_000))
	_, err := p.east.driver.StepDown(p.Ctx, driver.StepDown{Service: "db", Term: 1}) // no replica has it, and it cannot be given up
	drivertest.Check(t, err)
	p.Promote(p.west, 2, nil)
	p.follow(p.east, p.west, 2)
	if loss := p.east.driver.Loss(); loss == nil || loss.Bytes < 10_000 {
		t.Fatalf("loss %+v: want 10,000 bytes", loss)
	}
}

// Guards: a master that was killed before its step-down does not pretend to know
// what it had acknowledged: a planned handover is refused and it serves on, with
// everything that its append-only file has.
func TestMasterKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.set(p.Ctx, "one", "x")
	before, err := p.east.driver.Status(p.Ctx)
	drivertest.Check(t, err)
	p.east.Kill()
	_, err = p.east.driver.StepDown(p.Ctx, p.Planned(1))
	drivertest.Refused(t, err, "crashed")
	var after driver.Status
	p.Await(func() bool { // the driver starts it again, as a replica
		after, err = p.east.driver.Status(p.Ctx)
		return err == nil && after.Run != ""
	}, func() any { return err })
	if after.Master || after.Run == before.Run {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	p.Problem(p.east, "crashed")
	_, err = p.east.driver.StepDown(p.Ctx, p.Planned(1))
	drivertest.Refused(t, err, "crashed")
	p.Promote(p.east, 1, nil)
	if n := p.east.client.Exists(p.Ctx, "one").Val(); n != 1 {
		t.Fatal("the write is lost")
	}
	p.Ready(p.west)
}

// Guards: a master killed between its ack and the promotion changes nothing for
// the new one, and is promoted to its own position itself where that is ordered.
func TestMasterKilledAfterStepDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.set(p.Ctx, "one", "x")
	position := p.StepDown(p.east, 1)
	p.east.Kill()
	p.Promote(p.west, 2, position)
	if n := p.west.client.Exists(p.Ctx, "one").Val(); n != 1 {
		t.Fatal("the write is lost")
	}
	p.follow(p.east, p.west, 2)
}

// Guards: without an append-only file a killed master is never promoted again:
// it would be empty, and its replica with it.
func TestKilledWithoutAOF(t *testing.T) {
	t.Parallel()
	p := newLonely(t, "appendonly no", "save \"\"")
	p.Problem(p.east, "persistence-off")
	p.east.set(p.Ctx, "one", "x")
	p.east.Kill()
	drivertest.Refused(t, p.east.driver.Promote(p.Ctx, driver.Promotion{Service: "db", Term: 1}), "crashed-without-aof")
	if p.east.writes() {
		t.Fatal("it was promoted")
	}
}

// newLonely is a master without a replica.
func newLonely(t *testing.T, more ...string) *pair {
	p := &pair{Orders: drivertest.NewOrders(t, patience), east: newSite(t, "lonely", nil, more...)}
	p.Promote(p.east, 1, nil)
	return p
}

// Guards: what stops a promotion, or makes a master useless, is named.
func TestProblems(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	set := func(s *site, name, value string) func() {
		before, err := s.client.ConfigGet(p.Ctx, name).Result()
		drivertest.Check(t, err)
		s.do(p.Ctx, "CONFIG", "SET", name, value)
		return func() { s.do(p.Ctx, "CONFIG", "SET", name, before[name]) }
	}
	for _, c := range []struct {
		name, setting, value string
	}{
		{"replica-writable", "replica-read-only", "no"},
		{"min-replicas", "min-replicas-to-write", "1"},
		{"maxmemory-lower", "maxmemory", "100kb"},
		{"memory-full", "maxmemory", "100kb"},
		{"aof-off", "appendonly", "no"},
	} {
		undo := set(p.west, c.setting, c.value)
		p.Problem(p.west, c.name)
		undo()
		p.Ready(p.west)
	}
	p.west.cfg.MinFree = 1 << 60
	p.west.again()
	p.Problem(p.west, "disk-low")
	p.west.cfg.MinFree = 1
	p.west.again()

	sentinel := p.west.client.Subscribe(p.Ctx, "__sentinel__:hello")
	_, err := sentinel.Receive(p.Ctx)
	drivertest.Check(t, err)
	p.Problem(p.west, "sentinel")
	drivertest.Check(t, sentinel.Close())
	p.Ready(p.west)

	p.west.do(p.Ctx, "REPLICAOF", "NO", "ONE") // a person
	p.Problem(p.west, "promoted-by-hand")
	err = p.west.driver.Follow(p.Ctx, driver.Follow{Service: "db", Term: 1, Address: p.east.Address()})
	drivertest.Refused(t, err, "step it down first")
}

// Guards: an agent killed with the server running finds everything as it was; a
// server killed while its driver lives is started again as what it was.
func TestAgentAndServerKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.again()
	status, err := p.east.driver.Status(p.Ctx)
	drivertest.Check(t, err)
	if !status.Master || status.Term != 1 || !p.east.writes() {
		t.Fatalf("%+v", status)
	}
	p.west.Kill()
	p.Await(func() bool {
		s, err := p.west.driver.Status(p.Ctx)
		return err == nil && s.Run != ""
	}, func() any { return "the replica is not started again" })
	p.Ready(p.west)
}

// Guards: a file that the server was not started with is named: closing it would
// close nothing.
func TestOtherConfigFile(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	other := filepath.Join(p.west.cfg.State, "other.conf")
	drivertest.Check(t, os.WriteFile(other, []byte("port 1\n"), 0o600))
	p.west.cfg.File = other
	p.west.again()
	p.Problem(p.west, "other-config-file")
	raw, err := os.ReadFile(other)
	drivertest.Check(t, err)
	if !strings.Contains(string(raw), "replicaof 127.0.0.1 1") {
		t.Fatalf("%s", raw)
	}
}

// Guards: the driver answers within its time while the server does not.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	p := newLonely(t)
	p.east.Signal(syscall.SIGSTOP)
	defer p.east.Signal(syscall.SIGCONT)
	ctx, cancel := context.WithTimeout(p.Ctx, 200*time.Millisecond)
	defer cancel()
	if s, err := p.east.driver.Status(ctx); err == nil {
		t.Fatalf("status %+v of a server that does not answer", s)
	}
}
