package server

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// TestNothingIsLeftRunning: after Run has returned no goroutine of a gateway is
// left, in the middle of a handover too. It runs alone, before the parallel
// tests.
func TestNothingIsLeftRunning(t *testing.T) {
	s := newSite(t).run()
	o := s.order(west)
	s.begin("east-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2)
	proxy := s.startProxy("e1", "east-1")
	proxy.released(2, west)
	s.agents["w1"].in.set(func(i *instance) { i.inFlight = 1 })
	s.begin("west-1", s.order(east))
	eventually(t, "w1 to drain", s.agents["w1"].in.draining)
	for _, g := range s.gateways {
		g.stop()
	}
	for _, a := range s.agents {
		a.kill()
	}
	proxy.stop()
	var left string
	eventually(t, "all goroutines of ours to end", func() bool {
		left = ours()
		return left == ""
	})
	if left != "" {
		t.Log(left)
	}
}

// ours returns the stacks of goroutines that this module's code started or
// stands in, but for tests.
func ours() string {
	var buf bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&buf, 2)
	var left []string
	for _, stack := range strings.Split(buf.String(), "\n\n") {
		if strings.Contains(stack, "signalbox-io/signalbox/") && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// TestFailedStart: a gateway that cannot listen, or cannot join gossip, says so
// and leaves nothing behind.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.startGateway("east-1")
	where, _, _ := s.cluster.Gateway("east-1")
	b, err := identity.Load(first.opt.Bundle.Dir)
	must(t, err)
	for name, l := range map[string]Listen{
		"rpc address in use": {RPC: where.RPC, XDS: "127.0.0.1:0", API: "127.0.0.1:0"},
		"no rpc address":     {XDS: "127.0.0.1:0", API: "127.0.0.1:0"},
		"gossip in use":      {RPC: "127.0.0.1:0", XDS: "127.0.0.1:0", API: "127.0.0.1:0", GossipLAN: where.GossipLAN},
	} {
		server, err := New(Options{Bundle: b, Cluster: s.cluster, State: t.TempDir(), Listen: l, Services: s.services, Logger: first.opt.Logger})
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			err = server.Run(ctx)
			cancel()
		}
		if err == nil {
			t.Errorf("%s: it runs", name)
		}
	}
}
