package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// three is a primary with two standbys.
type three struct {
	*pair
	north *site
}

func newThree(t *testing.T, change func(*postgres.Config)) *three {
	t.Helper()
	id := names.Add(1)
	all := []string{fmt.Sprintf("east-%d", id), fmt.Sprintf("west-%d", id), fmt.Sprintf("north-%d", id)}
	bare := func(*pgtest.Node) {}
	p := &three{pair: startEast(t, all, bare, change)}
	p.west = p.standby(all[1], all, bare, change)
	p.north = p.standby(all[2], all, bare, change)
	return p
}

// stepDownFor steps a master down for one that is to be promoted.
func (p *three) stepDownFor(master, incoming *site, term signalbox.Term) driver.Position {
	p.T.Helper()
	order := p.Planned(term)
	order.Incoming = []driver.Peer{{Name: incoming.Name, Address: incoming.Address()}}
	return p.StepDownBy(master, order)
}

// Guards: with several standbys a step-down waits for the one that is to be
// promoted, by its name, and not for another; whichever comes has everything that
// was acknowledged, and the others follow it by themselves, round and round.
func TestThreeSwitch(t *testing.T) {
	t.Parallel()
	p := newThree(t, nil)
	p.Ready(p.east)
	master, order := p.east, []*site{p.west, p.north, p.east}
	for round := range 6 {
		next := order[round%3]
		other := order[(round+1)%3]
		term := signalbox.Term(round + 2)
		other.exec(p.Ctx, "select pg_wal_replay_pause()") // the one that does not come is far behind
		var all sync.WaitGroup
		a, b := write(p.Ctx, master, &all), write(p.Ctx, master, &all)
		p.Await(func() bool { return value[int64](p.Ctx, master, "select count(*) from public.orders") > 50*int64(term) }, func() any { return term })
		position := p.stepDownFor(master, next, term-1)
		all.Wait()
		p.Promote(next, term, position)
		if n := lost(p.Ctx, next, a, b); n != 0 {
			t.Fatalf("%d acknowledged inserts are lost", n)
		}
		p.Follow(other, next, term)
		p.Follow(master, next, term)
		p.inStep(other, next)
		if n := lost(p.Ctx, other, a, b); n != 0 {
			t.Fatalf("%d acknowledged inserts are lost on %s", n, other.Name)
		}
		p.Ready(next)
		master = next
	}
}

// Guards: a step-down for a standby that is behind, or away, is refused by its
// name although another standby has everything; nothing is interrupted, and the
// primary names who is missing.
func TestThreeIncomingBehind(t *testing.T) {
	t.Parallel()
	p := newThree(t, nil)
	order := driver.StepDown{Service: "db", Term: 1, Incoming: []driver.Peer{{Name: p.north.Name}}}
	p.north.exec(p.Ctx, "select pg_wal_replay_pause()")
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('not there yet')")
	order.Deadline = time.Now().Add(2 * time.Second)
	short, cancel := context.WithDeadline(p.Ctx, order.Deadline) // as its agent refuses then
	defer cancel()
	_, err := p.east.driver.StepDown(short, order)
	if err == nil {
		t.Fatal("it stepped down although who is to be promoted has not everything")
	}
	p.Promote(p.east, 2, nil) // the fallback
	p.north.exec(p.Ctx, "select pg_wal_replay_resume()")

	p.north.Kill()
	order.Term = 2
	began := time.Now()
	order.Deadline = began.Add(patience)
	_, err = p.east.driver.StepDown(p.Ctx, order)
	drivertest.Refused(t, err, "incoming-behind: "+p.north.Name)
	drivertest.Refused(t, err, "nothing was interrupted")
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('goes on')")
	if got := p.Problem(p.east, "standby-missing"); !strings.Contains(got.What, p.north.Name) {
		t.Fatalf("%+v", got)
	}
	p.Promote(p.west, 3, p.stepDownFor(p.east, p.west, 2))
}

