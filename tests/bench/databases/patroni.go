package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres/pgtest"
)

// patroni is Debian's Patroni with etcd, and what stands before it.
type patroni struct {
	name string
	// Patroni's times in seconds, and HAProxy's health check.
	ttl, loop, retry int
	check            string
	pause            bool // clients go through pgbouncer, which is paused for the switch
}

// peers are the peers. The first is as Patroni's documentation has it
// (docs/replication_modes and haproxy.cfg of its repository); the second has the
// smallest times that it takes.
var peers = []patroni{
	{name: "patroni + haproxy", ttl: 30, loop: 10, retry: 10, check: "inter 3s fall 3 rise 2"},
	{name: "patroni + haproxy, tuned", ttl: 20, loop: 1, retry: 3, check: "inter 100ms fall 1 rise 1"},
	{name: "patroni + pgbouncer PAUSE", ttl: 20, loop: 1, retry: 3, check: "inter 100ms fall 1 rise 1", pause: true},
}

// cluster is one peer that runs.
type cluster struct {
	patroni
	lab       *pgtest.Lab
	processes []*exec.Cmd
	ports     map[string]int
}

func (p patroni) run(ctx context.Context, n int, each func(database.Switch)) (r database.Result, err error) {
	c := &cluster{patroni: p, ports: map[string]int{}}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.start(ctx); err != nil {
		return r, err
	}
	l := inserts.Start(inserts.Config{Store: inserts.Postgres(c.dsn(c.front()))})
	defer l.Stop()
	master := demo.East
	for range n {
		to := demo.West
		if master == demo.West {
			to = demo.East
		}
		s, err := c.one(ctx, l, master, to)
		if err != nil {
			return r, err
		}
		r.Switches = append(r.Switches, s)
		each(s)
		master = to
	}
	l.Stop()
	r.Total = l.Total()
	r.Lost, err = l.Check(ctx, inserts.Postgres(c.dsn(master)))
	return r, err
}

func (c *cluster) front() string {
	if c.pause {
		return "pgbouncer"
	}
	return "haproxy"
}

func (c *cluster) dsn(who string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres default_query_exec_mode=exec %s", c.ports[who], c.lab.Replicate())
}

func (c *cluster) start(ctx context.Context) (err error) {
	if c.lab, err = pgtest.Open(""); err != nil {
		return err
	}
	for _, name := range []string{"etcd", "etcd-peer", demo.East, demo.West, "rest-east", "rest-west", "haproxy", "pgbouncer"} {
		if c.ports[name], err = c.lab.Port(); err != nil {
			return err
		}
	}
	url := func(name string) string { return fmt.Sprintf("http://127.0.0.1:%d", c.ports[name]) }
	err = c.spawn("etcd", "etcd", "--data-dir", c.path("etcd-data"), "--enable-v2", "--listen-client-urls", url("etcd"), "--advertise-client-urls", url("etcd"),
		"--listen-peer-urls", url("etcd-peer"), "--initial-advertise-peer-urls", url("etcd-peer"), "--initial-cluster", "default="+url("etcd-peer"))
	if err != nil {
		return err
	}
	for _, dc := range demo.DataCenters() {
		if err := c.write(dc+".yaml", c.node(dc)); err != nil {
			return err
		}
		if err := c.spawn("patroni-"+dc, "patroni", c.path(dc+".yaml")); err != nil {
			return err
		}
		if err := c.role(ctx, dc); err != nil {
			return err
		}
	}
	if err := c.write("haproxy.cfg", c.haproxy()); err != nil {
		return err
	}
	if err := c.spawn("haproxy", "haproxy", "-db", "-f", c.path("haproxy.cfg")); err != nil {
		return err
	}
	if c.pause {
		if err := c.write("users.txt", fmt.Sprintf("\"signalbox\" \"%s\"\n", pgtest.Password)); err != nil {
			return err
		}
		if err := c.write("pgbouncer.ini", c.pgbouncer()); err != nil {
			return err
		}
		if err := c.spawn("pgbouncer", "pgbouncer", c.path("pgbouncer.ini")); err != nil {
			return err
		}
	}
	return demo.Await(ctx, "the table", func(ctx context.Context) error { return c.exec(ctx, c.dsn(c.front()), inserts.Schema) })
}

// role waits until a node has the role that it starts with: east leads.
func (c *cluster) role(ctx context.Context, dc string) error {
	path := "/replica"
	if dc == demo.East {
		path = "/primary"
	}
	return c.answers(ctx, dc, path)
}

