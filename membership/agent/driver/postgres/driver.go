package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// Driver drives one server. Safe for concurrent use.
type Driver struct {
	cfg   Config
	tools tools

	turn   managed.Turn // of who carries out an order
	orders *session     // of who has the turn
	watch  *session     // of Status and Ready
	stream *stream
	mem    *managed.Memory[memory]
	lease  managed.Lease
	slots  managed.Pace // of moving a standby's slots on

	mu   sync.Mutex // guards what follows
	up   *session   // to the primary that is followed
	seen sight      // the primary's log when it was last looked at
}

// sight is how far a primary's log reached at a moment.
type sight struct {
	lsn LSN
	at  time.Time
}

var (
	_ driver.Driver   = (*Driver)(nil)
	_ driver.Quieter  = (*Driver)(nil)
	_ driver.Preparer = (*Driver)(nil)
	_ driver.Follower = (*Driver)(nil)
	_ driver.Leaser   = (*Driver)(nil)
)

// New returns the driver of a server, which may run or not. It connects nowhere
// and starts nothing yet; it makes the state directory.
func New(cfg Config) (*Driver, error) {
	cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("postgres driver: %w", err)
	}
	cfg.Connect, cfg.Replicate = cfg.Connect+cfg.TLS.Conninfo(), cfg.Replicate+cfg.TLS.Conninfo()
	if _, err := os.Stat(filepath.Join(cfg.Data, "PG_VERSION")); err != nil {
		return nil, fmt.Errorf("postgres driver: %s is no data directory: %w", cfg.Data, err)
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return nil, fmt.Errorf("postgres driver: %w", err)
	}
	mem, err := managed.OpenMemory[memory](filepath.Join(cfg.State, memoryFile))
	if err != nil {
		return nil, fmt.Errorf("postgres driver: %w", err)
	}
	d := &Driver{
		cfg: cfg, mem: mem, turn: managed.NewTurn(),
		tools:  tools{bin: cfg.Bin, data: cfg.Data, as: cfg.As},
		orders: newSession(cfg.Connect), watch: newSession(cfg.Connect), stream: newStream(cfg.Connect),
	}
	d.followed(mem.Get().Upstream)
	return d, nil
}

// followed keeps a session to the primary that is followed; "" for none.
func (d *Driver) followed(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.up
	d.up, d.seen = nil, sight{}
	if address != "" {
		if conninfo, err := d.conninfo(address); err == nil {
			d.up = newSession(conninfo + " dbname=postgres")
		}
	}
	if old != nil {
		go old.close(context.Background()) // a session that hangs holds nobody up
	}
}

// conninfo is how the server at an address is reached.
func (d *Driver) conninfo(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%w: master's address %q: %w", signalbox.ErrInvalid, address, err)
	}
	return fmt.Sprintf("host=%s port=%s connect_timeout=5 %s", host, port, d.cfg.Replicate), nil
}

// Status implements driver.Driver.
func (d *Driver) Status(ctx context.Context) (driver.Status, error) {
	p, err := findPostmaster(d.cfg.Data)
	if err != nil {
		return driver.Status{}, err
	}
	var status driver.Status
	if p == nil || p.pid == 0 {
		status.Term = d.mem.Get().Term
		return status, nil
	}
	status.Run = p.run()
	d.unfreeze(p)
	var recovery bool
	err = d.watch.use(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, `select pg_is_in_recovery(), (select count(*) from pg_stat_activity
			where backend_type = 'client backend' and state not in ('idle', 'disabled') and application_name <> $1)`, application).
			Scan(&recovery, &status.InFlight)
	})
	status.Term = d.mem.Get().Term // after the look: it is noted before the server opens
	if starting(err) {
		return status, nil
	}
	if err != nil {
		if now, again := findPostmaster(d.cfg.Data); again == nil && (now == nil || now.pid == 0) {
			return driver.Status{Term: status.Term}, nil // it ended meanwhile
		}
		return driver.Status{}, err
	}
	status.Master = !recovery
	return status, nil
}

// unfreeze has a server go on that a driver froze which was killed before it
// could stop it; nothing was signed then.
func (d *Driver) unfreeze(p *postmaster) {
	if !p.frozen() {
		return
	}
	if d.turn.Try() { // else an order is being carried out
		defer d.turn.Give()
		p.thaw()
	}
}

// Quiet implements driver.Quieter. Sessions stay while transactions come and go,
// so there is nothing to wait for: StepDown lets each end.
func (d *Driver) Quiet(context.Context, time.Duration, time.Duration) {}

// Stop implements driver.Driver. The server goes on.
func (d *Driver) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	d.orders.close(ctx)
	d.watch.close(ctx)
	d.stream.close(ctx)
	d.followed("")
	return nil
}

// errOpen is returned where a server that is primary must not be.
var errOpen = errors.New("the server is primary: step it down first")

// Loss is what the last rewind of this server took back; nil when it was never
// rewound.
func (d *Driver) Loss() *Loss { return d.mem.Get().Loss }
