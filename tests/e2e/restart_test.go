package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// orderly is how long a process may take to end after SIGTERM.
const orderly = time.Minute

// Rule: a rolling restart of the gateways fails no request, and a switch works afterwards.
func testRestartGateways(t *testing.T, f *fixture) {
	l := f.load(t)
	for _, g := range f.Gateways() {
		must(t, f.Restart(within(t), g.Name, orderly))
		eventually(t, g.Name, func(ctx context.Context) error { return f.GatewayReady(ctx, g.Name) })
	}
	master, _ := f.master(t)
	f.steady(t, master)
	f.thereAndBack(t)
	unharmed(t, l)
}

// Rule: a rolling restart of the agents fails no request: instances serve on without them.
func testRestartAgents(t *testing.T, f *fixture) {
	f.toMaster(t, demo.West)
	l := f.load(t)
	for _, in := range f.Instances() {
		if in.Agent != "" {
			must(t, f.Restart(within(t), in.Agent, orderly))
			f.steady(t, demo.West)
		}
	}
	f.thereAndBack(t)
	unharmed(t, l)
}

// Rule: a rolling restart of the instances fails no request, of the master's as little as of the standby's, with the
// library and with the HTTP driver. It leaves no debts: the next switch needs nobody who is gone.
func testRestartInstances(t *testing.T, f *fixture) {
	for _, dc := range demo.DataCenters() {
		f.toMaster(t, dc)
		l := f.load(t)
		for _, in := range f.Instances() {
			must(t, f.Restart(within(t), in.Name, orderly))
			f.steady(t, dc)
		}
		f.thereAndBack(t)
		unharmed(t, l)
	}
}

// Rule: a rolling restart of the Envoys (their own hot restart) fails no request.
func testRestartEnvoys(t *testing.T, f *fixture) {
	master, _ := f.master(t)
	l := f.load(t)
	for _, e := range f.Envoys() {
		must(t, f.RestartEnvoy(within(t), e.Name))
		f.steady(t, master)
	}
	f.thereAndBack(t)
	unharmed(t, l)
}

// moveTo switches as soon as the checks let it: gateways hear of what was restarted a moment later.
func (f *fixture) moveTo(t *testing.T, to string) {
	t.Helper()
	f.moved(t, api.SwitchRequest{Service: demo.Service, To: to})
}

// thereAndBack makes two switches.
func (f *fixture) thereAndBack(t *testing.T) {
	t.Helper()
	for range 2 {
		_, to := f.master(t)
		f.moveTo(t, to)
		f.steady(t, to)
	}
}
