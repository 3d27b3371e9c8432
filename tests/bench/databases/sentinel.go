package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/membership/agent/driver/redis/redistest"
)

// redises are the contenders that move a Redis service.
func redises(binaries demo.Binaries) []contender {
	logging.Disable() // connects that fail are counted
	all := []contender{{"signalbox redis", func(ctx context.Context, n int, each func(database.Switch)) (r database.Result, err error) {
		site, err := database.StartRedis(ctx, database.Options{Binaries: binaries, LogLevel: "warn"})
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, site.Close()) }()
		return site.Run(ctx, n, each)
	}}}
	for _, s := range []sentinel{{name: "redis sentinel"}, {name: "redis sentinel, tuned", tuned: true}, {name: "redis sentinel, tuned, go-redis client", tuned: true, library: true}} {
		all = append(all, contender{s.name, s.run})
	}
	return all
}

// sentinel is Debian's Redis Sentinel: three of them, as its documentation has it,
// asked for each switch (SENTINEL FAILOVER).
type sentinel struct {
	name string
	// library has the clients be go-redis's, which listen to what the Sentinels
	// announce. Else they do what Sentinel's documentation asks of a client: ask
	// for the master's address at each connect, and check its role.
	library bool
	// tuned has the Sentinels look every 500 ms, which turns an old master that is
	// reachable into a replica within about three seconds instead of ten. More often
	// than that they undo each other's switches on a busy machine.
	tuned bool
}

// group is the name of what the Sentinels watch.
const group = "bench"

// watched is one run of it.
type watched struct {
	sentinel
	lab       *redistest.Lab
	nodes     map[string]*redistest.Node
	sentinels []*redistest.Node
}

func (s sentinel) run(ctx context.Context, n int, each func(database.Switch)) (r database.Result, err error) {
	w := &watched{sentinel: s, nodes: map[string]*redistest.Node{}}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.start(ctx); err != nil {
		return r, err
	}
	l := inserts.Start(inserts.Config{Store: w})
	defer l.Stop()
	straight := database.StartStraight(w.store)
	defer straight.Stop()
	master := demo.East
	for range n {
		to := demo.West
		if master == demo.West {
			to = demo.East
		}
		began := time.Now()
		one, err := w.one(ctx, l, master, to)
		if err != nil {
			return r, err
		}
		one.TwoMastersMS = straight.Overlap(master, to, began, time.Now())
		r.Switches = append(r.Switches, one)
		each(one)
		master = to
	}
	l.Stop()
	straight.Stop()
	r.Total = l.Total()
	if r.Lost, err = l.Check(ctx, w.store(master)); err != nil {
		return r, err
	}
	r.LostStraight, err = straight.Check(ctx, w.store(master))
	return r, err
}

func (w *watched) store(dc string) inserts.Store {
	return inserts.Redis{Addr: w.nodes[dc].Address(), Username: redistest.Client, Password: redistest.Password}
}

func (w *watched) start(ctx context.Context) (err error) {
	if w.lab, err = redistest.Open(""); err != nil {
		return err
	}
	login := []string{"masteruser " + redistest.Client, "masterauth " + redistest.Password}
	for _, dc := range demo.DataCenters() {
		more := login
		if dc != demo.East {
			more = append(more, fmt.Sprintf("replicaof 127.0.0.1 %d", w.nodes[demo.East].Port))
		}
		if w.nodes[dc], err = w.lab.Node(dc, more...); err != nil {
			return err
		}
		if err := w.nodes[dc].Start(); err != nil {
			return err
		}
		if err := w.nodes[dc].Up(ctx); err != nil {
			return err
		}
	}
	for i := range 3 {
		if err := w.watch(fmt.Sprintf("sentinel-%d", i+1)); err != nil {
			return err
		}
	}
	if err := w.tune(ctx); err != nil {
		return err
	}
	return demo.Await(ctx, "the Sentinels", func(ctx context.Context) error {
		for i := range w.sentinels {
			reply, err := w.ask(ctx, i, "SENTINEL", "CKQUORUM", group)
			if err != nil {
				return err
			}
			if !strings.Contains(fmt.Sprint(reply), "3 usable") {
				return fmt.Errorf("%v", reply)
			}
		}
		return w.replica(ctx, demo.East)
	})
}

// watch starts a Sentinel.
func (w *watched) watch(name string) error {
	n, err := w.lab.Node(name)
	if err != nil {
		return err
	}
	config := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\npidfile %s\nlogfile %s\nsentinel monitor %s 127.0.0.1 %d 2\nsentinel auth-user %s %s\nsentinel auth-pass %s %s\n",
		n.Port, n.Dir, filepath.Join(n.Dir, "pid"), filepath.Join(n.Dir, "log"), group, w.nodes[demo.East].Port, group, redistest.Client, group, redistest.Password)
	if err := errors.Join(os.WriteFile(n.File(), []byte(config), 0o600), w.lab.Own(n.File())); err != nil {
		return err
	}
	w.sentinels = append(w.sentinels, n)
	return n.Start("--sentinel")
}

