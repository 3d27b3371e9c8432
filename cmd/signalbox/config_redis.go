package main

import (
	"fmt"
	"path/filepath"

	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// RedisConfig is a Redis server that an agent drives.
type RedisConfig struct {
	Address   string            `yaml:"address" doc:"how the driver reaches its server: host:port or a socket's path; default: the instance's address"`
	File      string            `yaml:"file" required:"true" doc:"the server's configuration file; a replicaof line is kept in it, and the server must be able to rewrite it"`
	Server    string            `yaml:"server" doc:"the program (default /usr/bin/redis-server)"`
	Login     RedisLoginConfig  `yaml:"login" doc:"how the driver logs in to its server"`
	Replicate *RedisLoginConfig `yaml:"replicate" doc:"how servers and drivers log in to the other servers; default: login"`
	Replicas  int               `yaml:"replicas" doc:"how many replicas have to be there for a planned step-down, 0 to 16 (default 0); those that are there always have to have everything"`
	User      string            `yaml:"user" doc:"whom the server runs as, when the agent runs as root"`

	MaxLag  string `yaml:"max_lag" doc:"how far a replica may be behind and be ready, as 16MiB (the default)"`
	MaxLoss string `yaml:"max_loss" doc:"how much a failover may lose, as 0B or 1MiB; default: any amount"`
	MinFree string `yaml:"min_free" doc:"room that its disk must have, as 256MiB (the default)"`
}

// RedisLoginConfig is a user of Redis servers, and TLS.
type RedisLoginConfig struct {
	User         string `yaml:"user" doc:"ACL user; default: the default user"`
	PasswordFile string `yaml:"password_file" doc:"file with the password, read at each connect"`
	CA           string `yaml:"ca" doc:"PEM file of who signed the servers' certificates; switches TLS on"`
	Cert         string `yaml:"cert" doc:"PEM file of the certificate that is shown to servers"`
	Key          string `yaml:"key" doc:"PEM file of its key"`
	ServerName   string `yaml:"server_name" doc:"name in the servers' certificates, where it is not the address's host"`
}

// redisDriver makes the driver of a Redis instance.
func (c *AgentConfig) redisDriver(in InstanceConfig, log zerolog.Logger) (*redis.Driver, error) {
	r := in.Redis
	dir, err := filepath.Abs(filepath.Join(c.State, in.Service, in.Name, "redis"))
	if err != nil {
		return nil, err
	}
	file, err := filepath.Abs(resolve(c.file, r.File))
	if err != nil {
		return nil, err
	}
	cfg := redis.Config{
		Name: in.Name, Address: r.Address, File: file, State: dir, Server: r.Server, Login: r.Login.login(c.file), Replicas: r.Replicas,
		Log: log.With().Str("service", in.Service).Str("instance", in.Name).Logger(),
	}
	if cfg.Address == "" {
		cfg.Address = in.Address
	}
	if r.Replicate != nil {
		l := r.Replicate.login(c.file)
		cfg.Replicate = &l
	}
	var loss uint64
	for _, s := range []struct {
		name, text string
		to         *uint64
	}{{"max_lag", r.MaxLag, &cfg.MaxLag}, {"min_free", r.MinFree, &cfg.MinFree}, {"max_loss", r.MaxLoss, &loss}} {
		if s.text == "" {
			continue
		}
		if *s.to, err = parseSize(s.text); err != nil {
			return nil, fmt.Errorf("redis.%s: %w", s.name, err)
		}
	}
	if r.MaxLoss != "" {
		cfg.MaxLoss = &loss
	}
	if r.User != "" {
		as, err := credential(r.User)
		if err != nil {
			return nil, fmt.Errorf("redis.user: %w", err)
		}
		cfg.As = warden.As(as)
	}
	if cfg.Warden, err = warden.New(filepath.Join(dir, "warden"), nil); err != nil {
		return nil, err
	}
	logging.Disable() // what matters is in the driver's errors
	return redis.New(cfg)
}

// login resolves the files against the configuration file's folder.
func (l RedisLoginConfig) login(file string) redis.Login {
	out := redis.Login{User: l.User, ServerName: l.ServerName}
	for _, p := range []struct {
		from string
		to   *string
	}{{l.PasswordFile, &out.PasswordFile}, {l.CA, &out.CA}, {l.Cert, &out.Cert}, {l.Key, &out.Key}} {
		if p.from != "" {
			*p.to = resolve(file, p.from)
		}
	}
	return out
}
