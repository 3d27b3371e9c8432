package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-io/signalbox"
)

// stream is a kept replication session to the own server, for the one question
// that no view answers while a standby has no primary: which timeline it has
// received or replayed last. One goroutine uses it at a time.
type stream struct {
	turn chan struct{} // holds the token of who may use it
	conn *pgconn.PgConn
	dsn  string
}

func newStream(dsn string) *stream {
	s := &stream{turn: make(chan struct{}, 1), dsn: dsn}
	s.turn <- struct{}{}
	return s
}

// timeline asks.
func (s *stream) timeline(ctx context.Context) (uint32, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	if s.conn != nil {
		if n, err := identify(ctx, s.conn); err == nil {
			return n, nil
		}
		s.drop() // the server was started again meanwhile
	}
	cfg, err := pgconn.ParseConfig(s.dsn)
	if err != nil {
		return 0, fmt.Errorf("ask for timeline: %w", err)
	}
	cfg.RuntimeParams["replication"] = "true"
	cfg.RuntimeParams["application_name"] = application
	if s.conn, err = pgconn.ConnectConfig(ctx, cfg); err != nil {
		return 0, fmt.Errorf("ask for timeline (the driver's role needs a replication line in pg_hba.conf for its own server): %w", err)
	}
	return identify(ctx, s.conn)
}

func identify(ctx context.Context, c *pgconn.PgConn) (uint32, error) {
	results, err := c.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return 0, fmt.Errorf("ask for timeline: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return 0, fmt.Errorf("%w: answer to IDENTIFY_SYSTEM", signalbox.ErrInvalid)
	}
	n, err := strconv.ParseUint(string(results[0].Rows[0][1]), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("ask for timeline: %w", err)
	}
	return uint32(n), nil
}

// drop closes the connection; the caller holds the turn.
func (s *stream) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = s.conn.Close(ctx) // the server ends it too
	s.conn = nil
}

// close ends the session.
func (s *stream) close(ctx context.Context) {
	select {
	case <-s.turn:
		s.drop()
		s.turn <- struct{}{}
	case <-ctx.Done():
	}
}