// Guards: a standby keeps the log that the others need should it be promoted, and
// moves on with them: after a failover one that was away for long follows without
// a new copy.
func TestThreeSlotsAreThere(t *testing.T) {
	t.Parallel()
	p := newThree(t, nil)
	slots := func() string {
		return value[string](p.Ctx, p.west, "select coalesce(string_agg(slot_name, ' ' order by slot_name), '') from pg_replication_slots")
	}
	want := strings.ReplaceAll("signalbox_"+p.east.Name+" signalbox_"+p.north.Name, "-", "_")
	p.west.again() // looks after them at once
	p.Await(func() bool {
		p.Ready(p.west)
		return slots() == want
	}, func() any { return slots() })
	p.north.Kill()
	p.onward() // segments that the standbys need no more are removed
	p.west.again()
	p.Ready(p.west)
	p.onward()
	p.east.Kill()
	p.Promote(p.west, 2, nil)
	p.Follow(p.north, p.west, 2)
	p.inStep(p.north, p.west)
	p.Follow(p.east, p.west, 2)
	if loss := p.north.driver.Loss(); loss != nil {
		t.Fatalf("loss %+v of a standby that was only behind", loss)
	}

	// Nobody is away now: the slots of a standby hold nothing that all have.
	held := func() int64 {
		return value[int64](p.Ctx, p.north, "select max(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), restart_lsn))::bigint from pg_replication_slots")
	}
	p.Ready(p.north)
	p.west.exec(p.Ctx, "select pg_switch_wal()")
	p.west.exec(p.Ctx, "insert into public.orders (note) values ('next')")
	p.Await(func() bool {
		p.inStep(p.north, p.west)
		p.inStep(p.east, p.west)
		p.north.again()
		p.Ready(p.north)
		return held() < 1<<20
	}, func() any { return held() })
}

// onward fills segments of the log, and has the primary and west forget old ones.
func (p *three) onward() {
	p.T.Helper()
	for range 4 {
		p.east.exec(p.Ctx, "insert into public.orders (note) values ('more')")
		p.east.exec(p.Ctx, "select pg_switch_wal()")
	}
	p.east.exec(p.Ctx, "checkpoint")
	p.inStep(p.west, p.east)
	p.west.exec(p.Ctx, "checkpoint")
}

// Guards: after a failover to a standby that had less than another one, that other
// one is rewound, what it had alone is counted and kept, and it follows.
func TestThreeRewindsStandby(t *testing.T) {
	t.Parallel()
	p := newThree(t, nil)
	p.Promote(p.north, 2, p.stepDownFor(p.east, p.north, 1)) // it was primary once
	p.Follow(p.east, p.north, 2)
	p.Promote(p.east, 3, p.stepDownFor(p.north, p.east, 2))
	p.Follow(p.north, p.east, 3)
	p.Follow(p.west, p.east, 3)
	p.inStep(p.west, p.east)
	p.cut(p.west)
	p.east.exec(p.Ctx, "insert into public.orders (note) select 'lost' from generate_series(1, 1000)")
	p.inStep(p.north, p.east)
	p.east.Kill()
	p.Promote(p.west, 4, nil)
	p.west.exec(p.Ctx, "insert into public.orders (note) values ('new')")
	p.Follow(p.north, p.west, 4)
	p.inStep(p.north, p.west)
	if n := value[int64](p.Ctx, p.north, "select count(*) from public.orders where note = 'lost'"); n != 0 {
		t.Fatalf("%d rows that the new primary never had", n)
	}
	if loss := p.north.driver.Loss(); loss == nil || loss.Transactions != 1 {
		t.Fatalf("loss %+v: want 1 transaction", loss)
	}
	if of := p.north.driver.Lost(); of == nil || of.Term != 2 || of.Bytes != 0 {
		t.Fatalf("%+v: nothing of the term that it served is lost", of)
	}
	p.Follow(p.east, p.west, 4)
	if of := p.east.driver.Lost(); of == nil || of.Term != 3 || of.Bytes == 0 {
		t.Fatalf("%+v: want what term 3 lost", of)
	}
	p.Promote(p.north, 5, p.stepDownFor(p.west, p.north, 4))
	p.Follow(p.west, p.north, 5)
	p.Follow(p.east, p.north, 5)
}
