package report

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func at(v float64) *float64 { return &v }

func forward() *api.Handover {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	end, dual := start.Add(1204*time.Millisecond), uint64(0)
	return &api.Handover{
		ID: "orders-k3j9x0qm2dab", Service: "orders", From: "east", To: "west", Term: 8, FallbackTerm: 9, CertifiedTerm: 8,
		Outcome: api.OutcomeForward, State: "settled", By: "operator/alice", Reason: "power work in hall 3", Allowed: "ack+leave",
		HoldBudgetMS: 5000, Started: start, Ended: &end, HoldMS: at(9.412),
		Phases: []api.Phase{
			{Name: api.PhasePrepare, BeginMS: 0, EndMS: at(880.12)}, {Name: api.PhaseHold, BeginMS: 880.12, EndMS: at(883.5)},
			{Name: api.PhaseDrain, BeginMS: 883.5, EndMS: at(886)}, {Name: api.PhaseAck, BeginMS: 886, EndMS: at(887.1)},
			{Name: api.PhaseSeal, BeginMS: 887.1, EndMS: at(887.3)}, {Name: api.PhasePromote, BeginMS: 887.3, EndMS: at(888)},
			{Name: api.PhaseRelease, BeginMS: 888, EndMS: at(889.532)}, {Name: api.PhaseSettle, BeginMS: 889.532, EndMS: at(1204)},
		},
		Requests: &api.Requests{Source: "load-generator", Total: 10234, Held: 17, P50MS: at(1.2), P99MS: at(8.125), MaxMS: at(21), AddedP50MS: at(0.1), AddedP99MS: at(6), OverlapMS: at(0), DualMasters: &dual},
		Acks: []api.Ack{
			{Instance: "orders-east-1", DataCenter: "east", Evidence: "ack", DrainedMS: at(884.1), AckedMS: at(886.9)},
			{Instance: "orders-east-2", DataCenter: "east", Evidence: "ack", DrainedMS: at(886), AckedMS: at(887.1)},
			{Instance: "orders-east-3", DataCenter: "east", Evidence: "leave", AckedMS: at(0.2)},
		},
		Promotions:  []api.Promotion{{Instance: "orders-west-1", DataCenter: "west", ServingMS: at(888), Address: "127.0.0.1:9001"}},
		Proxies:     []api.ProxyHold{{ID: "envoy-east-1", DataCenter: "east", HeldMS: at(883), ReleasedMS: at(889)}, {ID: "envoy-west-1", DataCenter: "west", HeldMS: at(883.5), ReleasedMS: at(889.532)}},
		Certificate: &api.Certificate{Service: "orders", Term: 8, Master: "west", Block: strings.Repeat("3fa2", 16), Scheme: "ed25519", Evidence: 3},
	}
}

// A fallback with everything that can go wrong, and hostile text in it.
func fallback() *api.Handover {
	h := forward()
	h.Outcome, h.CertifiedTerm, h.GivenUp, h.Requests, h.HoldMS = api.OutcomeFallback, 9, "a proxy rejected the hold", nil, nil
	h.Reason, h.LateProxies, h.EventsDropped = "<script>alert(1)</script>\x1b[31m", []string{"envoy-gone"}, 12
	h.Acks[1] = api.Ack{Instance: "orders-east-2", DataCenter: "east", InFlight: 14, Problem: "draining 14 requests"}
	h.Acks[0].Evidence = "refuse"
	h.Proxies[0].Late, h.Proxies[0].HeldMS, h.Proxies[0].Problem = true, nil, `route "orders": unknown cluster`
	h.Certificate = &api.Certificate{Service: "orders", Term: 9, Master: "east", Block: strings.Repeat("3fa2", 16), Evidence: 1, Fallback: true}
	return h
}

func open() *api.Handover {
	h := fallback()
	h.Outcome, h.State, h.CertifiedTerm, h.Ended, h.Certificate, h.Reason = api.OutcomeOpen, api.StateDraining, 0, nil, nil, ""
	h.Phases = h.Phases[:3]
	h.Phases[2].EndMS = nil
	h.Waiting = []string{"orders-east-2: draining 14 requests"}
	return h
}

// The report's two forms are what the golden files show.
func TestGolden(t *testing.T) {
	for name, h := range map[string]*api.Handover{"forward": forward(), "fallback": fallback(), "open": open(), "empty": {}} {
		for ending, write := range map[string]func(io.Writer, *api.Handover) error{".txt": Terminal, ".html": HTML} {
			var b bytes.Buffer
			if err := write(&b, h); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+ending)
			if *update {
				if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(want, b.Bytes()) {
				t.Errorf("%s differs (%v); with -update it is written anew:\n%s", path, err, b.Bytes())
			}
		}
	}
}

// What came over the network steers neither a terminal nor a browser.
func TestHostileTextIsHarmless(t *testing.T) {
	var terminal, page bytes.Buffer
	if err := Terminal(&terminal, fallback()); err != nil {
		t.Fatal(err)
	}
	if err := HTML(&page, fallback()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(terminal.String(), "\x1b") {
		t.Error("an escape sequence reaches the terminal")
	}
	if strings.Contains(page.String(), "<script") {
		t.Error("a script reaches the browser")
	}
}
