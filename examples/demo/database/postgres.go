// Package database runs a site whose service is a real database: a server with
// its agent in each data center, and Envoys that hold and release the clients'
// connections. The demo and the benchmarks share it.
//
// It guarantees that servers, wardens and everything else it started are gone
// when Close returns.
package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Service is the name of the database's service.
const Service = "ledger"

// Options say how the site is.
type Options struct {
	Binaries demo.Binaries
	// Stop is how the servers stop. Default: postgres.Fast.
	Stop postgres.Mode
	// HoldBudget of the service; 0 is the gateway's default.
	HoldBudget time.Duration
	LogLevel   string
	Keep       bool
	Notice     func(line string)
}

// Postgres is a site with a PostgreSQL server in each data center. East is the
// first master.
type Postgres struct {
	*demo.Site
	opts  Options
	lab   *pgtest.Lab
	nodes map[string]*pgtest.Node // by data center
}

func instance(dc string) string { return Service + "-" + dc }

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
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL site: %w", err), p.Close())
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context) (err error) {
	p.opts.Notice("making a database cluster with initdb")
	if p.lab, err = pgtest.Open(""); err != nil {
		return err
	}
	p.Site, err = demo.Start(ctx, demo.Options{
		Binaries: p.opts.Binaries, Gateways: 1, Empty: true, LogLevel: p.opts.LogLevel, Notice: p.opts.Notice, Keep: p.opts.Keep,
		More: []demo.MoreService{{Name: Service, Protocol: "tcp", Listen: true, HoldBudget: p.opts.HoldBudget}},
	})
	if err != nil {
		return err
	}
	for _, dc := range demo.DataCenters() {
		if p.nodes[dc], err = p.lab.Primary(instance(dc)); err != nil {
			return err
		}
	}
	east := p.nodes[demo.East]
	p.opts.Notice("starting PostgreSQL in east, as it ran before")
	if _, err := p.lab.Run(ctx, "pg_ctl", "-D", east.Data, "-o", fmt.Sprintf("-c port=%d", east.Port), "-l", east.Data+".log", "-w", "start"); err != nil {
		return err
	}
	if err := p.exec(ctx, east.DSN(), inserts.Schema); err != nil {
		return err
	}
	for _, dc := range demo.DataCenters() {
		if err := p.AddDriven("agent-"+dc, dc, p.yaml(dc)); err != nil {
			return err
		}
		if _, err := p.AddEnvoy(dc, "envoy-"+dc, nil); err != nil {
			return err
		}
	}
	p.opts.Notice("adopting the running server; the other data center's becomes its standby")
	if err := p.Adopt(ctx, Service, demo.East); err != nil {
		return err
	}
	return p.Settled(ctx, demo.East)
}

// yaml is the agent's entry of a data center's server.
func (p *Postgres) yaml(dc string) string {
	n := p.nodes[dc]
	user := ""
	if p.lab.As != nil {
		user = "  user: " + pgtest.UserName(p.lab.As) + "\n"
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

func other(dc string) string {
	if dc == demo.East {
		return demo.West
	}
	return demo.East
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

// Settled waits until dc serves and the other data center could be switched to.
func (p *Postgres) Settled(ctx context.Context, dc string) error {
	return demo.Await(ctx, Service+" to be ready for the next switch", func(ctx context.Context) error {
		v, err := p.API().Service(ctx, Service)
		if err != nil {
			return err
		}
		if v.State != api.StateSteady || v.Master != dc {
			return fmt.Errorf("%s is %s with master %q, waiting for %v", Service, v.State, v.Master, v.Waiting)
		}
		for _, site := range v.DataCenters {
			if !site.Master && !site.Target {
				return fmt.Errorf("a switch to %s is not possible: %v", site.DataCenter, site.Problems)
			}
		}
		return p.standby(ctx, dc)
	})
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

// SwitchTo moves the service and returns the record when it is over.
func (p *Postgres) SwitchTo(ctx context.Context, to string) (api.Handover, error) {
	h, err := p.API().Switch(ctx, client.NewKey(), api.SwitchRequest{Service: Service, To: to, Reason: "demo"})
	if err != nil {
		return h, err
	}
	return p.Follow(ctx, h.ID)
}

// Close ends everything: the agents, the servers, and then their wardens.
func (p *Postgres) Close() error {
	var errs []error
	var wardens []string
	if p.Site != nil {
		for _, dc := range demo.DataCenters() {
			wardens = append(wardens, filepath.Join(p.StatePath("agent-"+dc), Service, instance(dc), "postgres", "warden"))
			_ = p.Down("agent-"+dc, 9) // or it would start the server again
		}
	}
	if p.lab != nil {
		errs = append(errs, p.lab.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, dir := range wardens {
		if w, err := warden.New(dir, nil); err == nil {
			errs = append(errs, demo.Await(ctx, "the end of a warden", w.Quit))
		}
	}
	if p.Site != nil {
		errs = append(errs, p.Site.Close())
	}
	return errors.Join(errs...)
}
