package coordinator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the gateway's own; names and labels are bounded by the
// configuration. A nil *Metrics counts nothing.
type Metrics struct {
	handovers *prometheus.CounterVec
	term      *prometheus.GaugeVec
	master    *prometheus.GaugeVec
	open      *prometheus.GaugeVec
	hold      prometheus.Histogram
	refused   prometheus.Counter
	invalid   prometheus.Counter
	policy    policyMetrics
}

// NewMetrics registers the coordinator's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		handovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_handovers_total", Help: "Handovers that are over, by service and outcome.",
		}, []string{"service", "outcome"}),
		term: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signalbox_service_term", Help: "The newest certified term that this gateway knows, by service.",
		}, []string{"service"}),
		master: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signalbox_service_master", Help: "1 for the certified master data center of a service, 0 for its others.",
		}, []string{"service", "data_center"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signalbox_handover_open", Help: "1 while a handover of the service is open, by service.",
		}, []string{"service"}),
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
	m.policy = newPolicyMetrics(reg)
	reg.MustRegister(m.handovers, m.term, m.master, m.open, m.hold, m.refused, m.invalid)
	return m
}

func (m *Metrics) handover(service, outcome string, hold time.Duration) {
	if m != nil {
		m.handovers.WithLabelValues(service, outcome).Inc()
		m.hold.Observe(hold.Seconds())
	}
}

// service shows who is master of a service, and whether a handover is open.
func (m *Metrics) service(s *service, open bool) {
	if m == nil {
		return
	}
	name, held := string(s.conf.Name), 0.0
	if open {
		held = 1
	}
	m.open.WithLabelValues(name).Set(held)
	cert := s.machine.Certificate()
	if cert == nil {
		return
	}
	m.term.WithLabelValues(name).Set(float64(cert.Term))
	for _, dc := range s.conf.DataCenters {
		is := 0.0
		if dc == cert.DataCenter() {
			is = 1
		}
		m.master.WithLabelValues(name, string(dc)).Set(is)
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
