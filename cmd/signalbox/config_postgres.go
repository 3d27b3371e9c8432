package main

import (
	"fmt"
	"math"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	driverhttp "github.com/signalbox-io/signalbox/membership/agent/driver/http"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// PostgresConfig is a PostgreSQL server that an agent drives.
type PostgresConfig struct {
	Data      string             `yaml:"data" required:"true" doc:"data directory"`
	Bin       string             `yaml:"bin" doc:"directory of PostgreSQL's programs (default /usr/lib/postgresql/15/bin)"`
	Connect   string             `yaml:"connect" required:"true" doc:"how the driver connects to its server, as host=/run/postgresql user=signalbox dbname=postgres; a superuser; passwords belong into a passfile"`
	Replicate string             `yaml:"replicate" doc:"what is added to the master's address to follow it, as user=signalbox passfile=/etc/signalbox/pgpass"`
	TLS       *PostgresTLSConfig `yaml:"tls" doc:"encryption between servers, and from the driver to its server; a socket needs none"`
	Options   []string           `yaml:"options" doc:"settings for the server's command line, name=value; config_file=... where that is not in the data directory"`
	Standbys  []string           `yaml:"standbys" doc:"names of the service's other instances; a slot is kept for each"`
	User      string             `yaml:"user" doc:"whom the server runs as, when the agent runs as root"`

	Stop            string   `yaml:"stop" enum:"fast,clean" doc:"how it stops: fast (killed once the standby has everything) or clean (with a shutdown checkpoint); default fast"`
	Transactions    string   `yaml:"transactions" enum:"wait,cancel,abort" doc:"what becomes of running ones at a switch: wait until the deadline, cancel after half of it, or abort the switch when one is long; default wait"`
	LongTransaction Duration `yaml:"long_transaction" doc:"age from which a transaction is named (default 1s)"`
	MaxLag          string   `yaml:"max_lag" doc:"how far a standby may be behind and be ready, as 16MiB (the default)"`
	MaxLoss         string   `yaml:"max_loss" doc:"how much a failover may lose, as 0B or 1MiB; default: any amount"`
	MinFree         string   `yaml:"min_free" doc:"room that its disks must have, as 256MiB (the default)"`
}

// PostgresTLSConfig is how connections to PostgreSQL servers are encrypted.
type PostgresTLSConfig struct {
	Mode string `yaml:"mode" enum:"verify-full,verify-ca" doc:"verify-full: the certificate is for the host in the server's address; verify-ca: any of that CA; default verify-full"`
	CA   string `yaml:"ca" required:"true" doc:"PEM file of who signed the servers' certificates"`
	Cert string `yaml:"cert" doc:"PEM file of the certificate that is shown to servers, also by this server when it follows"`
	Key  string `yaml:"key" doc:"PEM file of its key, which belongs to the user that the server runs as"`
}

// driver makes the driver of an instance.
func (c *AgentConfig) driver(in InstanceConfig, log zerolog.Logger) (driver.Driver, error) {
	switch in.Driver {
	case "http":
		return driverhttp.New(in.Base)
	case "exec":
		return c.execDriver(in, log)
	case "redis":
		return c.redisDriver(in, log)
	}
	p := in.Postgres
	dir := filepath.Join(c.State, in.Service, in.Name, "postgres")
	cfg := postgres.Config{
		Name: in.Name, Data: resolve(c.file, p.Data), Bin: p.Bin, State: dir, Connect: p.Connect, Replicate: p.Replicate, Options: p.Options,
		Standbys: p.Standbys, Stop: postgres.Mode(p.Stop), Transactions: postgres.Policy(p.Transactions),
		LongTransaction: time.Duration(p.LongTransaction), Log: log.With().Str("service", in.Service).Str("instance", in.Name).Logger(),
	}
	var err error
	if cfg.State, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		name, text string
		to         *uint64
	}{{"max_lag", p.MaxLag, &cfg.MaxLag}, {"min_free", p.MinFree, &cfg.MinFree}} {
		if s.text == "" {
			continue
		}
		if *s.to, err = parseSize(s.text); err != nil {
			return nil, fmt.Errorf("postgres.%s: %w", s.name, err)
		}
	}
	if p.MaxLoss != "" {
		most, err := parseSize(p.MaxLoss)
		if err != nil {
			return nil, fmt.Errorf("postgres.max_loss: %w", err)
		}
		cfg.MaxLoss = &most
	}
	if t := p.TLS; t != nil {
		cfg.TLS = &postgres.TLS{Mode: t.Mode}
		if err := t.files(c.file, cfg.TLS); err != nil {
			return nil, err
		}
	}
	if p.User != "" {
		if cfg.As, err = credential(p.User); err != nil {
			return nil, fmt.Errorf("postgres.user: %w", err)
		}
	}
	w, err := warden.New(filepath.Join(dir, "warden"), nil)
	if err != nil {
		return nil, err
	}
	cfg.Launch = postgres.Warded{Client: w}
	return postgres.New(cfg)
}

// files resolves the files against the configuration file's folder; the server
// reads them too, from another directory.
func (t *PostgresTLSConfig) files(file string, to *postgres.TLS) (err error) {
	for _, p := range []struct {
		from string
		to   *string
	}{{t.CA, &to.CA}, {t.Cert, &to.Cert}, {t.Key, &to.Key}} {
		if p.from == "" {
			continue
		}
		if *p.to, err = filepath.Abs(resolve(file, p.from)); err != nil {
			return err
		}
	}
	return nil
}

// credential is the user and the groups that a name stands for.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	all, err := u.GroupIds() // Debian's certificate keys are readable for a group of their own
	if err != nil {
		return nil, err
	}
	for _, text := range all {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(id))
		}
	}
	return c, nil
}

// parseSize reads bytes with their unit. A bare number is refused: its unit would
// be a guess.
func parseSize(s string) (uint64, error) {
	for i, unit := range []string{"B", "KiB", "MiB", "GiB", "TiB"} {
		text, ok := strings.CutSuffix(s, unit)
		if !ok || i == 0 && strings.HasSuffix(s, "iB") {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n > math.MaxUint64>>(10*i) {
			break
		}
		return n << (10 * i), nil
	}
	return 0, fmt.Errorf("bad size %q: want a number with a unit, as 0B, 64KiB, 16MiB or 1GiB", s)
}