// tune has them look more often.
func (w *watched) tune(ctx context.Context) error {
	for i, s := range w.sentinels {
		err := demo.Await(ctx, s.Name, func(ctx context.Context) error {
			_, err := w.ask(ctx, i, "PING")
			return err
		})
		if err == nil && w.tuned {
			_, err = w.ask(ctx, i, "SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 500)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ask asks a Sentinel.
func (w *watched) ask(ctx context.Context, i int, words ...any) (any, error) {
	c := goredis.NewClient(&goredis.Options{Addr: w.sentinels[i].Address(), Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	return c.Do(ctx, words...).Result()
}

// master is the address that the Sentinels give out.
func (w *watched) master(ctx context.Context) (string, error) {
	reply, err := w.ask(ctx, 0, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", group)
	if err != nil {
		return "", err
	}
	address, ok := reply.([]any)
	if !ok || len(address) != 2 {
		return "", fmt.Errorf("the Sentinel says %v", reply)
	}
	return fmt.Sprintf("%v:%v", address[0], address[1]), nil
}

// replica returns nil when the other server follows dc's, and the Sentinels know.
func (w *watched) replica(ctx context.Context, dc string) error {
	c := w.nodes[dc].Open()
	defer c.Close()
	n, err := c.Do(ctx, "WAIT", 1, 1).Int()
	if err == nil && n == 0 {
		return errors.New("no replica follows")
	}
	return err
}

// Open implements inserts.Store: a client of the service.
func (w *watched) Open(ctx context.Context) (inserts.Session, error) {
	if w.library {
		var addresses []string
		for _, s := range w.sentinels {
			addresses = append(addresses, s.Address())
		}
		c := goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: group, SentinelAddrs: addresses, Username: redistest.Client, Password: redistest.Password, PoolSize: 1, MaxRetries: -1,
			Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		})
		if err := c.Ping(ctx).Err(); err != nil {
			_ = c.Close()
			return nil, err
		}
		return failover{c}, nil
	}
	address, err := w.master(ctx)
	if err != nil {
		return nil, err
	}
	c := redistest.ClientOf(address)
	role, err := c.Do(ctx, "ROLE").Slice()
	if err == nil && (len(role) == 0 || role[0] != "master") {
		err = errors.New("the Sentinel's address is no master yet")
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return failover{c}, nil
}

// Rows implements inserts.Store.
func (w *watched) Rows(context.Context) (map[inserts.Row]bool, error) {
	return nil, errors.New("look at one server")
}

// failover is a session of a client that knows Sentinels.
type failover struct{ *goredis.Client }

// Insert implements inserts.Session.
func (f failover) Insert(ctx context.Context, r inserts.Row) error {
	return f.Set(ctx, inserts.Key(r), "x", 0).Err()
}

// Close implements inserts.Session.
func (f failover) Close() { _ = f.Client.Close() }

// one makes one switch as an operator does.
func (w *watched) one(ctx context.Context, l *inserts.Load, from, to string) (database.Switch, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.Flows(ctx, time.Now(), 100); err != nil {
		return database.Switch{}, err
	}
	before := time.Now().Add(-100 * time.Millisecond)
	err := demo.Await(ctx, "the Sentinels to begin", func(ctx context.Context) error {
		_, err := w.ask(ctx, 0, "SENTINEL", "FAILOVER", group)
		return err
	})
	if err != nil {
		return database.Switch{}, err
	}
	want := "127.0.0.1:" + strconv.Itoa(w.nodes[to].Port)
	err = demo.Await(ctx, "the Sentinels to name "+want, func(ctx context.Context) error {
		address, err := w.master(ctx)
		if err == nil && address != want {
			err = fmt.Errorf("they name %s", address)
		}
		return err
	})
	if err != nil {
		return database.Switch{}, err
	}
	if err := demo.Await(ctx, "the old master to follow", func(ctx context.Context) error { return w.replica(ctx, to) }); err != nil {
		return database.Switch{}, err
	}
	if err := l.Flows(ctx, time.Now(), 100); err != nil {
		return database.Switch{}, err
	}
	return database.Switch{From: from, To: to, Outcome: "forward", Stats: l.Between(before, time.Now())}, nil
}

// close ends the Sentinels, then the servers.
func (w *watched) close() error {
	for _, s := range w.sentinels {
		s.Signal(syscall.SIGTERM)
	}
	if w.lab == nil {
		return nil
	}
	return w.lab.Close()
}
