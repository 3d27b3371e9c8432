package control_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox/xds/control"
)

// gauge reads one sample of a registry.
func gauge(t testing.TB, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestOneOnDemandStream: however many services an Envoy reaches, it has one
// on-demand stream. Their listeners' sources must therefore be equal.
func TestOneOnDemandStream(t *testing.T) {
	p := newPKI(t)
	registry := prometheus.NewRegistry()
	g := startGateway(t, p, "", func(o *control.Options) { o.Registerer = registry })
	east := startInstance(t, "east", nil)
	const n = 5
	ports := make([]uint32, n)
	for i := range ports {
		ports[i] = freePort(t)
		s := orders(ports[i], 7, east)
		s.Name = fmt.Sprintf("orders-%d", i)
		g.set(s)
	}
	startProxy(t, p, "envoy-1", g.addr)
	for _, port := range ports {
		awaitListening(t, port)
		if a := call(http.DefaultClient, "GET", fmt.Sprintf("http://127.0.0.1:%d/", port), nil); a.status != 200 {
			t.Fatalf("port %d: %v", port, a)
		}
	}
	if got := gauge(t, registry, "signalbox_xds_streams", "on_demand"); got != 1 {
		t.Fatalf("%v on-demand streams for %d services", got, n)
	}
}
