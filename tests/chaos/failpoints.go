package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/signalbox-io/signalbox/examples/demo"
)

// How a handover, or a process, is brought to a failpoint.
type trigger string

const (
	bySwitch   trigger = "switch"      // forward
	byGiveUp   trigger = "give up"     // its fallback, by a refuse
	byFailover trigger = "failover"    // by a lapse: the master's agents and instances are down
	byStop     trigger = "stop"        // an orderly stop and a start of an instance
	byRestart  trigger = "restart"     // a start of an agent
	byNewKey   trigger = "new key"     // a start of an agent whose state is lost
	byAttest   trigger = "attest"      // a start of an instance on a person's word
	byStart    trigger = "start"       // a start of a gateway
	byAbsence  trigger = "absence"     // a gateway was away for longer than the log reaches back
	byLoss     trigger = "loss"        // a start of a gateway whose disk is lost
	byFirst    trigger = "first start" // of a whole cluster
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

type matrix []Failpoint

func (m *matrix) add(by trigger, harmless bool, name string, steps ...string) {
	for _, step := range steps {
		*m = append(*m, Failpoint{Name: name + "-" + step, by: by, harmless: harmless})
	}
}

// write adds the three steps of one that is waited for.
func (m *matrix) write(by trigger, harmless bool, names ...string) {
	for _, name := range names {
		m.add(by, harmless, name, "before", "unsynced", "durable")
	}
}

// Failpoints lists those that a site with one voter and no leases reaches, where
// failpoint.Blocks is 2: so the outcome of a handover is taken into a snapshot.
func Failpoints() []Failpoint {
	var m matrix
	m.write(bySwitch, true, "journal-append", "journal-note-statement", "journal-note-certificate", "journal-note-endpoints",
		"journal-drop-statement", "journal-record", "journal-snapshot")
	m.write(byRestart, true, "journal-note-incarnation")
	m.write(byStart, true, "journal-open")
	m.write(byAbsence, true, "journal-install")
	m.add(bySwitch, false, "agent-open", "before", "unsynced")
	m.write(bySwitch, false, "agent-answer-ack")
	m.add(bySwitch, false, "agent-certificate", "before", "unsynced")
	m.add(bySwitch, false, "agent", "append", "sync")
	m.write(byGiveUp, false, "agent-answer-refuse")
	m.write(byStop, false, "agent-leave")
	m.add(byStop, false, "agent-admission", "before", "unsynced")
	m.write(byAttest, false, "agent-attested")
	m.add(byRestart, true, "agent", "create-state", "rename-state", "sync-directory")
	m.add(byNewKey, true, "agent", "renew", "create-key.pem", "rename-key.pem")
	return m
}

// VoterFailpoints lists those that need several voters or leases.
func VoterFailpoints() []Failpoint {
	var m matrix
	m.write(bySwitch, true, "journal-vote")
	m.write(byAbsence, true, "journal-install")
	m.write(byLoss, true, "journal-silent", "journal-begin", "journal-caught-up", "journal-key-made")
	m.write(byFailover, false, "journal-lease")
	return m
}

// FirstFailpoints lists those that only a cluster's first start reaches.
func FirstFailpoints() []Failpoint {
	var m matrix
	m.write(byFirst, true, "journal-all-begun")
	return m
}

// Harmless reports whether a kill there fails no request.
func (f Failpoint) Harmless() bool { return f.harmless }

// arm has the next process that reaches the point die there. dir is the
// SIGNALBOX_FAILPOINTS of the site's processes.
func (f Failpoint) arm(dir string) error {
	return os.WriteFile(filepath.Join(dir, f.Name), nil, 0o600)
}

// reached returns nil when a process died there.
func (f Failpoint) reached(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, f.Name)); err == nil {
		return errors.New("nobody was there yet")
	}
	return nil
}

// Run arms the point, brings a process to it, and waits until it died and what it
// was part of has ended by itself. which chooses the process where one has to be
// named.
func (f Failpoint) Run(ctx context.Context, s *demo.Site, dir string, which int) (Result, error) {
	if err := f.arm(dir); err != nil {
		return Result{}, err
	}
	r := Result{Killed: "whoever reached " + f.Name, Began: true}
	err := f.pull(ctx, s, &pulled{result: &r, which: which, reached: func() error { return f.reached(dir) }})
	if err == nil {
		err = demo.Await(ctx, f.Name+" to be reached", func(context.Context) error { return f.reached(dir) })
	}
	if f.reached(dir) != nil {
		_ = os.Remove(filepath.Join(dir, f.Name)) // nobody shall find it later
	}
	return r, err
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
