package agent

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// metrics are the agent's, in base units. Labels are bounded by configuration.
type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector

	state    *prometheus.GaugeVec
	term     *prometheus.GaugeVec
	floor    *prometheus.GaugeVec
	inFlight *prometheus.GaugeVec
	lease    *prometheus.GaugeVec
	sessions *prometheus.GaugeVec
	said     *prometheus.CounterVec
	rejected *prometheus.CounterVec

	persisted, drained, promoted prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "signalbox_agent_" + name, Help: help}, labels)
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signalbox_agent_" + name + "_seconds", Help: help,
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5, 15},
		})
	}
	m := &metrics{
		registerer: registerer,
		state:      gauge("state", "1 for the state that the instance is in.", "service", "instance", "state"),
		term:       gauge("term", "Term that the instance serves, or of the certificate it holds.", "service", "instance"),
		floor:      gauge("floor_term", "Lowest term that the instance may still serve.", "service", "instance"),
		inFlight:   gauge("in_flight_requests", "Requests in flight when the status last changed.", "service", "instance"),
		lease:      gauge("lease_end_timestamp_seconds", "When the lease that the driver has taken ends, unless it is renewed; absent where no lease was needed yet.", "service", "instance"),
		sessions:   gauge("session_up", "1 while there is a session with the gateway.", "gateway"),
		said: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_agent_statements_total", Help: "Statements signed, by kind.",
		}, []string{"service", "kind"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_agent_rejected_total", Help: "Messages from gateways that did not verify or made no sense.",
		}, []string{"service"}),
		persisted: seconds("persist", "Time to make an answer durable."),
		drained:   seconds("drain", "Time from the order to step down until closed with nothing in flight."),
		promoted:  seconds("promote", "Time from the order to promote until the instance serves."),
	}
	return m, m.register(m.state, m.term, m.floor, m.inFlight, m.lease, m.sessions, m.said, m.rejected, m.persisted, m.drained, m.promoted)
}

// register exports collectors, all or none of them.
func (m *metrics) register(collectors ...prometheus.Collector) error {
	if m.registerer == nil {
		return nil
	}
	for _, c := range collectors {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return fmt.Errorf("register metrics: %w (does another agent use the registry?)", err)
		}
		m.registered = append(m.registered, c)
	}
	return nil
}

// unregister takes everything out of the registry again.
func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}

func (m *metrics) status(in Instance, s *wire.InstanceStatus) {
	service := string(in.Service)
	for _, name := range []string{StateStarting, StateStandby, StateServing, StateDraining, StateDrained, StateAcked, StateLeaving, StateLeft} {
		v := 0.0
		if name == s.GetState() {
			v = 1
		}
		m.state.WithLabelValues(service, in.Name, name).Set(v)
	}
	m.term.WithLabelValues(service, in.Name).Set(float64(s.GetTerm()))
	m.floor.WithLabelValues(service, in.Name).Set(float64(s.GetFloor()))
	m.inFlight.WithLabelValues(service, in.Name).Set(float64(s.GetInFlight()))
}

// watch exports what a library instance's gate counts.
func (m *metrics) watch(in Instance, g *guard.Gate) error {
	labels := prometheus.Labels{"service": string(in.Service), "instance": in.Name}
	return m.register(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "signalbox_guard_refused_requests_total", Help: "Requests answered 503 because the instance is not master.", ConstLabels: labels,
		}, func() float64 { return float64(g.Counts().Refused) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "signalbox_guard_parked_requests_total", Help: "Requests that waited in the closed gate.", ConstLabels: labels,
		}, func() float64 { return float64(g.Counts().Parked) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "signalbox_guard_late_replies_total", Help: "Replies not sent because the lease had run out while the request was served.", ConstLabels: labels,
		}, func() float64 { return float64(g.Counts().Late) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "signalbox_guard_parked_requests", Help: "Requests that wait in the closed gate now.", ConstLabels: labels,
		}, func() float64 { return float64(g.Counts().Waiting) }),
	)
}
