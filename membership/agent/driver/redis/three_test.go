package redis_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
)

// three is a master with two replicas.
type three struct {
	*pair
	north *site
}

func newThree(t *testing.T) *three {
	t.Helper()
	p := &three{pair: newPair(t, nil), north: newSite(t, "north", func(c *redis.Config) { c.Replicas = 1 })}
	t.Cleanup(func() { p.pair.logs(); drivertest.ShowLog(t, p.north.Name, p.north.Dir+"/log") })
	p.follow(p.north, p.east, 1)
	return p
}

// planned is the order to step down for one that is to be promoted.
func (p *three) planned(incoming *site, term signalbox.Term) driver.StepDown {
	order := p.Planned(term)
	order.Incoming = []driver.Peer{{Name: incoming.Name, Address: incoming.Address()}}
	return order
}

// Guards: with several replicas a step-down waits for the one that is to be
// promoted, and not for another; whichever comes has everything that was
// acknowledged, and the others follow it by themselves, without a whole copy.
func TestThreeSwitch(t *testing.T) {
	t.Parallel()
	p := newThree(t)
	master, order := p.east, []*site{p.west, p.north, p.east}
	for round := range 6 {
		next, other, term := order[round%3], order[(round+1)%3], signalbox.Term(round+2)
		drivertest.Check(t, master.driver.Prepare(p.Ctx, driver.Preparation{Service: "db", Term: term - 1}))
		other.Signal(syscall.SIGSTOP) // the one that does not come says nothing
		var all sync.WaitGroup
		a, b := write(p.Ctx, master, &all), write(p.Ctx, master, &all)
		p.Await(func() bool { return master.client.DBSize(p.Ctx).Val() > 200*int64(term) }, func() any { return term })
		position := p.StepDownBy(master, p.planned(next, term-1))
		all.Wait()
		p.Promote(next, term, position)
		if n := lost(p.Ctx, next, a, b); n != 0 {
			t.Fatalf("%d acknowledged writes are lost", n)
		}
		other.Signal(syscall.SIGCONT)
		full := next.info(p.Ctx, "sync_full")
		p.follow(other, next, term)
		p.follow(master, next, term)
		if now := next.info(p.Ctx, "sync_full"); now != full {
			t.Fatalf("a whole copy was taken: %s full synchronizations, %s before", now, full)
		}
		next.set(p.Ctx, "after", fmt.Sprint(term))
		for _, s := range []*site{other, master} {
			p.Await(func() bool { return s.client.Get(p.Ctx, "after").Val() == fmt.Sprint(term) }, func() any { return s.Name })
			if n := lost(p.Ctx, s, a, b); n != 0 {
				t.Fatalf("%d acknowledged writes are lost on %s", n, s.Name)
			}
		}
		master = next
	}
}

// Guards: a step-down for a replica that is away is refused by its name although
// another one has everything; nothing is interrupted.
func TestThreeIncomingBehind(t *testing.T) {
	t.Parallel()
	p := newThree(t)
	p.north.do(p.Ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.north)
	p.Problem(p.north, "link-down")
	p.Await(func() bool { return p.east.info(p.Ctx, "connected_slaves") == "1" }, func() any { return "its master still counts it" })
	_, err := p.east.driver.StepDown(p.Ctx, p.planned(p.north, 1))
	drivertest.Refused(t, err, "incoming-behind: "+p.north.Name)
	drivertest.Refused(t, err, "nothing was interrupted")
	p.east.set(p.Ctx, "goes", "on")
	position := p.StepDownBy(p.east, p.planned(p.west, 1))
	p.Promote(p.west, 2, position)
}

// Guards: after a failover to a replica that had less than another one, what that
// other one had alone is counted and kept, and it follows.
func TestThreeReplicaAhead(t *testing.T) {
	t.Parallel()
	p := newThree(t)
	p.Promote(p.north, 2, p.StepDown(p.east, 1)) // it was master once
	p.follow(p.east, p.north, 2)
	p.Promote(p.east, 3, p.StepDown(p.north, 2))
	p.follow(p.north, p.east, 3)
	p.follow(p.west, p.east, 3)
	p.west.do(p.Ctx, "CONFIG", "SET", "masterauth", "wrong")
	p.cut(p.west)
	p.Problem(p.west, "link-down")
	p.east.set(p.Ctx, "lost", strings.Repeat("x", 10_000))
	p.Await(func() bool { return p.north.client.Exists(p.Ctx, "lost").Val() == 1 }, func() any { return "north has it not" })
	p.east.Kill()
	p.Promote(p.west, 4, nil)
	p.west.set(p.Ctx, "new", "x")
	p.follow(p.north, p.west, 4)
	p.Await(func() bool { return p.north.client.Exists(p.Ctx, "new").Val() == 1 }, func() any { return "it does not follow" })
	if p.north.client.Exists(p.Ctx, "lost").Val() != 0 {
		t.Fatal("it has what the new master never had")
	}
	if loss := p.north.driver.Loss(); loss == nil || loss.Bytes < 10_000 || loss.Kept == "" {
		t.Fatalf("loss %+v: want 10,000 bytes, kept", loss)
	}
	if of := p.north.driver.Lost(); of == nil || of.Term != 2 || of.Bytes != 0 {
		t.Fatalf("%+v: nothing of the term that it served is lost", of)
	}
}
