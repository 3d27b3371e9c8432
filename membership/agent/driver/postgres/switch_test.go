package postgres_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// writer inserts over one connection until it breaks, and knows what was acknowledged.
type writer struct {
	acked []int64
	err   error
}

// write starts inserting; the result is complete when the group is done.
func write(ctx context.Context, s *site, all *sync.WaitGroup) *writer {
	s.t.Helper()
	c, err := s.connect(ctx)
	drivertest.Check(s.t, err)
	w := &writer{}
	all.Go(func() {
		defer c.Close(context.Background())
		for {
			var id int64
			if w.err = c.QueryRow(ctx, "insert into public.orders (note) values ('x') returning id").Scan(&id); w.err != nil {
				return
			}
			w.acked = append(w.acked, id)
		}
	})
	return w
}

// lost are the acknowledged inserts that a server does not have.
func lost(ctx context.Context, s *site, writers ...*writer) int64 {
	s.t.Helper()
	var ids []int64
	for _, w := range writers {
		ids = append(ids, w.acked...)
	}
	return value[int64](ctx, s, "select count(*) from unnest($1::bigint[]) id where not exists (select from public.orders o where o.id = id.id)", ids)
}

// Guards: nothing acknowledged is lost in a planned switch, in either mode, there
// and back, with sessions that write as fast as they can; the old primary comes
// back as a standby by itself.
func TestSwitchAndBackUnderLoad(t *testing.T) {
	for _, mode := range []postgres.Mode{postgres.Fast, postgres.Clean} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, func(c *postgres.Config) { c.Stop = mode })
			master, standby := p.east, p.west
			for term := signalbox.Term(2); term < 6; term++ {
				var all sync.WaitGroup
				a, b := write(p.Ctx, master, &all), write(p.Ctx, master, &all)
				p.Await(func() bool { return value[int64](p.Ctx, master, "select count(*) from public.orders") > 50*int64(term) }, func() any { return term })
				began := time.Now()
				position := p.StepDown(master, term-1)
				stopped := time.Since(began)
				all.Wait()
				if master.PID() != 0 {
					t.Fatal("the server runs although it is stepped down")
				}
				p.Promote(standby, term, position)
				t.Logf("term %d: stepped down in %s, promoted in %s, %d acknowledged", term, stopped, time.Since(began)-stopped, len(a.acked)+len(b.acked))
				if n := lost(p.Ctx, standby, a, b); n != 0 {
					t.Fatalf("%d acknowledged inserts are lost", n)
				}
				standby.exec(p.Ctx, "insert into public.orders (note) values ('after')")
				began = time.Now()
				p.Follow(master, standby, term)
				t.Logf("term %d: the old primary follows after %s", term, time.Since(began))
				master, standby = standby, master
			}
		})
	}
}

// Guards: a step-down is a fence, not a setting: whatever a superuser does while
// it happens and after it, no write is acknowledged that the position lacks, and
// a server that a person starts again takes none.
func TestSuperuserCannotUndo(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	var all sync.WaitGroup
	stop, cancel := context.WithCancel(p.Ctx)
	defer cancel()
	undone := &writer{}
	all.Go(func() {
		for stop.Err() == nil {
			undone.attack(stop, p.east)
		}
	})
	p.Await(func() bool { return value[int64](p.Ctx, p.east, "select count(*) from public.orders") > 10 }, func() any { return nil })
	position := p.StepDown(p.east, 1)
	if _, err := p.east.connect(p.Ctx); err == nil {
		t.Fatal("a superuser can connect after the step-down")
	}
	// A person starts it by hand, with pg_ctl, as the distribution's unit would.
	_, err := lab.Run(p.Ctx, "pg_ctl", "-D", p.east.Data, "-o", p.east.options(), "-l", p.east.State+"-log", "-w", "start")
	if err != nil {
		log, _ := os.ReadFile(p.east.State + "-log")
		t.Fatalf("%v\n%s", err, log)
	}
	c, err := p.east.connect(p.Ctx)
	drivertest.Check(t, err)
	for _, sql := range []string{"set default_transaction_read_only = off", "alter system reset all", "insert into public.orders (note) values ('split')"} {
		if _, err = c.Exec(p.Ctx, sql); err != nil {
			break
		}
	}
	c.Close(p.Ctx)
	if err == nil {
		t.Fatal("the old primary took a write after its step-down")
	}
	p.Promote(p.west, 2, position)
	cancel()
	all.Wait()
	if n := lost(p.Ctx, p.west, undone); n != 0 {
		t.Fatalf("%d acknowledged inserts are lost", n)
	}
	p.Follow(p.east, p.west, 2)
}

func (s *site) options() string {
	out := ""
	for _, o := range s.cfg.Options {
		out += "-c " + o + " "
	}
	return out
}

// attack tries what a superuser can do against a step-down, and writes.
func (w *writer) attack(ctx context.Context, s *site) {
	c, err := s.connect(ctx)
	if err != nil {
		return
	}
	defer c.Close(context.Background())
	for _, sql := range []string{"set default_transaction_read_only = off", "alter system set work_mem = 65", "select pg_reload_conf()", "set synchronous_commit = off"} {
		if _, err := c.Exec(ctx, sql); err != nil {
			return
		}
	}
	for {
		var id int64
		if err := c.QueryRow(ctx, "insert into public.orders (note) values ('undo') returning id").Scan(&id); err != nil {
			return
		}
		w.acked = append(w.acked, id)
	}
}

// Guards: a repeated StepDown says the same, also after a start of the agent, and
// an old master that is given the same term again serves on with its data.
func TestStepDownAgainAndFallback(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	first := p.StepDown(p.east, 1)
	p.east.again()
	if again := p.StepDown(p.east, 1); string(again) != string(first) {
		t.Fatalf("position %q, then %q", first, again)
	}
	p.Promote(p.east, 3, nil)
	p.east.exec(p.Ctx, "insert into public.orders (note) values ('fallback')")
	p.Ready(p.west)
	if err := p.east.driver.Promote(p.Ctx, promotion(2)); err == nil {
		t.Fatal("it opened a term below the newest that it served")
	}
	status, err := p.east.driver.Status(p.Ctx)
	drivertest.Check(t, err)
	if !status.Master || status.Term != 3 {
		t.Fatalf("status %+v", status)
	}
	position := p.StepDown(p.east, 3)
	p.Promote(p.west, 4, position)
	if n := value[int64](p.Ctx, p.west, "select count(*) from public.orders"); n != 1 {
		t.Fatalf("%d rows", n)
	}
}

// Guards: a standby steps down without being stopped, and says no position.
func TestStandbyStepsDown(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	if position := p.StepDown(p.west, 1); position != nil {
		t.Fatalf("a standby says position %q", position)
	}
	p.Ready(p.west)
}
