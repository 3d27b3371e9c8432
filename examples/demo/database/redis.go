package database

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis/redistest"
)

// Redis is a site with a Redis server in each data center.
type Redis struct {
	*Database
	lab   *redistest.Lab
	nodes map[string]*redistest.Node // by data center
}

// StartRedis starts a site, a server that runs in east as it did before Signalbox
// was there, and a replica in west; the service is adopted.
func StartRedis(ctx context.Context, opts Options) (*Redis, error) {
	if opts.Notice == nil {
		opts.Notice = func(string) {}
	}
	r := &Redis{nodes: map[string]*redistest.Node{}}
	r.Database = &Database{server: r, opts: opts, notice: opts.Notice}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start Redis site: %w", err), r.Close())
	}
	return r, nil
}

func (r *Redis) kind() string { return "redis" }

func (r *Redis) open() (err error) {
	if r.lab, err = redistest.Open(""); err != nil {
		return err
	}
	for _, dc := range demo.DataCenters() {
		if r.nodes[dc], err = r.lab.Node(instance(dc)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Redis) begin(ctx context.Context) error {
	if r.opts.Failover != "" {
		return nil // its agent starts it
	}
	east := r.nodes[demo.East]
	if err := east.Start(); err != nil {
		return err
	}
	return east.Up(ctx)
}

func (r *Redis) pid(dc string) int { return r.nodes[dc].PID() }

func (r *Redis) close() error {
	if r.lab == nil {
		return nil
	}
	return r.lab.Close()
}

// yaml is the agent's entry of a data center's server.
func (r *Redis) yaml(dc string) string {
	n, as := r.nodes[dc], ""
	if r.lab.As != nil {
		as = strconv.FormatUint(uint64(r.lab.As.UID), 10)
		if u, err := user.LookupId(as); err == nil {
			as = u.Username
		}
		as = "  user: " + as + "\n"
	}
	for _, line := range r.opts.More {
		as = "  " + line + "\n" + as
	}
	return fmt.Sprintf(`service: %s
name: %s
address: %s
driver: redis
redis:
  file: %q
  server: %q
  login:
    user: %s
    password_file: %q
  replicas: 1
  min_free: 64MiB
%s`, Service, n.Name, n.Address(), n.File(), r.lab.Server, redistest.Role, r.lab.PasswordFile(), as)
}

// standby returns nil when the other data center's server has what is written to
// dc's. After a whole copy a master sends nothing until the replica's next
// acknowledgement, which may be a second away, although both say that they are
// connected: so something has to be written.
func (r *Redis) standby(ctx context.Context, dc string) error {
	client := r.nodes[dc].Open()
	defer client.Close()
	c := client.Conn() // WAIT is for what its connection wrote
	defer c.Close()
	if err := c.Set(ctx, "signalbox:standby", time.Now().UnixNano(), 0).Err(); err != nil {
		return err
	}
	n, err := c.Do(ctx, "WAIT", 1, 2000).Int()
	if err == nil && n == 0 {
		err = errors.New("no replica follows")
	}
	return err
}

func (r *Redis) store(dc string) inserts.Store {
	address := r.Address()
	if dc != "" {
		address = r.nodes[dc].Address()
	}
	return inserts.Redis{Addr: address, Username: redistest.Client, Password: redistest.Password}
}

// Address is how clients reach the service, through the proxies.
func (r *Redis) Address() string { return r.ListenerOf(Service) }

// Node is a data center's own server.
func (r *Redis) Node(dc string) *redistest.Node { return r.nodes[dc] }
