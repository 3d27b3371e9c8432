package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Follow implements driver.Follower. The replica takes the master's data over:
// in part where the histories agree, else as a whole. What an old master has
// alone is lost to the service then; the files that hold it are kept, and how
// much it is stands in the driver's state.
func (d *Driver) Follow(ctx context.Context, order driver.Follow) error {
	return d.turn.Run(ctx, "follow "+order.Address, func() error { return d.follow(ctx, order) })
}

// errOpen is returned where a server that is master must not be.
var errOpen = errors.New("the server is master: step it down first")

func (d *Driver) follow(ctx context.Context, order driver.Follow) error {
	host, port, err := net.SplitHostPort(order.Address)
	if err != nil {
		return fmt.Errorf("%w: master's address: %w", signalbox.ErrInvalid, err)
	}
	s, err := d.running(ctx)
	if err != nil {
		return err
	}
	if s.Master {
		return errOpen
	}
	mem := d.mem.Get()
	if mem.Role == roleFollow && mem.Upstream == order.Address && s.Upstream == order.Address && s.LinkUp {
		return nil
	}
	up, err := d.master(ctx, order.Address)
	if err != nil {
		return err
	}
	if s, err = d.loaded(ctx, s); err != nil {
		return err
	}
	loss, err := d.lost(ctx, mem, s, up)
	if err != nil {
		return err
	}
	err = d.mem.Change(func(m *memory) {
		m.Role, m.Position, m.Boot, m.Upstream, m.Run = roleFollow, "", "", order.Address, ""
		if loss != nil {
			m.Loss = loss
		}
	})
	if err != nil {
		return err
	}
	if err := d.logIn(ctx); err != nil {
		return err
	}
	if err := d.own.order(ctx, "REPLICAOF", host, port); err != nil {
		return err
	}
	if err := d.own.order(ctx, "CONFIG", "REWRITE"); err != nil {
		return err
	}
	return d.closeFile()
}

// master looks at the server to follow.
func (d *Driver) master(ctx context.Context, address string) (*server, error) {
	l, err := d.peer(address)
	if err != nil {
		return nil, err
	}
	up, err := l.look(ctx)
	if err != nil {
		p := accessProblem("the master", err)
		return nil, fmt.Errorf("%s: %w; %s", p.Name, err, p.Do)
	}
	if !up.Master {
		return nil, errors.New("upstream-not-master: it is a replica itself; wait for its promotion")
	}
	d.sighted(up)
	return up, nil
}

// logIn gives the server what it logs in to its master with. Its file is
// rewritten afterwards, so that it knows after a restart.
func (d *Driver) logIn(ctx context.Context) error {
	user, password, err := d.cfg.Replicate.read()
	if err != nil {
		return err
	}
	if user == "default" {
		user = "" // as servers without ACLs understand it as well
	}
	encrypted := "no"
	if d.cfg.Replicate.CA != "" {
		encrypted = "yes"
	}
	return d.own.order(ctx, "CONFIG", "SET", "masteruser", user, "masterauth", password, "tls-replication", encrypted, "replica-read-only", "yes")
}

// lost is what this server has that the master has not; nil when that is nothing.
// Its files are kept under other names first: links, which cost no room until
// the new data takes the old one's place.
func (d *Driver) lost(ctx context.Context, mem memory, s, up *server) (*Loss, error) {
	// A replica has something alone when the new master was promoted with less.
	ahead := up.ReplID2 == s.ReplID && s.Offset >= up.SecondOffset
	if mem.Role != roleMaster && mem.Role != roleClosed && !ahead || up.reached(s.position()) == nil {
		return nil, nil
	}
	loss := &Loss{Term: mem.served()}
	if up.ReplID2 == s.ReplID {
		loss.Bytes = behind(up.SecondOffset-1, s.Offset)
	}
	kept, err := d.keepData(ctx)
	if err != nil {
		return nil, fmt.Errorf("keep the data that is lost: %w", err)
	}
	loss.Kept = kept
	d.cfg.Log.Warn().Str("event", "resynchronized").Uint64("loss_bytes", loss.Bytes).Str("kept", kept).
		Msg("the server takes the new one's data over: what it had alone is kept beside and not in the service any more")
	return loss, nil
}

// keepData links the server's files into a directory beside them.
func (d *Driver) keepData(ctx context.Context) (string, error) {
	set, err := d.own.use().ConfigGet(ctx, "dir").Result()
	if err != nil {
		return "", down(err)
	}
	names, err := d.own.use().ConfigGet(ctx, "dbfilename").Result()
	if err != nil {
		return "", down(err)
	}
	folder, err := d.own.use().ConfigGet(ctx, "appenddirname").Result()
	if err != nil {
		return "", down(err)
	}
	dir := set["dir"]
	to := filepath.Join(dir, "signalbox-lost-"+time.Now().UTC().Format("20060102T150405.000"))
	files, err := filepath.Glob(filepath.Join(dir, folder["appenddirname"], "*"))
	if err != nil {
		return "", err
	}
	files = append(files, filepath.Join(dir, names["dbfilename"]))
	if err := os.Mkdir(to, 0o700); err != nil {
		return "", err
	}
	kept := ""
	for _, f := range files {
		err := os.Link(f, filepath.Join(to, filepath.Base(f)))
		if err == nil {
			kept = to
		} else if !os.IsNotExist(err) {
			return "", err
		}
	}
	if kept == "" {
		return "", os.Remove(to)
	}
	return kept, nil
}
