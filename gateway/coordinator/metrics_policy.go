package coordinator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// policyMetrics are those of safety rules and readiness; services, data centers,
// rules and checks bound the labels.
type policyMetrics struct {
	paused        *prometheus.GaugeVec
	pausedSeconds *prometheus.CounterVec
	refusals      *prometheus.CounterVec
	glass         *prometheus.CounterVec
	waiting       *prometheus.GaugeVec
	ready         *prometheus.GaugeVec
	failing       *prometheus.GaugeVec
	standing      *prometheus.GaugeVec
	lag           *prometheus.GaugeVec
	common        *prometheus.GaugeVec
	expiry        *prometheus.GaugeVec

	// rows are those that the last survey showed: looking for them in the
	// vectors takes as long as there are rows, for each service.
	rows map[row]bool
}

// row is a service's data center. Which checks fail there the API tells: a row for
// each would cost a gateway of 1,000 services more than all its other metrics.
type row struct{ service, dc string }

func newPolicyMetrics(reg prometheus.Registerer) policyMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := policyMetrics{
		paused:        gauge("signalbox_service_paused", "1 while the service is paused, by service.", "service"),
		pausedSeconds: counter("signalbox_service_paused_seconds_total", "For how long the service was paused since this gateway started, by service.", "service"),
		refusals:      counter("signalbox_rule_refusals_total", "Orders that a safety rule refused at this gateway, by service and rule.", "service", "rule"),
		glass:         counter("signalbox_break_glass_total", "Handovers that overrode safety rules since this gateway started, by service.", "service"),
		waiting:       gauge("signalbox_approvals_waiting", "Orders that wait for approval, by service.", "service"),
		ready:         gauge("signalbox_ready", "1 when the service could be moved to the data center now, by service and data center.", "service", "data_center"),
		failing:       gauge("signalbox_readiness_failing", "Checks of a move to the data center that do not pass now, warnings included, by service and data center; signalbox readiness -o wide names them.", "service", "data_center"),
		standing:      gauge("signalbox_standing_instances", "Instances that stand ready in a data center that is not master, by service and data center.", "service", "data_center"),
		lag:           gauge("signalbox_lag_bytes", "The largest lag that a driver says in a data center that is not master, by service and data center.", "service", "data_center"),
		common:        gauge("signalbox_gateway_check", "1 when a check that concerns all services passes: voters, journal, certificates.", "check"),
		expiry:        gauge("signalbox_certificate_expiry_timestamp_seconds", "When the first certificate of a kind ends, in seconds since 1970: own, ca, or peer (of who connected here).", "kind"),
	}
	reg.MustRegister(m.paused, m.pausedSeconds, m.refusals, m.glass, m.waiting, m.ready, m.failing, m.standing, m.lag, m.common, m.expiry)
	return m
}

func (m *Metrics) ruleRefused(service, rule string) {
	if m != nil {
		m.policy.refusals.WithLabelValues(service, rule).Inc()
	}
}

func (m *Metrics) glassBroken(service string) {
	if m != nil {
		m.policy.glass.WithLabelValues(service).Inc()
	}
}

// people shows what people said of a service; paused is for how long it was
// paused since the last time.
func (m *Metrics) people(service string, holds bool, paused time.Duration, waiting int) {
	if m == nil {
		return
	}
	m.policy.paused.WithLabelValues(service).Set(one(holds))
	m.policy.pausedSeconds.WithLabelValues(service).Add(paused.Seconds())
	m.policy.waiting.WithLabelValues(service).Set(float64(waiting))
}

// readiness shows a survey. A master's data center has no row.
func (m *Metrics) readiness(v *api.Readiness, expiries []Expiry) {
	if m == nil {
		return
	}
	p := &m.policy
	for _, c := range v.Checks {
		p.common.WithLabelValues(c.Name).Set(one(c.OK))
	}
	rows := map[row]bool{}
	for _, s := range v.Services {
		for _, t := range s.Targets {
			rows[row{service: s.Service, dc: t.DataCenter}] = true
			p.ready.WithLabelValues(s.Service, t.DataCenter).Set(one(t.Ready))
			p.standing.WithLabelValues(s.Service, t.DataCenter).Set(float64(t.Standing))
			p.lag.WithLabelValues(s.Service, t.DataCenter).Set(float64(t.LagBytes))
			failing := 0
			for _, c := range t.Checks {
				if !c.OK {
					failing++
				}
			}
			p.failing.WithLabelValues(s.Service, t.DataCenter).Set(float64(failing))
		}
	}
	p.forget(rows)
	first := map[string]time.Time{}
	for _, e := range expiries {
		if at, ok := first[e.Kind]; !ok || e.NotAfter.Before(at) {
			first[e.Kind] = e.NotAfter
		}
	}
	for kind, at := range first {
		p.expiry.WithLabelValues(kind).Set(float64(at.Unix()))
	}
}

// forget drops the rows that were shown and are not any more.
func (p *policyMetrics) forget(now map[row]bool) {
	for r := range p.rows {
		if now[r] {
			continue
		}
		for _, vec := range []*prometheus.GaugeVec{p.ready, p.failing, p.standing, p.lag} {
			vec.DeleteLabelValues(r.service, r.dc)
		}
	}
	p.rows = now
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
