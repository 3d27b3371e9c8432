package control

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox/xds/resource"
)

// metrics carry no proxy and no service names: both are unbounded.
type metrics struct {
	proxies, services prometheus.Gauge
	streams           *prometheus.GaugeVec
	pushed, silent    *prometheus.CounterVec
	acks, nacks       *prometheus.CounterVec
	refused           *prometheus.CounterVec
	eventsDropped     prometheus.Counter
	ackSeconds        *prometheus.HistogramVec
	parked            prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns, sub = "signalbox", "xds"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
	}
	m := &metrics{
		proxies:  gauge("proxies", "Proxies with an open configuration stream."),
		services: gauge("services", "Registered services."),
		parked:   gauge("parked_connections", "Connections of proxyless clients on the parking listener."),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "streams", Help: "Open xDS streams by kind.",
		}, []string{"kind"}),
		pushed:  counter("resources_pushed_total", "Resources sent to proxies.", "type"),
		silent:  counter("downgrades_withheld_total", "Resources not sent because the proxy reported a higher term.", "type"),
		acks:    counter("acks_total", "Responses that proxies accepted.", "type"),
		nacks:   counter("nacks_total", "Responses that proxies rejected.", "type"),
		refused: counter("streams_refused_total", "Streams refused.", "reason"),
		eventsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "events_dropped_total", Help: "Events dropped because the consumer did not keep up.",
		}),
		ackSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "ack_seconds", Help: "Time from a push to the proxy's answer.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 5},
		}, []string{"type"}),
	}
	for _, c := range []prometheus.Collector{
		m.proxies, m.services, m.parked, m.streams, m.pushed, m.silent, m.acks, m.nacks, m.refused, m.eventsDropped, m.ackSeconds,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register xds metrics: %w", err)
		}
	}
	return m, nil
}

// typeLabel keeps the type label to a known set.
func typeLabel(typeURL string) string {
	switch typeURL {
	case resource.ListenerType:
		return "listener"
	case resource.RouteType:
		return "route"
	case resource.ClusterType:
		return "cluster"
	case resource.EndpointsType:
		return "endpoints"
	}
	return "other"
}
