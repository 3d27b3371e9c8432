package redis_test

import (
	"context"
	"fmt"
	"os"
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
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis/redistest"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// patience bounds every wait of these tests; nothing is expected to take so long.
const patience = 30 * time.Second

var lab *redistest.Lab

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "warden" { // started by a warden.Client
		if err := warden.Run(os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	logging.Disable() // servers that are down are what is tested
	var err error
	if lab, err = redistest.Open(redistest.Memory()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := lab.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
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
	check(t, err)
	return siteOf(t, n, change)
}

func siteOf(t *testing.T, n *redistest.Node, change func(*redis.Config)) *site {
	t.Helper()
	state := filepath.Join(lab.Dir, n.Name+"-state")
	w, err := warden.New(filepath.Join(state, "warden"), nil)
	check(t, err)
	s := &site{Node: n, t: t, cfg: n.Config(state, w, 0), client: n.Open()}
	s.cfg.Log = zerolog.New(zerolog.NewTestWriter(t)).With().Timestamp().Logger()
	if change != nil {
		change(&s.cfg)
	}
	t.Cleanup(func() {
		s.client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := w.Stop(ctx, syscall.SIGKILL, patience, "the test is over")
		check(t, err)
		check(t, w.Quit(ctx))
		n.Kill() // one that was started without the warden
	})
	s.again()
	return s
}

// again makes the driver anew, as after a start of the agent.
func (s *site) again() {
	s.t.Helper()
	d, err := redis.New(s.cfg)
	check(s.t, err)
	s.t.Cleanup(func() { check(s.t, d.Stop(context.Background())) })
	s.driver = d
}

// pair is a master that serves term 1 and its replica.
type pair struct {
	t          *testing.T
	ctx        context.Context
	east, west *site
}

// newPair starts both; each has to have everything before the other steps down.
func newPair(t *testing.T, change func(*redis.Config), more ...string) *pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	both := func(c *redis.Config) {
		c.Replicas = 1
		if change != nil {
			change(c)
		}
	}
	p := &pair{t: t, ctx: ctx, east: newSite(t, "east", both, more...), west: newSite(t, "west", both, more...)}
	t.Cleanup(p.logs)
	p.promote(p.east, 1, nil)
	p.follow(p.west, p.east, 1)
	return p
}

func (p *pair) follow(replica, master *site, term signalbox.Term) {
	p.t.Helper()
	check(p.t, replica.driver.Follow(p.ctx, driver.Follow{Service: "db", Term: term, Address: master.Address()}))
	p.ready(replica)
	p.ready(master)
}

// ready waits until a server is ready and has no problem.
func (p *pair) ready(s *site) {
	p.t.Helper()
	var last driver.Readiness
	await(p.t, p.ctx, func() bool {
		r, err := s.driver.Ready(p.ctx)
		last = r
		return err == nil && r.Ready && len(r.Problems) == 0
	}, func() any { return last })
}

// stepDown steps a master down within a budget.
func (p *pair) stepDown(s *site, term signalbox.Term) driver.Position {
	p.t.Helper()
	position, err := s.driver.StepDown(p.ctx, planned(term))
	check(p.t, err)
	return position
}

func (p *pair) promote(s *site, term signalbox.Term, position driver.Position) {
	p.t.Helper()
	check(p.t, s.driver.Promote(p.ctx, driver.Promotion{Service: "db", Term: term, Position: position}))
}

// planned is the order to step down of a handover that can be given up.
func planned(term signalbox.Term) driver.StepDown {
	return driver.StepDown{Service: "db", Term: term, Deadline: time.Now().Add(patience)}
}

// problem awaits a problem of a server by its name, and that it says what to do.
func (p *pair) problem(s *site, name string) driver.Problem {
	p.t.Helper()
	var got driver.Problem
	var last any
	await(p.t, p.ctx, func() bool {
		r, err := s.driver.Ready(p.ctx)
		last = fmt.Sprint(r, err)
		for _, one := range r.Problems {
			if err == nil && one.Name == name {
				got = one
				return true
			}
		}
		return false
	}, func() any { return name + ": " + fmt.Sprint(last) })
	if got.What == "" || got.Do == "" {
		p.t.Fatalf("problem %q does not say what or what to do: %+v", name, got)
	}
	return got
}

// refused checks that an error names the problem.
func refused(t *testing.T, err error, name string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), name) {
		t.Fatalf("%v: want the problem %q", err, name)
	}
}

func (s *site) set(ctx context.Context, key, value string) {
	s.t.Helper()
	check(s.t, s.client.Set(ctx, key, value, 0).Err())
}

// do has the server do something, as an administrator.
func (s *site) do(ctx context.Context, words ...any) {
	s.t.Helper()
	check(s.t, s.client.Do(ctx, words...).Err())
}

// writes tries to write as a client that comes now would. Only a pause keeps it
// waiting, and lets it in at its end.
func (s *site) writes() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	c := s.Open()
	defer c.Close()
	return c.Set(ctx, "writes", "x", 0).Err() == nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await looks until met, and fails with what was seen last.
func await(t *testing.T, ctx context.Context, met func() bool, last func() any) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never happened; last: %+v", last())
		}
	}
}

// logs shows what the servers said, when the test failed.
func (p *pair) logs() {
	for _, s := range []*site{p.east, p.west} {
		if raw, err := os.ReadFile(filepath.Join(s.Dir, "log")); err == nil && p.t.Failed() {
			p.t.Logf("log of %s:\n%s", s.Name, raw[max(0, len(raw)-4000):])
		}
	}
}

func (s *site) port() string { return strings.TrimPrefix(s.Address(), "127.0.0.1:") }

// info is one line of what the server says of itself.
func (s *site) info(ctx context.Context, name string) string {
	s.t.Helper()
	text, err := s.client.Info(ctx, "everything").Result()
	check(s.t, err)
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
