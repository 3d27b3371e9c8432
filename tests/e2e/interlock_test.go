package e2e

import (
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
)

// TestInterlock is a planned switchover and everything that can get in its way, on one site. Whatever happens: no two
// masters, nothing answered is lost (design, section 2).
func TestInterlock(t *testing.T) {
	f := start(t, demo.Options{HotRestart: true, HoldBudget: 10 * time.Second, More: []demo.MoreService{
		{Name: blockedService, Protocol: "http", Port: block(t)}, {Name: callsService, Protocol: "grpc"},
	}})
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	for _, s := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"switches", testSwitches},
		{"command", testCommand},
		{"conflict", testConflict},
		{"expectation", testExpectation},
		{"hanging-drain", testHangingDrain},
		{"late-proxy", testLateProxy},
		{"all-gateways-killed", testAllGatewaysKilled},
		{"dead-between-drained-and-ack", testDeadBetweenDrainedAndAck},
		{"restart-gateways", testRestartGateways},
		{"restart-agents", testRestartAgents},
		{"restart-instances", testRestartInstances},
		{"restart-envoys", testRestartEnvoys},
		{"rejected-configuration", testRejectedConfiguration},
		{"strangers", testStrangers},
		{"proxyless", testProxyless},
		{"kill-gateway", testKillGateway},
		{"kill-agent", testKillAgent},
		{"kill-instance", testKillInstance},
		{"kill-envoy", testKillEnvoy},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.run(t, f) }) {
			t.Logf("state after %s: %+v", s.name, f.service(t))
		}
	}
	f.innocent(t)
}
