package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// How a handover, or a process, is brought to a failpoint.
type trigger string

const (
	bySwitch  trigger = "switch"  // forward
	byGiveUp  trigger = "give up" // its fallback, by a refuse
	byStop    trigger = "stop"    // an orderly stop of an instance
	byRestart trigger = "restart" // a start of an agent
)

// A Failpoint is a step at which a process is killed by itself: before a write,
// after it and before its fsync, after the fsync and before anybody knows. The
// binaries have to be built with the tag failpoints.
type Failpoint struct {
	Name string
	by   trigger
	// harmless: only gateways and agents beside their instances reach it.
	harmless bool
}

// Failpoints lists those that a site with one voter and no leases reaches.
func Failpoints() []Failpoint {
	var out []Failpoint
	add := func(by trigger, harmless bool, name string, steps ...string) {
		for _, step := range steps {
			out = append(out, Failpoint{Name: name + "-" + step, by: by, harmless: harmless})
		}
	}
	for _, name := range []string{"append", "note-statement", "note-certificate", "drop-statement", "record"} {
		add(bySwitch, true, "journal-"+name, "before", "unsynced", "durable")
	}
	// Where Blocks is 2, the outcome of a handover is taken into one.
	add(bySwitch, true, "journal-snapshot", "before", "unsynced", "durable")
	add(bySwitch, false, "agent-open", "before", "unsynced")
	add(bySwitch, false, "agent-answer-ack", "before", "unsynced", "durable")
	add(bySwitch, false, "agent-certificate", "before", "unsynced")
	add(bySwitch, false, "agent", "append", "sync")
	add(byGiveUp, false, "agent-answer-refuse", "before", "unsynced", "durable")
	add(byStop, false, "agent-leave", "before", "unsynced", "durable")
	add(byRestart, true, "agent", "create-state", "rename-state", "sync-directory")
	return out
}

// Harmless reports whether a kill there fails no request.
func (f Failpoint) Harmless() bool { return f.harmless }

// reachWithin bounds how long after the trigger the point may be reached, and
// how long a site may take to be itself again.
const reachWithin = 30 * time.Second

// Run arms the point in dir (SIGNALBOX_FAILPOINTS of the site's processes), brings
// a process to it, and waits until it died and what it was part of has ended by
// itself. which chooses the process where one has to be named.
func (f Failpoint) Run(ctx context.Context, s *demo.Site, dir string, which int) (Result, error) {
	armed := filepath.Join(dir, f.Name)
	if err := os.WriteFile(armed, nil, 0o600); err != nil {
		return Result{}, err
	}
	r := Result{Killed: "whoever reached " + f.Name, Began: true}
	err := f.pull(ctx, s, armed, which, &r)
	reached := demo.Await(ctx, f.Name+" to be reached", func(context.Context) error {
		if _, err := os.Stat(armed); err == nil {
			return errors.New("not yet")
		}
		return nil
	})
	if reached != nil {
		_ = os.Remove(armed) // nobody shall find it later
	}
	return r, errors.Join(err, reached)
}

func (f Failpoint) pull(ctx context.Context, s *demo.Site, armed string, which int, r *Result) error {
	if f.by == byRestart {
		agents := Names(s, Agent)
		return s.Kill(agents[which%len(agents)])
	}
	service, err := s.API().Service(ctx, demo.Service)
	if err != nil {
		return err
	}
	if f.by == byStop {
		var masters []string // only they have something to leave
		for _, in := range s.Instances() {
			if in.DataCenter == service.Master {
				masters = append(masters, in.Name)
			}
		}
		return s.Restart(ctx, masters[which%len(masters)], reachWithin)
	}
	to := demo.West
	if service.Master == demo.West {
		to = demo.East
	}
	h, err := f.begin(ctx, s, armed, to)
	if h.ID == "" || err != nil {
		return err // without both, who is master in the end shows later
	}
	if f.by == byGiveUp {
		_, err := s.API().GiveUp(ctx, client.NewKey(), h.ID, api.GiveUpRequest{Reason: "chaos: to be killed at " + f.Name})
		if err != nil && !errors.Is(err, signalbox.ErrRefused) && !errors.Is(err, signalbox.ErrUnknown) {
			return err
		}
	}
	if err := r.follow(ctx, s, h.ID); err != nil {
		return err
	}
	return r.once(ctx, s)
}

// begin orders a switch until it is taken, or the point is reached while it is agreed on.
func (f Failpoint) begin(ctx context.Context, s *demo.Site, armed, to string) (h api.Handover, err error) {
	key := client.NewKey() // the same order each time
	var refused error
	waited := demo.Await(ctx, "a switch to be possible", func(ctx context.Context) error {
		h, err = s.API().Switch(ctx, key, api.SwitchRequest{Service: demo.Service, To: to, Reason: "chaos: killed at " + f.Name})
		if !errors.Is(err, signalbox.ErrUnavailable) && !errors.Is(err, signalbox.ErrNotReady) {
			refused = err
			return nil
		}
		if _, gone := os.Stat(armed); gone != nil {
			return nil
		}
		return err
	})
	return h, errors.Join(refused, waited)
}

// once checks that every gateway tells the same outcome of each handover.
func (r *Result) once(ctx context.Context, s *demo.Site) error {
	for i := range r.Chain {
		h := &r.Chain[i]
		for _, g := range s.Gateways() {
			err := demo.Await(ctx, g.Name+" to know of "+h.ID, func(ctx context.Context) error {
				other, err := s.ClientOf(g.Name).Handover(ctx, h.ID)
				switch {
				case err != nil:
					return err
				case !other.Done():
					return fmt.Errorf("%s says that %s is %s", g.Name, h.ID, other.State)
				case other.Outcome != h.Outcome || other.CertifiedTerm != h.CertifiedTerm:
					return fmt.Errorf("%s says that %s ended as %s at term %d, and another gateway: as %s at term %d",
						g.Name, h.ID, other.Outcome, other.CertifiedTerm, h.Outcome, h.CertifiedTerm)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
