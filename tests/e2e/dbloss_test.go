package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestDatabaseLoss is what people see before they move a database, and after. Rules: a switch that its driver would
// refuse for a transaction is refused before anything is interrupted, and names it; a failover that may lose more than
// max_loss is refused before it begins, with the number; one that may lose it says how much before, and its record keeps
// what was lost when the old master is back.
func TestDatabaseLoss(t *testing.T) {
	p, err := database.StartPostgres(within(t), database.Options{
		Binaries: binaries, Failover: "{evidence: [lapse], lease_ttl: 6s}", Notice: func(line string) { t.Log(line) },
		More: []string{"transactions: abort", "long_transaction: 500ms", "max_loss: 0B"},
	})
	must(t, err)
	defer func() { must(t, p.Close()) }()
	f := &fixture{Site: p.Site}
	l := inserts.Start(inserts.Config{Store: inserts.Postgres(p.DSN())})
	defer l.Stop()
	must(t, l.Flows(within(t), time.Now(), 20))
	longTransaction(t, f, p)

	f.lossBeforeKill(t, p, l)
	_, err = p.Kill(demo.East)
	must(t, err)
	dead := time.Now()
	code, out, errs := f.command(t, "failover", database.Service, "--to", demo.West, "--dry-run")
	if code != 3 || !strings.Contains(out, "expected-loss") || !strings.Contains(out, "at most 0 bytes may be lost") {
		t.Errorf("dry run: exit code %d\n%s%s", code, out, errs)
	}
	if code, out, errs := f.command(t, "failover", database.Service, "--to", demo.West, "--reason", "test"); code != 3 || !strings.Contains(errs, "KiB") {
		t.Errorf("a failover that loses too much: exit code %d\n%s%s", code, out, errs)
	}
	must(t, p.Revive(demo.East))
	must(t, p.Settled(within(t), demo.East)) // it serves on, and nothing is lost
	if missing, err := l.Missing(within(t), inserts.Postgres(p.Direct(demo.East)), dead); len(missing) != 0 || err != nil {
		t.Errorf("%d rows lost, %v", len(missing), err)
	}

	config := filepath.Join(f.Dir(), "config", "agent-west.yaml")
	text, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, []byte(strings.Replace(string(text), "max_loss: 0B", "", 1)), 0o600))
	must(t, f.Restart(within(t), "agent-west", patience))
	must(t, p.Settled(within(t), demo.East))
	f.lossBeforeKill(t, p, l)
	_, err = p.Kill(demo.East)
	must(t, err)
	dead = time.Now()
	code, out, errs = f.command(t, "failover", database.Service, "--to", demo.West, "--reason", "test")
	if code != 0 || !strings.Contains(errs, "ledger-west lacks ") {
		t.Fatalf("failover: exit code %d\n%s%s", code, out, errs)
	}
	missing, err := l.Missing(within(t), inserts.Postgres(p.Direct(demo.West)), dead)
	must(t, err)
	must(t, p.Revive(demo.East))
	h := f.lossKept(t)
	t.Logf("%d rows are missing; %s; %s", len(missing), h.ExpectedLoss.Words(), h.Lost[0].Words())
	if len(missing) == 0 || h.ExpectedLoss == nil || h.ExpectedLoss.Bytes == 0 || h.Lost[0].Bytes == 0 || int(h.Lost[0].Writes) < len(missing) {
		t.Errorf("expected %+v, lost %+v, missing %d rows", h.ExpectedLoss, h.Lost, len(missing))
	}
	if code, out, errs := f.command(t, "cutover", "report", h.ID); code != 0 || !strings.Contains(out, h.Lost[0].Words()[:40]) {
		t.Errorf("report: exit code %d\n%s%s", code, out, errs)
	}
	must(t, p.Settled(within(t), demo.West))
}

// longTransaction has a switch refused because of one, before anything begins.
func longTransaction(t *testing.T, f *fixture, p *database.Postgres) {
	c, err := pgx.Connect(within(t), p.DSN())
	must(t, err)
	defer c.Close(context.Background())
	tx, err := c.Begin(within(t))
	must(t, err)
	_, err = tx.Exec(within(t), "select 'the report of the quarter'")
	must(t, err)
	eventually(t, "the transaction to be listed", func(context.Context) error {
		code, out, errs := f.command(t, "switch", database.Service, "--to", demo.West, "--dry-run")
		for _, word := range []string{"long-transaction (refuses)", "the report of the quarter", " old, idle in transaction", "BLOCKS"} {
			if code != 3 || !strings.Contains(out, word) {
				return fmt.Errorf("exit code %d, no %q in\n%s%s", code, word, out, errs)
			}
		}
		return nil
	})
	if code, _, errs := f.command(t, "switch", database.Service, "--to", demo.West); code != 3 || !strings.Contains(errs, "the report of the quarter") {
		t.Errorf("a switch beside it: exit code %d\n%s", code, errs)
	}
	must(t, tx.Rollback(within(t)))
	if list, err := f.API().Handovers(within(t), database.Service, 10); err != nil || len(list) != 1 {
		t.Errorf("%d handovers, %v: more than the adoption", len(list), err)
	}
	must(t, p.Settled(within(t), demo.East))
}

// lossBeforeKill has rows acknowledged that are not replicated, and waits until the standby's agent says so.
func (f *fixture) lossBeforeKill(t *testing.T, p *database.Postgres, l *inserts.Load) {
	t.Helper()
	c, err := pgx.Connect(within(t), p.Direct(demo.East))
	must(t, err)
	defer c.Close(context.Background())
	var pid int
	eventually(t, "the standby to stream", func(ctx context.Context) error {
		return c.QueryRow(ctx, "select pid from pg_stat_replication where state = 'streaming'").Scan(&pid)
	})
	must(t, syscall.Kill(pid, syscall.SIGSTOP)) // it ends with the server
	must(t, l.Flows(within(t), time.Now(), 50))
	_, err = c.Exec(within(t), "create table if not exists filler (t text); insert into filler select repeat('x', 1000) from generate_series(1, 200)")
	must(t, err)
	eventually(t, "the standby to know what it lacks", func(ctx context.Context) error {
		list, err := f.API().Instances(ctx, database.Service)
		for _, in := range list {
			if in.DataCenter == demo.West && in.ExpectedLoss != nil && in.ExpectedLoss.Known && in.ExpectedLoss.Bytes > 100<<10 {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("%+v", list))
	})
}

// lossKept waits until the newest record says what was lost.
func (f *fixture) lossKept(t *testing.T) api.Handover {
	t.Helper()
	h := f.newestOf(t, database.Service)
	eventually(t, "what was lost to be in the record", func(ctx context.Context) (err error) {
		if h, err = f.API().Handover(ctx, h.ID); err == nil && len(h.Lost) == 0 {
			err = fmt.Errorf("%+v", h.ExpectedLoss)
		}
		return err
	})
	return h
}
