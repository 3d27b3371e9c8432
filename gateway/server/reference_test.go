package server

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox/membership/agent"
)

var updateMetrics = flag.Bool("update-metrics", false, "write docs/reference/metrics.md anew")

const metricsHead = `<!-- Code generated from gateway/server: go test ./gateway/server -run MetricsReference -update-metrics. DO NOT EDIT. -->

# Metrics

What a gateway and an agent export for Prometheus; counters with labels appear when there is something to count.
No label grows with use: services are those that are configured, instances those beside the agent, proxies are counted and not named.
`

// TestMetricsReferenceIsCurrent holds docs/reference/metrics.md to what the
// processes register.
func TestMetricsReferenceIsCurrent(t *testing.T) {
	s := newSite(t)
	gateway := s.startGateway("east-1")
	registry := prometheus.NewRegistry()
	s.startAgent("e1", func(o *agent.Options) { o.Registerer = registry })
	library := prometheus.NewRegistry()
	s.startAgent("e2", func(o *agent.Options) {
		o.Registerer, o.Instances[0].Driver, o.Instances[0].DriverName = library, nil, ""
	})
	eventually(t, "all to be registered", func() bool {
		return len(described(gateway.registry)) > 10 && len(described(registry)) > 10 && len(described(library)) > len(described(registry))
	})

	out := bytes.NewBufferString(metricsHead)
	ofAgent := described(registry)
	table(out, "Gateway", "It exports Go's and its process's own metrics as well (`go_...`, `process_...`).", described(gateway.registry))
	table(out, "Agent", "", ofAgent)
	table(out, "Go library", "Beside the agent's, in the registry of the service's own process.",
		slices.DeleteFunc(described(library), func(row string) bool { return slices.Contains(ofAgent, row) }))
	path := filepath.Join("..", "..", "docs", "reference", "metrics.md")
	if *updateMetrics {
		must(t, os.WriteFile(path, out.Bytes(), 0o644))
	}
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, out.Bytes()) {
		t.Errorf("%s is not current (%v): go test ./gateway/server -run MetricsReference -update-metrics", path, err)
	}
}

func table(out *bytes.Buffer, title, text string, rows []string) {
	fmt.Fprintf(out, "\n## %s\n", title)
	if text != "" {
		fmt.Fprintf(out, "\n%s\n", text)
	}
	fmt.Fprintf(out, "\n| metric | type | labels | what |\n| --- | --- | --- | --- |\n%s\n", strings.Join(rows, "\n"))
}

var desc = regexp.MustCompile(`fqName: "(signalbox_\w+)", help: "(.*?)", (?:unit: "[^"]*", )?constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// described returns a table row for each of our metrics that is registered, with
// or without a value.
func described(r *prometheus.Registry) (rows []string) {
	ch := make(chan *prometheus.Desc)
	go func() {
		r.Describe(ch)
		close(ch)
	}()
	for d := range ch {
		m := desc.FindStringSubmatch(d.String())
		if m == nil {
			continue
		}
		var labels []string
		for _, pair := range strings.Split(m[3], ",") {
			if name, _, ok := strings.Cut(pair, "="); ok {
				labels = append(labels, strings.TrimSpace(name))
			}
		}
		if m[4] != "" {
			labels = append(labels, strings.Split(m[4], ",")...)
		}
		slices.Sort(labels)
		kind := "gauge"
		switch {
		case strings.HasSuffix(m[1], "_total"):
			kind = "counter"
		case strings.HasSuffix(m[1], "_seconds") && !strings.HasSuffix(m[1], "_timestamp_seconds"):
			kind = "histogram"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", m[1], kind, strings.Join(slices.Compact(labels), ", "), m[2]))
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}
