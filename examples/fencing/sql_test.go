package fencing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// database starts a PostgreSQL server of its own and makes the tables.
func database(t *testing.T) string {
	t.Helper()
	lab, err := pgtest.Open(pgtest.Memory())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Close() })
	n, err := lab.Primary("one")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(filepath.Dir(n.Data), "log")
	options := fmt.Sprintf("-p %d -c fsync=off", n.Port)
	if out, err := lab.Run(t.Context(), "pg_ctl", "-D", n.Data, "-l", log, "-o", options, "-w", "start"); err != nil {
		written, _ := os.ReadFile(log)
		t.Fatal(err, out, string(written))
	}
	t.Cleanup(func() { _, _ = lab.Run(context.Background(), "pg_ctl", "-D", n.Data, "-m", "immediate", "stop") })
	conn := connect(t, n.DSN())
	if _, err := conn.Exec(t.Context(), Schema+`; CREATE TABLE orders (id text PRIMARY KEY, item text NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	return n.DSN()
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func order(ctx context.Context, id string) func(pgx.Tx) error {
	return func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1, 'book')`, id)
		return err
	}
}

// Rule: what a master of term 7 writes after term 8 was claimed is refused, whether
// it was about to begin or in the middle of a transaction.
func TestSQLRefusesAnOldMaster(t *testing.T) {
	dsn := database(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	old, frozen, other, next := connect(t, dsn), connect(t, dsn), connect(t, dsn), connect(t, dsn)
	if err := ClaimTerm(ctx, old, "orders", 7); err != nil {
		t.Fatal(err)
	}
	if _, err := frozen.Exec(ctx, `SET idle_in_transaction_session_timeout = '1s'`); err != nil {
		t.Fatal(err)
	}
	err := InTerm(ctx, frozen, "orders", 7, func(tx pgx.Tx) error {
		if err := order(ctx, "in the middle")(tx); err != nil {
			return err
		}
		// Here it freezes. Others of its term go on; the claim of the next term
		// waits, until the server ends what does nothing.
		if err := InTerm(ctx, other, "orders", 7, order(ctx, "beside it")); err != nil {
			t.Errorf("two transactions of one term: %v", err)
		}
		if err := ClaimTerm(ctx, next, "orders", 8); err != nil {
			t.Errorf("claim: %v", err)
		}
		return nil
	})
	if err == nil {
		t.Error("a transaction of term 7 was committed after term 8 was claimed")
	}
	if err := InTerm(ctx, next, "orders", 8, order(ctx, "new")); err != nil {
		t.Errorf("the new master: %v", err)
	}
	if err := InTerm(ctx, old, "orders", 7, order(ctx, "late")); !errors.Is(err, ErrNewerMaster) {
		t.Errorf("the old master: %v", err)
	}
	if err := ClaimTerm(ctx, old, "orders", 7); !errors.Is(err, ErrNewerMaster) {
		t.Errorf("the old master claims its term again: %v", err)
	}
	if err := InTerm(ctx, old, "orders", 9, order(ctx, "unclaimed")); err == nil {
		t.Error("written in a term that nobody claimed")
	}
	var ids []string
	rows, err := next.Query(ctx, `SELECT id FROM orders ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || fmt.Sprint(ids) != "[beside it new]" {
		t.Errorf("written: %q, %v", ids, err)
	}
}
