package inserts

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// Row is the identity of what one insert wrote.
type Row struct {
	Writer int
	N      int64
}

// Store is a database as a client sees it.
type Store interface {
	// Open connects.
	Open(ctx context.Context) (Session, error)
	// Rows are all that are there.
	Rows(ctx context.Context) (map[Row]bool, error)
}

// Session is one connection. It tries nothing twice, and is closed after an error.
type Session interface {
	Insert(ctx context.Context, r Row) error
	Close()
}

// Postgres is a PostgreSQL server; Schema makes its table.
type Postgres string

type pgSession struct{ *pgx.Conn }

// Open implements Store.
func (dsn Postgres) Open(ctx context.Context) (Session, error) {
	c, err := pgx.Connect(ctx, string(dsn))
	return pgSession{c}, err
}

// Insert implements Session.
func (s pgSession) Insert(ctx context.Context, r Row) error {
	_, err := s.Exec(ctx, "insert into signalbox_inserts (writer, n) values ($1, $2)", r.Writer, r.N)
	return err
}

// Close implements Session.
func (s pgSession) Close() { _ = s.Conn.Close(context.Background()) }

// Rows implements Store.
func (dsn Postgres) Rows(ctx context.Context) (map[Row]bool, error) {
	c, err := pgx.Connect(ctx, string(dsn))
	if err != nil {
		return nil, err
	}
	defer c.Close(context.Background())
	rows, err := c.Query(ctx, "select writer, n from signalbox_inserts")
	if err != nil {
		return nil, err
	}
	there := map[Row]bool{}
	var r Row
	_, err = pgx.ForEachRow(rows, []any{&r.Writer, &r.N}, func() error { there[r] = true; return nil })
	return there, err
}

// Redis is a Redis server. Each row is a key of its own.
type Redis redis.Options

type redisSession struct{ *redis.Client }

// keyPrefix begins the rows' keys.
const keyPrefix = "signalbox:insert:"

// Key is the key of a row in Redis.
func Key(r Row) string { return fmt.Sprintf("%s%d:%d", keyPrefix, r.Writer, r.N) }

// client makes one that holds one connection and tries nothing twice.
func (o Redis) client() *redis.Client {
	options := redis.Options(o)
	options.PoolSize, options.MaxRetries, options.DialerRetries, options.Protocol, options.DisableIdentity = 1, -1, 1, 2, true
	options.ContextTimeoutEnabled, options.DialTimeout, options.ReadTimeout, options.WriteTimeout = true, connectTimeout, statementTimeout, statementTimeout
	return redis.NewClient(&options)
}

// Open implements Store.
func (o Redis) Open(ctx context.Context) (Session, error) {
	c := o.client()
	if err := c.Ping(ctx).Err(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return redisSession{c}, nil
}

// Insert implements Session.
func (s redisSession) Insert(ctx context.Context, r Row) error {
	return s.Set(ctx, Key(r), "x", 0).Err()
}

// Close implements Session.
func (s redisSession) Close() { _ = s.Client.Close() }

// Rows implements Store.
func (o Redis) Rows(ctx context.Context) (map[Row]bool, error) {
	c := o.client()
	defer c.Close()
	there := map[Row]bool{}
	keys := c.Scan(ctx, 0, keyPrefix+"*", 10_000).Iterator()
	for keys.Next(ctx) {
		writer, n, _ := strings.Cut(strings.TrimPrefix(keys.Val(), keyPrefix), ":")
		w, errW := strconv.Atoi(writer)
		i, errN := strconv.ParseInt(n, 10, 64)
		if errW != nil || errN != nil {
			return nil, fmt.Errorf("key %q is no insert", keys.Val())
		}
		there[Row{w, i}] = true
	}
	return there, keys.Err()
}
