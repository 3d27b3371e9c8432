package e2e

import (
	"testing"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/chaos"
)

// The kill tests sample what make chaos runs in full: one kind of process, at one step of a handover.

// Rule: a gateway killed at a step is resumed by itself or another, and no request fails.
func testKillGateway(t *testing.T, f *fixture) {
	f.kill(t, chaos.Gateway, api.PhaseHold, api.PhaseRelease)
}

// Rule: an agent killed at a step comes back and goes on; its instance keeps serving, or stays closed.
func testKillAgent(t *testing.T, f *fixture) {
	f.kill(t, chaos.Agent, api.PhaseDrain, api.PhaseAck)
}

// Rule: an instance killed at a step fails what it had in flight and nothing else: no dual master, nothing answered lost.
func testKillInstance(t *testing.T, f *fixture) {
	f.kill(t, chaos.Instance, api.PhaseDrain, api.PhasePromote)
}

// Rule: an Envoy killed at a step fails what went through it and nothing else.
func testKillEnvoy(t *testing.T, f *fixture) {
	f.kill(t, chaos.Envoy, api.PhaseHold)
}

func (f *fixture) kill(t *testing.T, kind chaos.Kind, phases ...string) {
	t.Helper()
	for n, phase := range phases {
		l := f.load(t)
		trial := chaos.Trial{Kind: kind, Phase: phase, Which: n}
		result, err := trial.Run(within(t), f.Site)
		must(t, err)
		t.Log(result)
		f.steady(t, result.Master)
		must(t, l.Stop())
		failed := l.Report(l.Window()).Failed
		if failed > 0 {
			t.Logf("%d requests failed: %v", failed, l.Report(l.Window()).Failures)
		}
		if kind.Harmless() && failed > 0 {
			t.Errorf("killing a %s at %s failed %d requests", kind, phase, failed)
		}
		f.lenient = f.lenient || !kind.Harmless()
	}
}
