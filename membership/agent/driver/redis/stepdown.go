package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

const (
	// pauseFor is how long one pause lasts: when the driver dies in between,
	// writes go on by themselves after it. It is renewed while it is needed.
	pauseFor   = 2 * time.Second
	renewPause = 500 * time.Millisecond
	// catchUp is how long a step-down waits for replicas before anything is
	// interrupted.
	catchUp = time.Second
	// aloneAfter is how long one that cannot be given up waits for replicas.
	aloneAfter = 5 * time.Second
	// askTimeout bounds one question to a replica.
	askTimeout = 250 * time.Millisecond
)

// StepDown implements driver.Driver. In this order:
//
//  1. nothing is interrupted unless replicas are there that have nearly everything;
//  2. writes are paused: they wait, and are not executed;
//  3. the replicas have applied the master's offset;
//  4. the server becomes a replica of nobody: it takes no write any more, whatever
//     becomes of the pause, and its file says the same for its next start;
//  5. the position is read, and the replicas have applied that;
//  6. the driver notes it on its own disk; the clients are closed.
//
// Only then it returns nil. After an error the server goes on as it was.
func (d *Driver) StepDown(ctx context.Context, order driver.StepDown) (driver.Position, error) {
	var position driver.Position
	err := d.turn.Run(ctx, "step down", func() (err error) {
		position, err = d.stepDown(ctx, order)
		return err
	})
	return position, err
}

func (d *Driver) stepDown(ctx context.Context, order driver.StepDown) (driver.Position, error) {
	if err := d.closeFile(); err != nil {
		return nil, err
	}
	mem := d.mem.Get()
	if mem.Role == roleMaster && order.Term < mem.Term {
		return nil, fmt.Errorf("term %d is over, the server serves term %d", order.Term, mem.Term)
	}
	s, err := d.own.look(ctx)
	switch {
	case errors.Is(err, errDown) && mem.Role == roleMaster:
		return d.crashed(order, "the server does not run")
	case errors.Is(err, errDown): // its next start is one as a replica
		return driver.Position(mem.Position), nil
	case err != nil:
		return nil, err
	case s.Master:
		return d.closeMaster(ctx, s, order)
	case mem.Role == roleClosed:
		return driver.Position(mem.Position), nil
	case mem.Role != roleMaster:
		return nil, nil
	case mem.Run != s.Run:
		return d.crashed(order, "the server was started again since it was promoted")
	}
	// A driver that was killed while it did this has left it so.
	run := &stepdown{d: d, order: order, began: time.Now(), run: s.Run}
	run.require(ctx, s)
	return run.finish(ctx)
}

// crashed answers for a master that ended without a step-down. What it had
// acknowledged last is on its own disk, or on a replica, or on neither, and
// nobody can tell: a planned handover must not pretend to know.
func (d *Driver) crashed(order driver.StepDown, what string) (driver.Position, error) {
	if !order.Deadline.IsZero() {
		return nil, fmt.Errorf("crashed: %s, and nobody can tell what it had acknowledged last: let it be promoted again and its replica catch up, or order a failover, which says what may be lost", what)
	}
	d.cfg.Log.Warn().Str("event", "stepped_down").Uint64("term", uint64(order.Term)).Msg(what + ": it stays a replica; what it acknowledged last may be lost")
	return nil, d.mem.Change(func(m *memory) { m.Role, m.Position, m.Upstream = roleClosed, "", "" })
}

func (d *Driver) closeMaster(ctx context.Context, s *server, order driver.StepDown) (driver.Position, error) {
	mem := d.mem.Get()
	if mem.Role == roleMaster && mem.Run != s.Run && !order.Deadline.IsZero() {
		return d.crashed(order, "the server was started again, as a master, by somebody else")
	}
	run := &stepdown{d: d, order: order, began: time.Now(), run: s.Run}
	if err := run.gather(ctx, s); err != nil {
		return nil, err
	}
	position, err := run.freeze(ctx)
	if err != nil {
		return nil, errors.Join(err, run.reopen())
	}
	return position, nil
}

// stepdown is one step-down of a running master.
type stepdown struct {
	d     *Driver
	order driver.StepDown
	began time.Time
	run   string // of the server
	// required are the addresses of the replicas that have to confirm.
	required []string
	closed   bool      // it is a replica by now
	paused   time.Time // when the pause was renewed last
}

// require picks the replicas that have to confirm: those that are to be promoted,
// where they are known, else all that have nearly everything. It says why the
// step-down would wait in vain; "" when it would not.
func (r *stepdown) require(ctx context.Context, s *server) string {
	r.required = nil
	for _, one := range s.Replicas {
		if one.Online && behind(one.Offset, s.Offset) <= r.d.cfg.MaxLag {
			r.required = append(r.required, one.Address)
		}
	}
	near, most := r.required, signalbox.Size(r.d.cfg.MaxLag)
	if len(r.order.Incoming) > 0 {
		r.required = nil
	}
	for _, peer := range r.order.Incoming {
		r.required = append(r.required, peer.Address)
		if !slices.Contains(near, peer.Address) && !r.near(ctx, peer.Address, s) {
			return fmt.Sprintf("incoming-behind: %s, which is to be promoted, is not connected or is more than %s behind", peer.Name, most)
		}
	}
	if len(near) < r.d.cfg.Replicas {
		return fmt.Sprintf("no-replica: %d are connected and less than %s behind, %d are wanted", len(near), most, r.d.cfg.Replicas)
	}
	return ""
}

// near asks a replica itself whether it has nearly everything: its master may know
// it by another address.
func (r *stepdown) near(ctx context.Context, address string, s *server) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	l, err := r.d.peer(address)
	if err != nil {
		return false
	}
	one, err := l.look(ctx)
	return err == nil && !one.Master && one.LinkUp && one.ReplID == s.ReplID && behind(one.Offset, s.Offset) <= r.d.cfg.MaxLag
}

