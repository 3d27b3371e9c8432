package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// Options say how the site is.
type Options struct {
	Binaries demo.Binaries
	// Stop is how PostgreSQL servers stop. Default: postgres.Fast.
	Stop postgres.Mode
	// HoldBudget of the service; 0 is the gateway's default.
	HoldBudget time.Duration
	// Failover is the service's failover in the gateways' configuration, YAML in
	// one line. With it there is a third data center, each has a voter, and the
	// servers run under their wardens from the first start on.
	Failover string
	// More is added to the driver's configuration of each server, "key: value"
	// lines; empty for none.
	More     []string
	LogLevel string
	Keep     bool
	Notice   func(line string)
}

// Postgres is a site with a PostgreSQL server in each data center.
type Postgres struct {
	*Database
	opts  Options
	lab   *pgtest.Lab
	nodes map[string]*pgtest.Node // by data center
}

// StartPostgres starts a site, a server that runs in east as it did before
// Signalbox was there, and a standby in west; the service is adopted.
func StartPostgres(ctx context.Context, opts Options) (*Postgres, error) {
	if opts.Stop == "" {
		opts.Stop = postgres.Fast
	}
	if opts.Notice == nil {
		opts.Notice = func(string) {}
	}
	p := &Postgres{opts: opts, nodes: map[string]*pgtest.Node{}}
	p.Database = &Database{server: p, stop: string(opts.Stop), opts: opts, notice: opts.Notice}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL site: %w", err), p.Close())
	}
	return p, nil
}

func (o Options) site() demo.Options {
	return demo.Options{Binaries: o.Binaries, LogLevel: o.LogLevel, Keep: o.Keep, North: o.Failover != ""}
}

func (p *Postgres) kind() string { return "postgres" }

func (p *Postgres) open() (err error) {
	p.notice("making a database cluster with initdb")
	if p.lab, err = pgtest.Open(""); err != nil {
		return err
	}
	for _, dc := range demo.DataCenters() {
		if p.nodes[dc], err = p.lab.Primary(instance(dc)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Postgres) begin(ctx context.Context) error {
	east := p.nodes[demo.East]
	if _, err := p.lab.Run(ctx, "pg_ctl", "-D", east.Data, "-o", fmt.Sprintf("-c port=%d", east.Port), "-l", east.Data+".log", "-w", "start"); err != nil {
		return err
	}
	if err := p.exec(ctx, east.DSN(), inserts.Schema); err != nil || p.opts.Failover == "" {
		return err
	}
	_, err := p.lab.Run(ctx, "pg_ctl", "-D", east.Data, "-w", "stop")
	return err
}

func (p *Postgres) pid(dc string) int { return p.nodes[dc].PID() }

func (p *Postgres) close() error {
	if p.lab == nil {
		return nil
	}
	return p.lab.Close()
}

func (p *Postgres) store(dc string) inserts.Store {
	if dc == "" {
		return inserts.Postgres(p.DSN())
	}
	return inserts.Postgres(p.Direct(dc))
}

// yaml is the agent's entry of a data center's server.
func (p *Postgres) yaml(dc string) string {
	n := p.nodes[dc]
	user := ""
	if p.lab.As != nil {
		user = "  user: " + pgtest.UserName(p.lab.As) + "\n"
	}
	for _, line := range p.opts.More {
		user = "  " + line + "\n" + user
	}
	return fmt.Sprintf(`service: %s
name: %s
address: %s
driver: postgres
postgres:
  data: %q
  bin: %q
  connect: %q
  replicate: %q
  options: [port=%d]
  standbys: [%s]
  stop: %s
  min_free: 64MiB
%s`, Service, n.Name, n.Address(), n.Data, p.lab.Bin, n.DSN(), p.lab.Replicate(), n.Port, instance(other(dc)), p.opts.Stop, user)
}

// DSN is how clients reach the service, through the proxies.
func (p *Postgres) DSN() string {
	_, port, _ := net.SplitHostPort(p.ListenerOf(Service)) // it is the site's own
	return "host=127.0.0.1 port=" + port + " dbname=postgres " + p.lab.Replicate()
}

// Direct is how a data center's own server is reached.
func (p *Postgres) Direct(dc string) string { return p.nodes[dc].DSN() }

func (p *Postgres) exec(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, sql)
	return err
}

// standby returns nil when the other data center's server streams from dc's.
func (p *Postgres) standby(ctx context.Context, dc string) error {
	conn, err := pgx.Connect(ctx, p.Direct(dc))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	var streaming int
	if err := conn.QueryRow(ctx, "select count(*) from pg_stat_replication where state = 'streaming' and replay_lsn is not null").Scan(&streaming); err != nil {
		return err
	}
	if streaming == 0 {
		return errors.New("no standby streams")
	}
	return nil
}
