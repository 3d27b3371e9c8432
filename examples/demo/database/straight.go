package database

import (
	"context"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
)

// Straight are clients connected straight to each data center's server, past the
// proxies, who write whenever they may: nobody who moves a service keeps such
// clients away, and what they are told counts as much. The zero value is none.
type Straight map[string]*inserts.Load

// StartStraight starts one client for each server.
func StartStraight(store func(dc string) inserts.Store) Straight {
	s := Straight{}
	for i, dc := range demo.DataCenters() {
		s[dc] = inserts.Start(inserts.Config{Store: store(dc), Writers: 1, First: 100 + i})
	}
	return s
}

// Overlap is how long both servers acknowledged, in milliseconds: from the new
// master's first row within a switch to the old one's last.
func (s Straight) Overlap(from, to string, begin, end time.Time) float64 {
	if s == nil {
		return 0
	}
	first, _ := s[to].Span(begin, end)
	_, last := s[from].Span(begin, end)
	if first.IsZero() || last.IsZero() || !last.After(first) {
		return 0
	}
	return float64(last.Sub(first).Microseconds()) / 1000
}

// Stop ends them.
func (s Straight) Stop() {
	for _, l := range s {
		l.Stop()
	}
}

// Check counts the rows that were acknowledged to them and that a server has not.
func (s Straight) Check(ctx context.Context, server inserts.Store) (lost int, err error) {
	for _, l := range s {
		n, err := l.Check(ctx, server)
		if err != nil {
			return 0, err
		}
		lost += n
	}
	return lost, nil
}
