package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the API answered. Their labels are bounded: routes are those
// of the API, methods and codes what it knows.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	active   prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_api_requests_total", Help: "Requests to the gateway's API, by route, method and status code. Route \"other\" is none of the API's.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signalbox_api_request_duration_seconds", Help: "Time from a request to the end of its answer, by route. Event streams last until their reader goes.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
		}, []string{"route"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "signalbox_api_requests", Help: "Requests being answered, event streams included."}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.duration, m.active)
	}
	return m
}

type routeKey struct{}

// measure counts every request, also those that are refused before a route is
// looked for.
func (m *metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		route := otherRoute
		coded := &coded{ResponseWriter: w, code: http.StatusOK}
		m.active.Inc()
		defer func() {
			m.active.Dec()
			m.requests.WithLabelValues(route, boundedMethod(r.Method), strconv.Itoa(coded.code)).Inc()
			m.duration.WithLabelValues(route).Observe(time.Since(began).Seconds())
		}()
		next.ServeHTTP(coded, r.WithContext(context.WithValue(r.Context(), routeKey{}, &route)))
	})
}

// otherRoute is the label of what is no route of the API.
const otherRoute = "other"

// noteRoute tells measure which route was found.
func noteRoute(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" && pattern != "/" {
			if route, ok := r.Context().Value(routeKey{}).(*string); ok {
				_, *route, _ = strings.Cut(pattern, " ")
			}
		}
		mux.ServeHTTP(w, r)
	})
}

// boundedMethod keeps what a client makes up out of the labels.
func boundedMethod(method string) string {
	if method == http.MethodGet || method == http.MethodPost {
		return method
	}
	return otherRoute
}

// coded notes the status code of an answer.
type coded struct {
	http.ResponseWriter
	code int
	sent bool
}

// WriteHeader implements http.ResponseWriter.
func (c *coded) WriteHeader(code int) {
	if !c.sent && code >= http.StatusOK {
		c.code, c.sent = code, true
	}
	c.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (c *coded) Write(b []byte) (int, error) {
	c.sent = true
	return c.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the writer.
func (c *coded) Unwrap() http.ResponseWriter { return c.ResponseWriter }
