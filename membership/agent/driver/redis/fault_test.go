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
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// Guards: a wrong password is named on either side, nothing is changed for it,
// and a password that was changed on both sides is read without a restart.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	bad := filepath.Join(p.west.cfg.State, "bad")
	check(t, os.WriteFile(bad, []byte("wrong\n"), 0o600))
	own := p.west.cfg
	p.west.cfg.Login.PasswordFile = bad
	p.west.cfg.Replicate = &own.Login
	p.west.again()
	p.problem(p.west, "wrong-password")
	p.west.cfg = own
	p.west.cfg.Replicate = &redis.Login{User: "signalbox", PasswordFile: bad}
	p.west.again()
	p.problem(p.west, "wrong-password")
	p.stepDown(p.east, 1)
	p.promote(p.east, 2, nil)
	err := p.west.driver.Follow(p.ctx, driver.Follow{Service: "db", Term: 2, Address: strings.Replace(p.east.Address(), "127.0.0.1", "127.0.0.2", 1)})
	if err == nil || p.west.info(p.ctx, "master_host") != "127.0.0.1" {
		t.Fatalf("%v; the replica was sent to a master that nobody can reach", err)
	}
	p.east.do(p.ctx, "ACL", "SETUSER", "signalbox", ">wrong")
	p.west.driver = nil
	p.west.again()
	p.ready(p.west)
}

// Guards: a replica of another master is named, and never promoted to the
// position of a master that it does not come from.
func TestOtherMaster(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	stranger := newSite(t, "stranger", nil)
	p.promote(stranger, 1, nil)
	stranger.set(p.ctx, "strange", "x")
	p.west.do(p.ctx, "REPLICAOF", "127.0.0.1", stranger.port())
	p.problem(p.west, "other-master")
	await(t, p.ctx, func() bool { return p.west.client.Exists(p.ctx, "strange").Val() == 1 }, func() any { return "it does not follow the stranger" })
	position, err := p.east.driver.StepDown(p.ctx, driver.StepDown{Service: "db", Term: 1}) // cannot be given up
	check(t, err)
	refused(t, p.west.driver.Promote(p.ctx, driver.Promotion{Service: "db", Term: 2, Position: position}), "history-differs")
	if p.west.writes() {
		t.Fatal("it was promoted")
	}
	p.promote(p.east, 3, nil)
	p.follow(p.west, p.east, 3)
}

// Guards: a replica that is too far behind is named with its lag, the step-down
// is refused before anything is interrupted, and a promotion refuses what lacks
// the position.
func TestTooFarBehind(t *testing.T) {
	t.Parallel()
	p := newPair(t, func(c *redis.Config) { c.MaxLag = 64 << 10 })
	// It is busy for a while and applies nothing; its driver's question waits, too.
	behind := redis.Position{Replication: p.east.info(p.ctx, "master_replid"), Offset: 1 << 30}
	refused(t, p.west.driver.Promote(p.ctx, driver.Promotion{Service: "db", Term: 2, Position: behind.Bytes()}), "behind")
	if p.west.writes() {
		t.Fatal("it was promoted without the data")
	}
	p.west.Signal(syscall.SIGSTOP)
	p.east.set(p.ctx, "big", strings.Repeat("x", 1<<20))
	_, err := p.east.driver.StepDown(p.ctx, planned(1))
	refused(t, err, "no-replica")
	p.east.set(p.ctx, "goes", "on")
	p.problem(p.east, "no-replica")
	p.west.Signal(syscall.SIGCONT)
	p.ready(p.west)
	p.ready(p.east)
}

// Guards: a replica whose link is cut names it, with the lag that a failover
// would lose, and a promotion that may lose more than max-loss is refused.
func TestMaxLoss(t *testing.T) {
	t.Parallel()
	none := uint64(0)
	p := newPair(t, func(c *redis.Config) { c.MaxLoss, c.MaxLag = &none, 1000 })
	p.west.do(p.ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.west)
	p.problem(p.west, "link-down")
	p.east.set(p.ctx, "lost", strings.Repeat("x", 10_000))
	p.east.set(p.ctx, "lost", "too")
	expected := func() driver.Readiness {
		r, err := p.west.driver.Ready(p.ctx)
		check(t, err)
		return r
	}
	await(t, p.ctx, func() bool { return expected().LagBytes > 10_000 }, func() any { return expected() })
	p.east.Kill()
	if r := expected(); r.LagBytes < 10_000 || r.Lag <= 0 || !r.Ready {
		t.Fatalf("expected loss: %+v", r)
	}
	refused(t, p.west.driver.Promote(p.ctx, driver.Promotion{Service: "db", Term: 2}), "max-loss")
	p.west.cfg.MaxLoss = nil
	p.west.again()
	p.promote(p.west, 2, nil)
	p.west.set(p.ctx, "new", "x")

	// The old master comes back: it takes no write, follows, and what it had alone
	// is counted or at least kept.
	check(t, p.east.Start())
	check(t, p.east.Up(p.ctx))
	if p.east.writes() {
		t.Fatal("the old master takes writes after a failover")
	}
	p.follow(p.east, p.west, 2)
	if p.east.client.Exists(p.ctx, "lost").Val() != 0 || p.east.client.Exists(p.ctx, "new").Val() != 1 {
		t.Fatal("the old master's data is not the new one's")
	}
	loss := p.east.driver.Loss()
	if loss == nil || loss.Kept == "" {
		t.Fatalf("loss %+v: want the files kept", loss)
	}
	if kept, err := filepath.Glob(filepath.Join(loss.Kept, "*")); err != nil || len(kept) == 0 {
		t.Fatalf("nothing in %s", loss.Kept)
	}
	p.west.do(p.ctx, "CONFIG", "SET", "masterauth", "interlock")
	position := p.stepDown(p.west, 2) // and back
	p.promote(p.east, 3, position)
	p.follow(p.west, p.east, 3)
}

