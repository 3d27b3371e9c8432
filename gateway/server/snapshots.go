package server

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/journal"
)

// How often what failed is tried again, and by how much later than the one before
// it, by name, a gateway proposes a snapshot.
const (
	snapshotAgain = 10 * time.Second
	snapshotTurn  = 2 * time.Second
)

// keepBounded proposes snapshots when they are due, and puts those that were
// decided in the place of old blocks. What fails is tried again; the log only
// grows meanwhile.
func (s *Server) keepBounded(ctx context.Context) error {
	turn, told := s.snapshotTurn(), ""
	var due signalbox.Snapshot // the one that is waited for
	var next time.Time
	tell := func(err error, what string) {
		if err == nil || ctx.Err() != nil || err.Error() == told {
			return
		}
		told = err.Error()
		s.opt.Logger.Error().Err(err).Msg(what)
	}
	timer := time.NewTimer(snapshotAgain)
	defer timer.Stop()
	for {
		changed := s.journal.Changed()
		wait := snapshotAgain
		if err := s.journal.Compact(); err != nil {
			tell(err, "the journal goes on growing")
			s.journalMetrics.failed.Inc()
		}
		request, err := s.journal.SnapshotDue()
		tell(err, "no snapshot of the log can be taken")
		if request != nil {
			now := time.Now()
			if *request != due {
				due, next = *request, now.Add(turn)
			}
			if !now.Before(next) {
				err := s.peers.ProposeTo(ctx, signalbox.Request{Snapshot: request})
				if err != nil && !errors.Is(err, signalbox.ErrConflict) && !errors.Is(err, signalbox.ErrUnavailable) {
					tell(err, "a snapshot of the log was refused")
				}
				next = time.Now().Add(snapshotAgain)
			}
			wait = min(wait, max(time.Until(next), time.Millisecond))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
	}
}

// snapshotTurn is how much later than the first this gateway proposes: equal
// proposals are decided once, but each costs.
func (s *Server) snapshotTurn() (wait time.Duration) {
	peers, _ := s.topology()
	for _, p := range peers {
		if p.Name < s.opt.Bundle.Self.Name {
			wait += snapshotTurn
		}
	}
	return wait
}

// journalMetrics say how big the journal is.
type journalMetrics struct {
	size   func() journal.Size
	failed prometheus.Counter
}

var (
	descBlocks   = prometheus.NewDesc("signalbox_journal_blocks", "Blocks that stand in this gateway's log; older ones are in its snapshot.", nil, nil)
	descBytes    = prometheus.NewDesc("signalbox_journal_bytes", "Size of the journal's file; what is freed in it is used again.", nil, nil)
	descSnapshot = prometheus.NewDesc("signalbox_journal_snapshot_index", "Block up to which a snapshot stands for the log, 0 for none.", nil, nil)
	descContent  = prometheus.NewDesc("signalbox_journal_snapshot_bytes", "Size of that snapshot.", nil, nil)
	descAge      = prometheus.NewDesc("signalbox_journal_snapshot_age_seconds", "How long ago the block of that snapshot was decided; missing when there is none.", nil, nil)
)

func newJournalMetrics(reg prometheus.Registerer, size func() journal.Size) *journalMetrics {
	m := &journalMetrics{size: size, failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "signalbox_journal_snapshot_failures_total", Help: "Decided snapshots that could not be put on the disk; each is tried again.",
	})}
	reg.MustRegister(m, m.failed)
	return m
}

// Describe implements prometheus.Collector.
func (m *journalMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBlocks, descBytes, descSnapshot, descContent, descAge} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *journalMetrics) Collect(ch chan<- prometheus.Metric) {
	size := m.size()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(descBlocks, float64(size.Blocks))
	gauge(descBytes, float64(size.Bytes))
	gauge(descSnapshot, float64(size.Snapshot))
	gauge(descContent, float64(size.SnapshotBytes))
	if size.Snapshot > 0 {
		gauge(descAge, time.Since(size.SnapshotAt).Seconds())
	}
}
