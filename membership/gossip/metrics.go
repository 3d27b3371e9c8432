package gossip

import (
	"github.com/prometheus/client_golang/prometheus"
)

// reason is why something was dropped; it is a metric's label, so the values
// are few.
type reason string

const (
	dropOversized reason = "oversized"     // larger than its named maximum
	dropLabel     reason = "label"         // another cluster's or pool's
	dropFrame     reason = "frame"         // truncated, or not encrypted as agreed
	dropDecrypt   reason = "decrypt"       // no key of ours opens it
	dropStreams   reason = "streams"       // too many streams open to us
	dropMalformed reason = "malformed"     // a message of ours that does not decode
	dropInvalid   reason = "invalid"       // refused by a Validate function
	dropStale     reason = "stale"         // refused with ErrStale
	dropQueue     reason = "queue_full"    // we are too slow; push-pull repeats it
	dropMeta      reason = "metadata"      // a member whose metadata is refused
	dropMembers   reason = "members_full"  // more than MaxMembers
	dropUnknown   reason = "unknown_asker" // a request by nobody we know
	dropEvicted   reason = "evicted"       // pushed out by newer entries
	dropAddress   reason = "address"       // not an IP address and port
	dropSend      reason = "send"          // could not be sent
	dropConflict  reason = "name_conflict" // two members claim one name
)

var allReasons = []reason{
	dropOversized, dropLabel, dropFrame, dropDecrypt, dropStreams, dropMalformed, dropInvalid, dropStale,
	dropQueue, dropMeta, dropMembers, dropUnknown, dropEvicted, dropAddress, dropSend, dropConflict,
}

type metrics struct {
	receipts   *prometheus.CounterVec // by path
	duplicates prometheus.Counter
	documents  prometheus.Counter
	dropped    *prometheus.CounterVec // by reason
	gauges     []prometheus.Collector
}

func newMetrics() *metrics {
	m := &metrics{
		receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_gossip_statements_received_total",
			Help: "Statements received for the first time, by the path that was fastest.",
		}, []string{"path"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_gossip_statement_duplicates_total",
			Help: "Statements received again.",
		}),
		documents: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_gossip_documents_received_total",
			Help: "Documents received for the first time.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_gossip_dropped_total",
			Help: "What was dropped, by reason.",
		}, []string{"reason"}),
	}
	for _, p := range []path{pathDirect, pathRelay, pathTick, pathSync, 0} {
		m.receipts.WithLabelValues(p.String())
	}
	for _, r := range allReasons {
		m.dropped.WithLabelValues(string(r))
	}
	return m
}

// observe adds gauges that read the Pool when they are scraped.
func (m *metrics) observe(p *Pool) {
	gauge := func(name, help string, labels prometheus.Labels, read func() int) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(read()) }))
	}
	for _, role := range []Role{RoleAgent, RoleGateway} {
		gauge("signalbox_gossip_members", "Members heard of, this one included.",
			prometheus.Labels{"role": role.String()}, func() int { return p.presence.count(role) })
	}
	gauge("signalbox_gossip_statements", "Statements kept.", nil, p.statements.shelf.size)
	gauge("signalbox_gossip_documents", "Documents kept.", nil, p.documents.size)
}

func (m *metrics) collectors() []prometheus.Collector {
	return append([]prometheus.Collector{m.receipts, m.duplicates, m.documents, m.dropped}, m.gauges...)
}

// register exports the metrics under the pool's name and returns how to take
// them back.
func (m *metrics) register(r prometheus.Registerer, pool string) (func(), error) {
	if r == nil {
		return func() {}, nil
	}
	r = prometheus.WrapRegistererWith(prometheus.Labels{"pool": pool}, r)
	var done []prometheus.Collector
	undo := func() {
		for _, c := range done {
			r.Unregister(c)
		}
	}
	for _, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			undo()
			return nil, err
		}
		done = append(done, c)
	}
	return undo, nil
}