// cut ends a replica's connection to its master.
func (p *pair) cut(replica *site) {
	p.t.Helper()
	check(p.t, replica.client.Do(p.ctx, "CLIENT", "KILL", "TYPE", "master").Err())
}

// Guards: the bytes that an old master had alone are counted when it was not
// started again in between.
func TestLossIsCounted(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.west.do(p.ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.west)
	p.problem(p.west, "link-down")
	p.east.set(p.ctx, "lost", strings.Repeat("x", 10_000))
	_, err := p.east.driver.StepDown(p.ctx, driver.StepDown{Service: "db", Term: 1}) // no replica has it, and it cannot be given up
	check(t, err)
	p.promote(p.west, 2, nil)
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
	p.east.set(p.ctx, "one", "x")
	before, err := p.east.driver.Status(p.ctx)
	check(t, err)
	p.east.Kill()
	_, err = p.east.driver.StepDown(p.ctx, planned(1))
	refused(t, err, "crashed")
	var after driver.Status
	await(t, p.ctx, func() bool { // the driver starts it again, as a replica
		after, err = p.east.driver.Status(p.ctx)
		return err == nil && after.Run != ""
	}, func() any { return err })
	if after.Master || after.Run == before.Run {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	p.problem(p.east, "crashed")
	_, err = p.east.driver.StepDown(p.ctx, planned(1))
	refused(t, err, "crashed")
	p.promote(p.east, 1, nil)
	if n := p.east.client.Exists(p.ctx, "one").Val(); n != 1 {
		t.Fatal("the write is lost")
	}
	p.ready(p.west)
}

// Guards: a master killed between its ack and the promotion changes nothing for
// the new one, and is promoted to its own position itself where that is ordered.
func TestMasterKilledAfterStepDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.set(p.ctx, "one", "x")
	position := p.stepDown(p.east, 1)
	p.east.Kill()
	p.promote(p.west, 2, position)
	if n := p.west.client.Exists(p.ctx, "one").Val(); n != 1 {
		t.Fatal("the write is lost")
	}
	p.follow(p.east, p.west, 2)
}

// Guards: without an append-only file a killed master is never promoted again:
// it would be empty, and its replica with it.
func TestKilledWithoutAOF(t *testing.T) {
	t.Parallel()
	p := newLonely(t, "appendonly no", "save \"\"")
	p.problem(p.east, "persistence-off")
	p.east.set(p.ctx, "one", "x")
	p.east.Kill()
	refused(t, p.east.driver.Promote(p.ctx, driver.Promotion{Service: "db", Term: 1}), "crashed-without-aof")
	if p.east.writes() {
		t.Fatal("it was promoted")
	}
}

// newLonely is a master without a replica.
func newLonely(t *testing.T, more ...string) *pair {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	p := &pair{t: t, ctx: ctx, east: newSite(t, "lonely", nil, more...)}
	p.promote(p.east, 1, nil)
	return p
}

// Guards: what stops a promotion, or makes a master useless, is named.
func TestProblems(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	set := func(s *site, name, value string) func() {
		before, err := s.client.ConfigGet(p.ctx, name).Result()
		check(t, err)
		s.do(p.ctx, "CONFIG", "SET", name, value)
		return func() { s.do(p.ctx, "CONFIG", "SET", name, before[name]) }
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
		p.problem(p.west, c.name)
		undo()
		p.ready(p.west)
	}
	p.west.cfg.MinFree = 1 << 60
	p.west.again()
	p.problem(p.west, "disk-low")
	p.west.cfg.MinFree = 1
	p.west.again()

	sentinel := p.west.client.Subscribe(p.ctx, "__sentinel__:hello")
	_, err := sentinel.Receive(p.ctx)
	check(t, err)
	p.problem(p.west, "sentinel")
	check(t, sentinel.Close())
	p.ready(p.west)

	p.west.do(p.ctx, "REPLICAOF", "NO", "ONE") // a person
	p.problem(p.west, "promoted-by-hand")
	err = p.west.driver.Follow(p.ctx, driver.Follow{Service: "db", Term: 1, Address: p.east.Address()})
	refused(t, err, "step it down first")
}

// Guards: an agent killed with the server running finds everything as it was; a
// server killed while its driver lives is started again as what it was.
func TestAgentAndServerKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.east.again()
	status, err := p.east.driver.Status(p.ctx)
	check(t, err)
	if !status.Master || status.Term != 1 || !p.east.writes() {
		t.Fatalf("%+v", status)
	}
	p.west.Kill()
	await(t, p.ctx, func() bool {
		s, err := p.west.driver.Status(p.ctx)
		return err == nil && s.Run != ""
	}, func() any { return "the replica is not started again" })
	p.ready(p.west)
}

// Guards: a file that the server was not started with is named: closing it would
// close nothing.
func TestOtherConfigFile(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	other := filepath.Join(p.west.cfg.State, "other.conf")
	check(t, os.WriteFile(other, []byte("port 1\n"), 0o600))
	p.west.cfg.File = other
	p.west.again()
	p.problem(p.west, "other-config-file")
	raw, err := os.ReadFile(other)
	check(t, err)
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
	ctx, cancel := context.WithTimeout(p.ctx, 200*time.Millisecond)
	defer cancel()
	if s, err := p.east.driver.Status(ctx); err == nil {
		t.Fatalf("status %+v of a server that does not answer", s)
	}
}
