package fencing

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Schema is the table that fences. Give the service's role
// idle_in_transaction_session_timeout as well: a frozen master would hold its lock,
// and the new one wait, until its connection breaks.
const Schema = `CREATE TABLE mastership (service text PRIMARY KEY, term bigint NOT NULL)`

// ClaimTerm raises the service's term: once, when an instance becomes master or
// sees the first request of a new term. It waits for the transactions of older
// terms that are in the middle, and lets none begin after it.
func ClaimTerm(ctx context.Context, conn *pgx.Conn, service string, term uint64) error {
	tag, err := conn.Exec(ctx, `INSERT INTO mastership VALUES ($1, $2)
		ON CONFLICT (service) DO UPDATE SET term = EXCLUDED.term WHERE mastership.term <= EXCLUDED.term`, service, int64(term))
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNewerMaster
	}
	if err != nil {
		return fmt.Errorf("claim term %d of %s: %w", term, service, err)
	}
	return nil
}

// InTerm runs one transaction of a term. Those of one term run side by side; the
// lock on the row keeps the term from being raised before they have ended.
func InTerm(ctx context.Context, conn *pgx.Conn, service string, term uint64, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var newest int64
		err := tx.QueryRow(ctx, `SELECT term FROM mastership WHERE service = $1 FOR SHARE`, service).Scan(&newest)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && uint64(newest) < term:
			return fmt.Errorf("write in term %d of %s: claim it first", term, service)
		case err != nil:
			return fmt.Errorf("read the term of %s: %w", service, err)
		case uint64(newest) > term:
			return fmt.Errorf("write in term %d of %s: %w: it is at term %d", term, service, ErrNewerMaster, newest)
		}
		return do(tx)
	})
}
