package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/membership/gossip"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// A rotated bundle is taken without a restart: the instances are introduced with
// the new certificate, or their enrollment would end with the CA that is retired,
// and the pool gets the new gossip keys.
func TestRotatedBundle(t *testing.T) {
	g, opts, _ := newGateway(t)
	opts.GossipPool.Listen, opts.GossipPool.Seeds = "127.0.0.1:0", nil
	a, _ := begin(t, g, opts)
	isHello := func(f *wire.AgentFrame) bool { return f.GetHello() != nil }
	first := g.await("hello", isHello).GetHello()
	for _, step := range []func() error{
		g.authority.StageGossip, g.authority.ActivateGossip,
		func() error { return g.authority.Rotate(g.bundle, identity.IssueOptions{Now: time.Now()}) },
	} {
		g.w.must(step())
	}
	again := g.await("hello with the new certificate", isHello).GetHello()
	if bytes.Equal(again.GetEnrollment(), first.GetEnrollment()) || !bytes.Equal(again.GetStart(), first.GetStart()) {
		t.Error("the second hello is not a new enrollment of the same start")
	}
	b, err := identity.Load(g.bundle)
	g.w.must(err)
	other, err := gossip.New(gossip.Options{
		Pool: "east", Label: testCluster + "/east", Keys: b.Gossip[:1], Name: "other",
		Meta:              gossip.Meta{Role: gossip.RoleAgent, DataCenter: "east"},
		ValidateStatement: func([]byte) (string, error) { return "x", nil }, OnStatement: func([]byte) {},
		Seeds: []string{a.pool.Load().Address()},
	})
	g.w.must(err)
	defer other.Close()
	deadline := time.After(time.Minute)
	for tick := time.NewTicker(10 * time.Millisecond); len(other.Members()) < 2; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the agent does not understand the new key")
		}
	}
}