// gather waits a moment for enough replicas. Nothing is interrupted yet.
func (r *stepdown) gather(ctx context.Context, s *server) error {
	why := r.require(ctx, s)
	short, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	err := managed.Until(short, "find replicas", func() (done bool, err error) {
		if why == "" {
			return true, nil
		}
		if s, err = r.d.own.look(ctx); err == nil {
			why = r.require(ctx, s)
		}
		return false, err
	})
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	if r.order.Deadline.IsZero() {
		return nil // it cannot be given up, and goes on with those that are there
	}
	return errors.New(why + "; nothing was interrupted")
}

// freeze does what clients notice.
func (r *stepdown) freeze(ctx context.Context) (driver.Position, error) {
	if err := r.pause(ctx); err != nil {
		return nil, err
	}
	s, err := r.d.own.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.confirmed(ctx, s.position()); err != nil {
		return nil, err
	}
	r.closed = true
	if err := r.d.own.order(ctx, "REPLICAOF", nowhereHost, nowherePort); err != nil {
		return nil, err
	}
	return r.finish(ctx)
}

// finish begins with a server that is a replica of nobody since this step-down.
func (r *stepdown) finish(ctx context.Context) (driver.Position, error) {
	d := r.d
	s, err := d.own.look(ctx)
	if err != nil {
		return nil, err
	}
	if s.Master || s.Run != r.run {
		return nil, errors.New("somebody else has promoted or started the server in between")
	}
	// Now nothing is written any more. The pause may have ended before, and a
	// master sends its replicas a sign of life now and then: this is the end.
	position := s.position()
	if err := r.confirmed(ctx, position); err != nil {
		return nil, err
	}
	if err := d.closeFile(); err != nil { // a person may have had it rewritten meanwhile
		return nil, err
	}
	err = d.mem.Change(func(m *memory) {
		m.Role, m.Position, m.Boot, m.Upstream = roleClosed, string(position.Bytes()), bootID(), ""
	})
	if err != nil {
		return nil, err
	}
	d.closeClients(ctx)
	if err := d.unbind(ctx); err != nil {
		d.cfg.Log.Warn().Err(err).Str("event", "disarm").Msg("the server may be ended with its lease; it is started again as a replica")
	}
	d.cfg.Log.Info().Str("event", "stepped_down").Str("position", string(position.Bytes())).Dur("took", time.Since(r.began)).
		Uint64("term", uint64(r.order.Term)).Strs("incoming", driver.Names(r.order.Incoming)).Strs("replicas", r.required).Msg("the server takes no write; these replicas have everything")
	return position.Bytes(), nil
}

// closeClients ends every client's connection: what waits in the pause is not
// executed. One that connects again is told that this server is read-only.
func (d *Driver) closeClients(ctx context.Context) {
	for _, kind := range []string{"normal", "pubsub"} {
		if err := d.own.use().Do(ctx, "CLIENT", "KILL", "TYPE", kind).Err(); err != nil {
			d.cfg.Log.Warn().Err(err).Str("event", "close_clients").Msg("clients may stay connected; they cannot write")
		}
	}
	_ = d.own.order(ctx, "CLIENT", "UNPAUSE") // it ends by itself
}

// pause pauses writes, or goes on doing so.
func (r *stepdown) pause(ctx context.Context) error {
	if !r.paused.IsZero() && time.Since(r.paused) < renewPause {
		return nil
	}
	r.paused = time.Now()
	return r.d.own.order(ctx, "CLIENT", "PAUSE", pauseFor.Milliseconds(), "WRITE")
}

// reopen undoes an unfinished step-down.
func (r *stepdown) reopen() error {
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	if r.closed {
		if err := r.d.own.order(ctx, "REPLICAOF", "NO", "ONE"); err != nil {
			return err
		}
	}
	return r.d.own.order(ctx, "CLIENT", "UNPAUSE")
}

// confirmed waits until the required replicas have applied a position. Redis
// asks its replicas for that once a second, and not at all while clients are
// paused, so each is asked itself; what it told its master counts as well.
func (r *stepdown) confirmed(ctx context.Context, p Position) error {
	alone := r.order.Deadline.IsZero()
	missing := slices.Clone(r.required)
	return managed.Until(ctx, "wait for the replicas to have "+string(p.Bytes()), func() (bool, error) {
		missing = r.ask(ctx, missing, p)
		if len(missing) == 0 || alone && time.Since(r.began) > aloneAfter {
			return true, nil
		}
		if missing = r.untold(ctx, missing, p); len(missing) == 0 {
			return true, nil
		}
		if r.closed {
			return false, nil
		}
		return false, r.pause(ctx)
	})
}

// ask asks replicas and returns those that do not have a position, or do not say.
func (r *stepdown) ask(ctx context.Context, addresses []string, p Position) (missing []string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	has := make([]bool, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			l, err := r.d.peer(address)
			if err != nil {
				return
			}
			s, err := l.look(ctx)
			has[i] = err == nil && s.reached(p) == nil
		})
	}
	all.Wait()
	for i, address := range addresses {
		if !has[i] {
			missing = append(missing, address)
		}
	}
	return missing
}

// untold returns those that have not told their master that they have it.
func (r *stepdown) untold(ctx context.Context, addresses []string, p Position) (missing []string) {
	s, err := r.d.own.look(ctx)
	if err != nil {
		return addresses
	}
	for _, address := range addresses {
		if !slices.ContainsFunc(s.Replicas, func(one replica) bool { return one.Address == address && one.Offset >= p.Offset }) {
			missing = append(missing, address)
		}
	}
	return missing
}