// answers waits until a node's REST interface says yes.
func (c *cluster) answers(ctx context.Context, dc, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return demo.Await(ctx, dc+" to answer "+path, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", c.ports["rest-"+dc], path), nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (c *cluster) node(dc string) string {
	return fmt.Sprintf(`scope: bench
name: %[1]s
restapi: {listen: "127.0.0.1:%[2]d", connect_address: "127.0.0.1:%[2]d"}
etcd: {host: "127.0.0.1:%[3]d"}
bootstrap:
  dcs:
    ttl: %[4]d
    loop_wait: %[5]d
    retry_timeout: %[6]d
    maximum_lag_on_failover: 1048576
    postgresql: {use_pg_rewind: true, parameters: {max_connections: 100, shared_buffers: 16MB}}
  initdb: [encoding: UTF8, locale: C, data-checksums]
  pg_hba: ["host all,replication signalbox 127.0.0.1/32 scram-sha-256"]
postgresql:
  listen: "127.0.0.1:%[7]d"
  connect_address: "127.0.0.1:%[7]d"
  data_dir: %[8]q
  bin_dir: %[9]q
  pgpass: %[10]q
  authentication:
    superuser: {username: signalbox, password: %[11]s}
    replication: {username: signalbox, password: %[11]s}
    rewind: {username: signalbox, password: %[11]s}
  parameters: {unix_socket_directories: "", password_encryption: scram-sha-256}
`, dc, c.ports["rest-"+dc], c.ports["etcd"], c.ttl, c.loop, c.retry, c.ports[dc], c.path("data-"+dc), c.lab.Bin, c.path("pgpass-"+dc), pgtest.Password)
}

func (c *cluster) haproxy() string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n  maxconn 100\ndefaults\n  log global\n  mode tcp\n  retries 2\n  timeout client 30m\n  timeout connect 4s\n  timeout server 30m\n  timeout check 5s\n")
	fmt.Fprintf(&b, "listen bench\n  bind 127.0.0.1:%d\n  option httpchk OPTIONS /primary\n  http-check expect status 200\n  default-server %s on-marked-down shutdown-sessions\n", c.ports["haproxy"], c.check)
	for _, dc := range demo.DataCenters() {
		fmt.Fprintf(&b, "  server %s 127.0.0.1:%d maxconn 100 check port %d\n", dc, c.ports[dc], c.ports["rest-"+dc])
	}
	return b.String()
}

func (c *cluster) pgbouncer() string {
	return fmt.Sprintf("[databases]\npostgres = host=127.0.0.1 port=%d dbname=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = plain\n"+
		"auth_file = %s\nadmin_users = signalbox\npool_mode = transaction\nserver_login_retry = 1\nignore_startup_parameters = extra_float_digits\n",
		c.ports["haproxy"], c.ports["pgbouncer"], c.path("users.txt"))
}

// one makes one switch as an operator does.
func (c *cluster) one(ctx context.Context, l *inserts.Load, from, to string) (database.Switch, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := c.answers(ctx, to, "/replica?lag=1MB"); err != nil {
		return database.Switch{}, err
	}
	// Patroni would promote a replica that does not stream yet, and lose what it lacks.
	if err := demo.Await(ctx, to+" to stream", func(ctx context.Context) error { return c.streams(ctx, from) }); err != nil {
		return database.Switch{}, err
	}
	if err := l.Flows(ctx, time.Now(), 100); err != nil {
		return database.Switch{}, err
	}
	before := time.Now().Add(-100 * time.Millisecond)
	admin := strings.Replace(c.dsn("pgbouncer"), "dbname=postgres default_query_exec_mode=exec", "dbname=pgbouncer default_query_exec_mode=simple_protocol", 1)
	if c.pause {
		if err := c.exec(ctx, admin, "PAUSE"); err != nil {
			return database.Switch{}, err
		}
	}
	cmd := exec.CommandContext(ctx, "patronictl", "-c", c.path(from+".yaml"), "switchover", "bench", "--master", from, "--candidate", to, "--force")
	out, err := cmd.CombinedOutput()
	if c.pause {
		err = errors.Join(err, c.exec(ctx, admin, "RESUME"))
	}
	if err != nil {
		return database.Switch{}, fmt.Errorf("patronictl switchover: %w: %s", err, out)
	}
	if err := c.answers(ctx, to, "/primary"); err != nil {
		return database.Switch{}, err
	}
	if err := l.Flows(ctx, time.Now(), 100); err != nil {
		return database.Switch{}, err
	}
	return database.Switch{From: from, To: to, Outcome: "forward", Stats: l.Between(before, time.Now())}, nil
}

// streams returns nil when a standby streams from a node.
func (c *cluster) streams(ctx context.Context, from string) error {
	return c.exec(ctx, c.dsn(from), "select 1 / count(*) from pg_stat_replication where state = 'streaming' and replay_lsn is not null")
}

func (c *cluster) exec(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(ctx, sql)
	return err
}

func (c *cluster) path(name string) string { return filepath.Join(c.lab.Dir, name) }

func (c *cluster) write(name, text string) error {
	if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
		return err
	}
	if c.lab.As == nil {
		return nil
	}
	return os.Chown(c.path(name), int(c.lab.As.Uid), int(c.lab.As.Gid))
}

// spawn starts a program as the lab's user; it dies with this process.
func (c *cluster) spawn(name, program string, args ...string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: as root: apt-get install patroni pgbouncer etcd-server haproxy", err)
	}
	log, err := os.Create(c.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, c.lab.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.lab.As, Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.processes = append(c.processes, cmd)
	return nil
}

// close ends the programs, those started last first, and the servers.
func (c *cluster) close() error {
	for i := len(c.processes) - 1; i >= 0; i-- {
		cmd := c.processes[i]
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	}
	if c.lab == nil {
		return nil
	}
	return c.lab.Close()
}
