package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Rule: every request is counted once, and nothing that a client makes up becomes
// a label.
func TestMetricsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics(registry)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services/{name}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	mux.HandleFunc("/", nowhere(mux))
	h := m.measure(noteRoute(mux))
	for n := range 50 {
		for _, method := range []string{http.MethodGet, fmt.Sprintf("M%d", n)} {
			for _, path := range []string{"/v1/services/", "/nothing/"} {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, fmt.Sprintf("%s%d", path, n), nil))
			}
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "signalbox_api_requests_total" {
			continue
		}
		for _, series := range f.GetMetric() {
			var labels []string
			for _, l := range series.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			got[strings.Join(labels, " ")] = series.GetCounter().GetValue()
		}
	}
	// code, method, route
	for labels, want := range map[string]float64{
		"200 GET /v1/services/{name}": 50, "404 GET other": 50, "405 other other": 50, "404 other other": 50,
	} {
		if got[labels] != want {
			t.Errorf("%s: %v, want %v", labels, got[labels], want)
		}
	}
	if len(got) != 4 {
		t.Errorf("series: %v", got)
	}
}
