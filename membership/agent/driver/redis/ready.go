package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// upstreamTimeout bounds the look at the master, so that its silence leaves time
// for the look at the own server.
const upstreamTimeout = 500 * time.Millisecond

// upstream is what a replica's driver sees of the master that it follows.
type upstream struct {
	address string
	err     error   // why it could not be looked at
	server  *server // nil then
}

// Ready implements driver.Driver. The lag of a replica whose master cannot be
// reached is what a failover to it would lose at least, by the last look at the
// master, and how long ago that was.
func (d *Driver) Ready(ctx context.Context) (driver.Readiness, error) {
	s, err := d.own.look(ctx)
	if err == nil {
		err = d.settings(ctx, s)
	}
	switch {
	case errors.Is(err, errDown):
		return managed.Readiness(managed.Found(true, "server-down", "look at redis.log in the driver's state and at the server's own log; the agent starts it again every few seconds", "the server does not run")), nil
	case ctx.Err() != nil:
		return driver.Readiness{}, err
	case err != nil:
		return managed.Readiness(managed.Finding{Problem: accessProblem("this server", err), Blocks: true}), nil
	}
	mem := d.mem.Get()
	var up *upstream
	if !s.Master && mem.Role == roleFollow {
		up = d.lookUp(ctx, mem.Upstream)
	}
	found := judge(s, up, d.limits(s, mem))
	if up != nil && up.err != nil {
		if err := d.strange(s); err != nil {
			found = append(found, managed.Found(true, "history-differs", strangeAdvice, "%s", strings.TrimPrefix(err.Error(), "history-differs: ")))
		}
	}
	r := managed.Readiness(found...)
	if up != nil {
		r.LagBytes, r.Lag = d.lag(s, up)
	}
	return r, nil
}

// settings asks for the settings, and whether a Sentinel listens.
func (d *Driver) settings(ctx context.Context, s *server) error {
	words := []any{"CONFIG", "GET"}
	for _, name := range settingNames {
		words = append(words, name)
	}
	values, err := d.own.use().Do(ctx, words...).StringSlice()
	if err != nil {
		return down(err)
	}
	s.Settings = map[string]string{}
	for i := 0; i+1 < len(values); i += 2 {
		s.Settings[values[i]] = values[i+1]
	}
	const channel = "__sentinel__:hello" // every Sentinel listens there
	listening, err := d.own.use().PubSubNumSub(ctx, channel).Result()
	s.Sentinel = err == nil && listening[channel] > 0
	return nil
}

func (d *Driver) limits(s *server, mem memory) limits {
	return limits{
		maxLag: d.cfg.MaxLag, minFree: d.cfg.MinFree, disks: managed.Disks(s.Settings["dir"]),
		replicas: d.cfg.Replicas, file: d.cfg.File, role: mem.Role, run: mem.Run,
	}
}

// lookUp looks at the master that is followed.
func (d *Driver) lookUp(ctx context.Context, address string) *upstream {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	up := &upstream{address: address}
	l, err := d.peer(address)
	if err == nil {
		up.server, err = l.look(ctx)
	}
	if up.err = err; err != nil {
		up.server = nil
		return up
	}
	if up.server.Master {
		d.sighted(up.server)
	}
	return up
}

// sighted notes how far a master's data reaches.
func (d *Driver) sighted(master *server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = sight{position: master.position(), at: time.Now()}
}

// lag is how far a replica is behind, by the last look at its master. up is nil
// where it was not looked at now.
func (d *Driver) lag(s *server, up *upstream) (uint64, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen.at.IsZero() || d.seen.position.Replication != s.ReplID {
		return 0, 0
	}
	lag := behind(s.Offset, d.seen.position.Offset)
	if lag == 0 && (up == nil || up.err == nil) {
		return 0, 0
	}
	if up != nil && up.err == nil {
		return lag, s.Silent
	}
	return lag, time.Since(d.seen.at)
}
