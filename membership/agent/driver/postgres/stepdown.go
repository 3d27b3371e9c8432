package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/managed"
)

// aloneAfter is how long a step-down without a deadline (an orderly stop of the
// machine) waits for a standby before it goes on without one.
const aloneAfter = 5 * time.Second

// StepDown implements driver.Driver. The order of things is the guarantee:
//
//  1. transactions that run may end; sessions end as soon as they are idle, and
//     so do new ones, until there is none but the driver's;
//  2. the postmaster is frozen: nobody can connect any more, and no setting, role
//     or SQL statement changes that;
//  3. the end of the log is noted, which is behind everything acknowledged;
//  4. a standby has flushed and replayed it;
//  5. the server is stopped, and every process of it is gone;
//  6. the driver notes the position on its own disk.
//
// Only then it returns nil. After an error the server runs on, open.
func (d *Driver) StepDown(ctx context.Context, order driver.StepDown) (driver.Position, error) {
	if err := d.turn.Take(ctx); err != nil {
		return nil, err
	}
	defer d.turn.Give()
	if mem := d.mem.Get(); order.Term < mem.Term && (mem.Role == rolePrimary || mem.Role == rolePromoting) {
		return nil, fmt.Errorf("step down: the order is for term %d, and this server serves %d", order.Term, mem.Term)
	}
	s := &stepdown{d: d, order: order, began: time.Now()}
	p, err := findPostmaster(d.cfg.Data)
	if err != nil {
		return nil, err
	}
	if p == nil || p.pid == 0 {
		if p != nil {
			if err := p.gone(ctx); err != nil { // its other processes end by themselves
				return nil, fmt.Errorf("step down: %w", err)
			}
		}
		done, position, err := d.steppedDown(ctx)
		if done || err != nil {
			return position, err
		}
		// It crashed as a primary: what it had acknowledged must reach the standby.
		// As a standby of nobody it sends its log and takes no write.
		st, err := d.tools.inspect(ctx)
		if err != nil {
			return nil, fmt.Errorf("step down: %w", err)
		}
		s.crashed = st.position()
		if err := d.startStandby(ctx, ""); err != nil {
			return nil, fmt.Errorf("step down a crashed server: %w", err)
		}
		if p, err = findPostmaster(d.cfg.Data); err != nil || p == nil || p.pid == 0 {
			return nil, fmt.Errorf("step down: the server is gone again: %w", err)
		}
	}
	p.thaw()
	s.p = p
	position, err := s.run(ctx)
	if err != nil {
		p.thaw()
		return nil, fmt.Errorf("step down: %w", err)
	}
	return position, nil
}

// steppedDown answers for a server that does not run: done unless it crashed as
// a primary.
func (d *Driver) steppedDown(ctx context.Context) (done bool, position driver.Position, err error) {
	mem := d.mem.Get()
	switch mem.Role {
	case roleClosed:
		return true, driver.Position(mem.Position), d.forbidPrimary()
	case roleNone, roleStandby, rolePromoting:
		s, err := d.tools.inspect(ctx)
		if err != nil {
			return true, nil, fmt.Errorf("step down: %w", err)
		}
		if mem.Role == roleNone || !s.primary() {
			return true, nil, d.forbidPrimary()
		}
	case rolePrimary:
		s, err := d.tools.inspect(ctx)
		if err != nil {
			return true, nil, fmt.Errorf("step down: %w", err)
		}
		if s.clean() && len(d.cfg.Standbys) == 0 {
			position, err = d.close(s.position())
			return true, position, err
		}
	}
	return false, nil, nil
}

// close notes that the server is stopped for good as a primary.
func (d *Driver) close(position Position) (driver.Position, error) {
	if err := d.forbidPrimary(); err != nil {
		return nil, err
	}
	err := d.mem.Change(func(m *memory) {
		m.Role, m.Position, m.Upstream = roleClosed, string(position.Bytes()), ""
	})
	if err != nil {
		return nil, err
	}
	d.orders.close(context.Background()) // their server is gone
	d.stream.close(context.Background())
	return position.Bytes(), nil
}

// stepdown is one step-down of a running server.
type stepdown struct {
	d     *Driver
	p     *postmaster
	order driver.StepDown
	began time.Time
	own   *server
	// confirmers are the standbys that had the position last.
	confirmers []string
	// crashed is where the log of a primary ends that had to be started again.
	crashed Position
}

func (s *stepdown) run(ctx context.Context) (driver.Position, error) {
	d := s.d
	var position Position
	err := d.orders.use(ctx, func(c *pgx.Conn) (err error) {
		if s.own, err = d.look(ctx, c); err != nil {
			return err
		}
		mem := d.mem.Get()
		if s.own.InRecovery && s.crashed.System == 0 && mem.Role != rolePrimary && mem.Role != roleClosed {
			return nil // it is a standby and stays one
		}
		if err = s.refuse(ctx, c); err != nil {
			return err
		}
		if s.own.InRecovery {
			position = s.position()
			return s.confirmed(ctx, c, &position)
		}
		if err = s.endSessions(ctx, c); err != nil {
			return err
		}
		if err = s.p.freeze(ctx); err != nil {
			return err
		}
		if position, err = s.endOfLog(ctx, c); err != nil {
			return err
		}
		return s.confirmed(ctx, c, &position)
	})
	switch {
	case err != nil:
		return nil, err
	case position.System == 0:
		return nil, nil
	}
	if d.cfg.Stop == Clean && !s.own.InRecovery {
		if position, err = s.stopClean(ctx); err != nil {
			return nil, err
		}
	} else if err := s.p.kill(ctx); err != nil {
		return nil, err
	}
	d.cfg.Log.Info().Str("event", "stepped_down").Str("position", string(position.Bytes())).Dur("took", time.Since(s.began)).
		Uint64("term", uint64(s.order.Term)).Strs("incoming", driver.Names(s.order.Incoming)).Strs("standbys", s.confirmers).Msg("the server is stopped, and these standbys have everything")
	return d.close(position)
}

