package database

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/gateway/api"
)

const (
	// switchWithin bounds one switch and what follows until the next is possible.
	switchWithin = 2 * time.Minute
	// flowing is how many rows are acknowledged before and after a switch.
	flowing = 100
)

// Switch is one switch as the clients saw it.
type Switch struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Term    uint64 `json:"term"`
	Outcome string `json:"outcome"`
	inserts.Stats
	// TwoMastersMS is how long both servers acknowledged rows to clients that were
	// connected straight to them; measured where Straight is.
	TwoMastersMS float64 `json:"two_masters_ms"`
	// BackMS is how long after it the old master was ready to take over again.
	BackMS float64 `json:"standby_again_ms"`

	Handover api.Handover `json:"-"`
}

// Result is a run.
type Result struct {
	Stop     string        `json:"stop,omitempty"` // how PostgreSQL stops
	Switches []Switch      `json:"switches"`
	Total    inserts.Stats `json:"total"`
	// Lost are acknowledged rows that the last master does not have.
	Lost int `json:"lost_acknowledged_rows"`
	// LostStraight are those of clients that were connected straight to a server.
	LostStraight int  `json:"lost_acknowledged_rows_of_straight_clients"`
	OK           bool `json:"ok"`
}

// MedianOutage is the median write outage of the switches that went through.
func (r *Result) MedianOutage() time.Duration {
	var all []time.Duration
	for _, s := range r.Switches {
		if s.Outcome == api.OutcomeForward {
			all = append(all, s.Outage)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// Run switches there and back under load, n times in all, and looks for every
// acknowledged row afterwards. each is told of every switch; may be nil.
func (d *Database) Run(ctx context.Context, n int, each func(Switch)) (Result, error) {
	r := Result{Stop: d.stop}
	l := inserts.Start(inserts.Config{Store: d.server.store("")})
	var straight Straight
	if d.server.kind() == "redis" { // PostgreSQL's is stopped
		straight = StartStraight(d.server.store)
	}
	master, err := d.switches(ctx, l, n, &r, func(s *Switch, from, to time.Time) {
		s.TwoMastersMS = straight.Overlap(s.From, s.To, from, to)
		if each != nil {
			each(*s)
		}
	})
	l.Stop()
	straight.Stop()
	if err != nil {
		return r, err
	}
	r.Total = l.Total()
	if r.Lost, err = l.Check(ctx, d.server.store(master)); err != nil {
		return r, err
	}
	if r.LostStraight, err = straight.Check(ctx, d.server.store(master)); err != nil {
		return r, err
	}
	r.OK = r.Lost == 0 && r.LostStraight == 0 && r.Total.Refused == 0
	for _, s := range r.Switches {
		r.OK = r.OK && s.Outcome == api.OutcomeForward && s.Failed <= inserts.Writers && s.TwoMastersMS == 0
	}
	return r, nil
}

func (d *Database) switches(ctx context.Context, l *inserts.Load, n int, r *Result, each func(s *Switch, from, to time.Time)) (string, error) {
	master := demo.East
	for range n {
		began := time.Now()
		s, err := d.one(ctx, l, other(master))
		if err != nil {
			return master, err
		}
		each(&s, began, time.Now())
		r.Switches = append(r.Switches, s)
		if s.Outcome == api.OutcomeForward {
			master = s.To
		}
	}
	return master, nil
}

// one makes one switch, and returns when the next one would be possible.
func (d *Database) one(ctx context.Context, l *inserts.Load, to string) (Switch, error) {
	ctx, cancel := context.WithTimeout(ctx, switchWithin)
	defer cancel()
	if err := l.Flows(ctx, time.Now(), flowing); err != nil {
		return Switch{}, err
	}
	before := time.Now().Add(-100 * time.Millisecond)
	h, err := d.SwitchTo(ctx, to)
	if err != nil {
		return Switch{}, err
	}
	over := time.Now()
	if err := l.Flows(ctx, over, flowing); err != nil {
		return Switch{}, fmt.Errorf("after handover %s (%s): %w", h.ID, h.Outcome, err)
	}
	after := time.Now()
	master := to
	if h.Outcome != api.OutcomeForward {
		master = other(to)
	}
	if err := d.Settled(ctx, master); err != nil {
		return Switch{}, err
	}
	s := Switch{From: other(to), To: to, Term: h.CertifiedTerm, Outcome: h.Outcome, Stats: l.Between(before, after), Handover: h}
	s.BackMS = float64(time.Since(over).Milliseconds())
	return s, nil
}
