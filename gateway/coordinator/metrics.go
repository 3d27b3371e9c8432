package coordinator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the gateway's own; names and labels are bounded by the
// configuration. A nil *Metrics counts nothing.
type Metrics struct {
	handovers *prometheus.CounterVec
	hold      prometheus.Histogram
	refused   prometheus.Counter
	invalid   prometheus.Counter
}

// NewMetrics registers the coordinator's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		handovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_handovers_total", Help: "Handovers that are over, by service and outcome.",
		}, []string{"service", "outcome"}),
		hold: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signalbox_hold_seconds", Help: "How long requests were held in one handover, as this gateway saw it.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15},
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_statements_refused_total", Help: "Statements that did not verify or came from unknown signers.",
		}),
		invalid: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signalbox_certificates_refused_total", Help: "Certificates from peers that did not verify.",
		}),
	}
	reg.MustRegister(m.handovers, m.hold, m.refused, m.invalid)
	return m
}

func (m *Metrics) handover(service, outcome string, hold time.Duration) {
	if m != nil {
		m.handovers.WithLabelValues(service, outcome).Inc()
		m.hold.Observe(hold.Seconds())
	}
}

func (m *Metrics) refusedStatement() {
	if m != nil {
		m.refused.Inc()
	}
}

func (m *Metrics) refusedCertificate() {
	if m != nil {
		m.invalid.Inc()
	}
}
