package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// application is the application_name of the driver's own sessions.
const application = "signalbox"

// session is one connection that is kept; it is made when it is needed, and made
// again when it broke. One goroutine uses it at a time, the others wait.
type session struct {
	turn chan struct{} // holds the token of who may use it
	conn *pgx.Conn
	dsn  string
	pid  atomic.Uint32 // of the server's process, 0 while not connected
}

func newSession(dsn string) *session {
	s := &session{turn: make(chan struct{}, 1), dsn: dsn}
	s.turn <- struct{}{}
	return s
}

// use runs do with the connection. When do fails for the connection's sake, the
// next use connects again.
func (s *session) use(ctx context.Context, do func(*pgx.Conn) error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	if s.conn != nil && s.conn.Ping(ctx) != nil { // the server was started again meanwhile
		s.drop(ctx)
	}
	if s.conn == nil {
		conn, err := connect(ctx, s.dsn)
		if err != nil {
			s.pid.Store(0)
			return err
		}
		s.conn = conn
		s.pid.Store(conn.PgConn().PID())
	}
	err := do(s.conn)
	var server *pgconn.PgError
	if err != nil && (!errors.As(err, &server) || server.Severity == "FATAL") {
		s.drop(ctx)
	}
	return err
}

// drop closes the connection; the caller holds the turn.
func (s *session) drop(ctx context.Context) {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_ = s.conn.Close(ctx) // the server ends it too
	s.conn = nil
	s.pid.Store(0)
}

// close ends the session.
func (s *session) close(ctx context.Context) {
	select {
	case <-s.turn:
		s.drop(ctx)
		s.turn <- struct{}{}
	case <-ctx.Done():
	}
}

// connect opens a session that no setting of the server can hold up: it waits
// for no standby, needs no other process and has no time limit but ctx.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	for name, value := range map[string]string{
		"application_name": application, "synchronous_commit": "local", "statement_timeout": "0", "lock_timeout": "0",
		"idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0", "default_transaction_read_only": "off",
		"max_parallel_workers_per_gather": "0", "jit": "off", "search_path": "pg_catalog",
	} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// starting reports whether a server refused because it is not ready yet, or not
// any more.
func starting(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == "57P03"
}

// accessProblem names why the driver cannot get into a server.
func accessProblem(where string, err error) driver.Problem {
	var server *pgconn.PgError
	what := fmt.Sprintf("%s: %v", where, firstLine(err))
	if do := tlsAdvice(err); do != "" {
		return driver.Problem{Name: "tls", What: what, Do: do}
	}
	switch {
	case errors.As(err, &server) && server.Code == "28P01":
		return driver.Problem{Name: "wrong-password", What: what, Do: "correct the password in the driver's passfile, or the role's: ALTER ROLE ... PASSWORD"}
	case errors.As(err, &server) && strings.HasPrefix(server.Code, "28"):
		return driver.Problem{Name: "access-denied", What: what, Do: "let the driver's role in: a line in pg_hba.conf, then SELECT pg_reload_conf()"}
	case errors.As(err, &server) && server.Code == "53300":
		return driver.Problem{Name: "too-many-sessions", What: what, Do: "end sessions, or raise max_connections; superuser_reserved_connections keeps places for the driver"}
	case starting(err):
		return driver.Problem{Name: "server-starting", What: what, Do: "wait; a long replay of the log after a crash shows in the server's log"}
	}
	return driver.Problem{Name: "cannot-connect", What: what, Do: "look whether the server runs and listens where the driver connects to"}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