// position is where the log of a server ends that was primary and is in recovery:
// nothing is written any more.
func (s *stepdown) position() Position {
	if s.crashed.System != 0 {
		return s.crashed
	}
	return Position{System: s.own.System, Timeline: s.own.Timeline, LSN: max(s.own.LSN, s.own.Received)}
}

// catchUp is how long a step-down waits for a standby that is just connecting,
// before anything is interrupted.
const catchUp = time.Second

// refuse gives up before anything is interrupted.
func (s *stepdown) refuse(ctx context.Context, c *pgx.Conn) error {
	if s.d.cfg.Transactions == Abort && len(s.own.Long) > 0 {
		t := s.own.Long[0]
		return fmt.Errorf("long-transaction: process %d (%s) has one %s old: %s; nothing was interrupted", t.PID, t.User, t.Age.Round(time.Second/10), t.Query)
	}
	if len(s.d.cfg.Standbys) == 0 || s.order.Deadline.IsZero() {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	why := ""
	err := managed.Until(short, "find a standby", func() (bool, error) {
		if why = s.unready(); why == "" {
			return true, nil
		}
		var err error
		s.own.Senders, err = senders(ctx, c) // not short: its end would break the session
		return false, err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%s; nothing was interrupted", why)
	}
	return err
}

// unready says why a step-down would not find its standby; "" when it would.
func (s *stepdown) unready() string {
	near, most := s.own.caughtUp(s.own.LSN, s.d.cfg.MaxLag), signalbox.Size(s.d.cfg.MaxLag)
	for _, peer := range s.order.Incoming {
		if !slices.ContainsFunc(near, func(w sender) bool { return w.Name == slotName(peer.Name) }) {
			return fmt.Sprintf("incoming-behind: %s, which is to be promoted, does not stream from here or is more than %s behind", peer.Name, most)
		}
	}
	if len(near) == 0 {
		return fmt.Sprintf("no-standby: none streams and is less than %s behind", most)
	}
	return ""
}

// stopClean shuts down with a checkpoint. A standby that streams has flushed it
// when the server is gone.
func (s *stepdown) stopClean(ctx context.Context) (Position, error) {
	if err := s.p.stop(ctx); err != nil {
		return Position{}, err
	}
	st, err := s.d.tools.inspect(ctx)
	if err != nil {
		return Position{}, err
	}
	if !st.clean() {
		return Position{}, fmt.Errorf("the server stopped without a checkpoint (%s); look at its log", st.State)
	}
	return st.position(), nil
}

// have reports whether the standbys that have to have a position do: those that
// are to be promoted, where they are known, else all that stream, and one at least.
// Others get the rest from the new primary.
func (s *stepdown) have(all []sender, lsn LSN) bool {
	behind, missing := 0, len(s.order.Incoming)
	s.confirmers = nil
	for _, w := range all {
		if w.Logical || w.State != "streaming" {
			continue
		}
		comes := slices.ContainsFunc(s.order.Incoming, func(p driver.Peer) bool { return slotName(p.Name) == w.Name })
		if comes {
			missing--
		}
		switch {
		case w.Flush >= lsn && w.Replay >= lsn:
			s.confirmers = append(s.confirmers, w.Name)
		case comes || len(s.order.Incoming) == 0:
			behind++
		}
	}
	return missing <= 0 && behind == 0 && len(s.confirmers) > 0
}

// whom says for whom a step-down waits.
func (s *stepdown) whom() string {
	if len(s.order.Incoming) == 0 {
		return "a standby"
	}
	return s.order.Incoming[0].Name + ", which is to be promoted,"
}

// confirmed waits until the standbys that have to have flushed and replayed the
// position. It looks again for what background processes wrote
// meanwhile, so that the old primary can follow without a rewind; nobody was
// told of that, so it is not waited for again and again.
func (s *stepdown) confirmed(ctx context.Context, c *pgx.Conn, p *Position) error {
	if len(s.d.cfg.Standbys) == 0 {
		return nil
	}
	for range 3 {
		err := managed.Until(ctx, "it is behind", func() (bool, error) {
			all, err := senders(ctx, c)
			if err != nil {
				return false, err
			}
			alone := s.order.Deadline.IsZero() && time.Since(s.began) > aloneAfter
			return s.have(all, p.LSN) || alone, nil
		})
		if err != nil {
			return fmt.Errorf("wait for %s to replay %s: %w", s.whom(), p.LSN, err)
		}
		if s.own.InRecovery {
			return nil
		}
		end, err := flushed(ctx, c)
		if err != nil || end == p.LSN {
			return err
		}
		p.LSN = end
	}
	return nil
}
