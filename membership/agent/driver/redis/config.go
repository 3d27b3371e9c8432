package redis

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Config is how one server is driven. New checks it and fills the defaults in.
type Config struct {
	// Name is the instance's, for people.
	Name string
	// Address is where the driver reaches its server: host:port, or the absolute
	// path of a Unix socket.
	Address string
	// File is the server's configuration file, absolute. The driver keeps a
	// replicaof line in it, and the server rewrites it (CONFIG REWRITE).
	File string
	// State is a directory of the driver's own.
	State string
	// Server is the program. Default: /usr/bin/redis-server.
	Server string
	// Login is how the driver logs in to its own server.
	Login Login
	// Replicate is how servers log in to each other: this one to its master, and
	// the driver to the replicas and the master. Default: Login.
	Replicate *Login
	// Replicas is how many replicas have to be there for a planned step-down. Those
	// that are there, and less than MaxLag behind, always have to have everything.
	Replicas int
	// MaxLag is how many bytes a replica may be behind and count as ready.
	// Default: 16 MiB.
	MaxLag uint64
	// MaxLoss is how many bytes a failover may lose; nil: any number.
	MaxLoss *uint64
	// MinFree is how much room the disk must have, in bytes. Default: 256 MiB.
	MinFree uint64
	// As is whom the server runs as; nil: as this process.
	As *warden.User
	// Warden starts the server and ends it when its lease ends.
	Warden *warden.Client
	// Log is where the driver tells what it does.
	Log zerolog.Logger
}

// Login is how to reach servers.
type Login struct {
	// User is the ACL user; "" for the default user.
	User string
	// PasswordFile holds the password, read at each connect; "" for none.
	PasswordFile string
	// TLS: CA verifies the server and switches TLS on; Cert and Key, where given,
	// are shown to it. PEM files. ServerName is the name to verify, where it is
	// not the address's.
	CA, Cert, Key string
	ServerName    string
}

const (
	// MaxReplicas is the largest number of replicas to wait for.
	MaxReplicas = 16
	// dialTimeout bounds one attempt to connect, ioTimeout one answer.
	dialTimeout = time.Second
	ioTimeout   = 2 * time.Second
)

func (c *Config) defaults() {
	if c.Server == "" {
		c.Server = "/usr/bin/redis-server"
	}
	if c.Replicate == nil {
		c.Replicate = &c.Login
	}
	if c.MaxLag == 0 {
		c.MaxLag = 16 << 20
	}
	if c.MinFree == 0 {
		c.MinFree = 256 << 20
	}
}

func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{signalbox.ErrInvalid}, args...)...))
	}
	for what, path := range map[string]string{"file": c.File, "state": c.State, "server": c.Server} {
		if !filepath.IsAbs(path) {
			bad("%s %q: want an absolute path", what, path)
		}
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil && !filepath.IsAbs(c.Address) {
		bad("address %q: want host:port, or the absolute path of a socket", c.Address)
	}
	if c.Replicas < 0 || c.Replicas > MaxReplicas {
		bad("%d replicas: want 0 to %d", c.Replicas, MaxReplicas)
	}
	if c.Warden == nil {
		bad("no warden")
	}
	for what, l := range map[string]Login{"login": c.Login, "replicate": *c.Replicate} {
		if (l.Cert == "") != (l.Key == "") || l.CA == "" && l.Cert != "" {
			bad("%s: TLS wants a ca, and cert and key both or neither", what)
		}
		if strings.ContainsAny(l.User, " \r\n\"'\\") {
			bad("%s: user %q: want no blanks or quotes", what, l.User)
		}
	}
	return errors.Join(errs...)
}
