package redis_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis/redistest"
)

// patience bounds every wait of these tests; nothing is expected to take so long.
const patience = 8 * time.Minute

var lab *redistest.Lab

func TestMain(m *testing.M) {
	logging.Disable() // servers that are down are what is tested
	drivertest.Main(m, func() (_ io.Closer, err error) {
		lab, err = redistest.Open(redistest.Memory())
		return lab, err
	})
}

var names atomic.Int64

// site is one server with its driver, under a warden.
type site struct {
	*redistest.Node
	t      *testing.T
	cfg    redis.Config
	driver *redis.Driver
	client *goredis.Client
}

func newSite(t *testing.T, name string, change func(*redis.Config), more ...string) *site {
	t.Helper()
	n, err := lab.Node(fmt.Sprintf("%s-%d", name, names.Add(1)), more...)
	drivertest.Check(t, err)
	return siteOf(t, n, change)
}

func siteOf(t *testing.T, n *redistest.Node, change func(*redis.Config)) *site {
	t.Helper()
	state := filepath.Join(lab.Dir, n.Name+"-state")
	t.Cleanup(n.Kill) // one that was started without the warden
	w := drivertest.Warden(t, filepath.Join(state, "warden"), syscall.SIGKILL)
	s := &site{Node: n, t: t, cfg: n.Config(state, w, 0), client: n.Open()}
	s.cfg.Log = zerolog.New(zerolog.NewTestWriter(t)).With().Timestamp().Logger()
	if change != nil {
		change(&s.cfg)
	}
	t.Cleanup(func() { drivertest.Check(t, s.client.Close()) })
	s.again()
	return s
}

// again makes the driver anew, as after a start of the agent.
func (s *site) again() {
	s.t.Helper()
	d, err := redis.New(s.cfg)
	drivertest.Check(s.t, err)
	s.t.Cleanup(func() { drivertest.Check(s.t, d.Stop(context.Background())) })
	s.driver = d
}

// pair is a master that serves term 1 and its replica.
type pair struct {
	drivertest.Orders
	east, west *site
}

// newPair starts both; each has to have everything before the other steps down.
func newPair(t *testing.T, change func(*redis.Config), more ...string) *pair {
	t.Helper()
	both := func(c *redis.Config) {
		c.Replicas = 1
		if change != nil {
			change(c)
		}
	}
	p := &pair{Orders: drivertest.NewOrders(t, patience), east: newSite(t, "east", both, more...), west: newSite(t, "west", both, more...)}
	t.Cleanup(p.logs)
	p.Promote(p.east, 1, nil)
	p.follow(p.west, p.east, 1)
	return p
}

func (p *pair) follow(replica, master *site, term signalbox.Term) {
	p.T.Helper()
	p.Follow(replica, master, term)
	p.Ready(master)
}

func (s *site) Driven() drivertest.ServerDriver { return s.driver }

func (s *site) set(ctx context.Context, key, value string) {
	s.t.Helper()
	drivertest.Check(s.t, s.client.Set(ctx, key, value, 0).Err())
}

// do has the server do something, as an administrator.
func (s *site) do(ctx context.Context, words ...any) {
	s.t.Helper()
	drivertest.Check(s.t, s.client.Do(ctx, words...).Err())
}

// writes tries to write as a client that comes now would. Only a pause keeps it
// waiting, and lets it in at its end.
func (s *site) writes() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	c := s.Open()
	defer c.Close()
	return c.Set(ctx, "writes", "x", 0).Err() == nil
}

// logs shows what the servers said, when the test failed.
func (p *pair) logs() {
	for _, s := range []*site{p.east, p.west} {
		drivertest.ShowLog(p.T, s.Name, filepath.Join(s.Dir, "log"))
	}
}

func (s *site) port() string { return strings.TrimPrefix(s.Address(), "127.0.0.1:") }

// info is one line of what the server says of itself.
func (s *site) info(ctx context.Context, name string) string {
	s.t.Helper()
	text, err := s.client.Info(ctx, "everything").Result()
	drivertest.Check(s.t, err)
	for _, line := range strings.Split(text, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return value
		}
	}
	s.t.Fatalf("%s does not say its %s", s.Name, name)
	return ""
}

// linked reports whether a replica is connected to its master.
func (s *site) linked(ctx context.Context) bool {
	return s.client.Ping(ctx).Err() == nil && s.info(ctx, "role") == "slave" && s.info(ctx, "master_link_status") == "up"
}
