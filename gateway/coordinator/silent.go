package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// clearWait bounds how long a planned handover waits for the removal of who is
// silent, beside the wait for leases.
const clearWait = 5 * time.Second

// silentRoster lists the roster identities of a handover to a data center that
// nobody can reach and that left no leave.
func (c *Coordinator) silentRoster(s *service, to signalbox.DataCenter) (out []signalbox.RosterEntry) {
	var roster []signalbox.RosterEntry
	c.opt.Journal.View(func(l *handover.Ledger) { roster = l.Roster(s.conf.Name, to) })
	for _, e := range roster {
		if leave, ok := s.leaves[e.Identity]; ok && leave.Admission == e.Admission {
			continue // its evidence is there already
		}
		if i := s.instances[e.Identity]; i == nil || !i.reachable() {
			out = append(out, e)
		}
	}
	return out
}

// lapsable reports whether all of them have leases that run out: then a planned
// handover has them lapsed and removed before its block.
func (c *Coordinator) lapsable(s *service, silent []signalbox.RosterEntry) bool {
	for _, e := range silent {
		if !e.Leased || !s.conf.Evidence.Has(signalbox.Lapse) {
			return false
		}
	}
	return len(silent) > 0
}

// clearSilent has the silent ones of a planned handover lapsed and removed; it
// reports whether there were any.
func (c *Coordinator) clearSilent(ctx context.Context, s *service, to signalbox.DataCenter, by string) (bool, error) {
	var silent []signalbox.RosterEntry
	if err := c.ask(ctx, func() {
		if silent = c.silentRoster(s, to); !c.lapsable(s, silent) {
			silent = nil
		}
	}); err != nil || silent == nil {
		return false, err
	}
	var below signalbox.Term
	var wait time.Duration
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		below, wait = st.Last+1, st.Certificate.Leases().LapseWait()
	})
	ctx, cancel := context.WithTimeout(ctx, wait+clearWait)
	defer cancel()
	for _, e := range silent {
		err := c.opt.Links.ProposeTo(ctx, signalbox.Request{Remove: &signalbox.Removal{
			Service: s.conf.Name, Identity: e.Identity, Admission: e.Admission, Below: below, Allowed: signalbox.EvidenceKinds(signalbox.Lapse),
			By: by, Reason: "silent before a planned handover",
		}})
		if err != nil && !errors.Is(err, signalbox.ErrConflict) { // announced before
			return true, err
		}
	}
	again := time.NewTicker(handover.Resend)
	defer again.Stop()
	for {
		left := 0
		if err := c.ask(ctx, func() { left = c.lapseAnnounced(s, silent) }); err != nil {
			return true, fmt.Errorf("%w: the lapse of silent instances did not come in time: %w", signalbox.ErrNotReady, err)
		}
		if left == 0 {
			return true, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return true, fmt.Errorf("%w: the lapse of %d silent instances did not come in time", signalbox.ErrNotReady, left)
		}
	}
}

// lapseAnnounced asks for the lapses of announced removals and counts who is still
// outstanding under the same admission.
func (c *Coordinator) lapseAnnounced(s *service, silent []signalbox.RosterEntry) (left int) {
	type wanted struct {
		digest signalbox.Digest
		below  signalbox.Term
		entry  signalbox.RosterEntry
	}
	var ask []wanted
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		for _, e := range silent {
			if now, ok := st.Entry(e.Identity); !ok || now.Admission != e.Admission {
				continue
			}
			left++
			if a := st.Announced[e.Identity]; a != nil {
				ask = append(ask, wanted{a.Digest, a.Below, e})
			}
		}
	})
	for _, w := range ask {
		c.askLapse(s, w.digest, w.below, w.entry)
	}
	return left
}
