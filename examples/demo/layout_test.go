package demo

import (
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/rpc/ports"
)

// Rule: with a third data center each of the three has one voter, so that a quorum survives the loss of any; north has a
// gateway and nothing else.
func TestNorth(t *testing.T) {
	for north, want := range map[bool][]string{false: nil, true: {"gw-east-1", "gw-west-1", "gw-north-1"}} {
		opts, err := Options{Envoys: 1, Instances: 1, Gateways: 2, North: north}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		p, err := ports.Take()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		l, err := lay(opts, t.TempDir(), p)
		if err != nil {
			t.Fatal(err)
		}
		spec := l.spec(0)
		if !slices.Equal(spec.Voters, want) {
			t.Errorf("north %v: voters %v, want %v", north, spec.Voters, want)
		}
		if dcs := 2 + len(want)/3; len(spec.DataCenters) != dcs {
			t.Errorf("north %v: %d data centers, want %d", north, len(spec.DataCenters), dcs)
		}
		s := &Site{opts: opts, layout: l}
		if in := s.ProcessesIn(North); north && !slices.Equal(in, []string{"gw-north-1"}) {
			t.Errorf("in north: %v", in)
		}
		if in := s.ProcessesIn(West); !slices.Equal(in, []string{"gw-west-1", "gw-west-2", "orders-west-1", "agent-west-1", "envoy-west-1"}) {
			t.Errorf("in west: %v", in)
		}
	}
	if _, err := (Options{North: true, Bare: "127.0.0.1:1"}).withDefaults(); err == nil {
		t.Error("a bare site with a gateway in north is accepted")
	}
}

// TestVotersTakeTurns guards that voters are spread over the data centers, and that a data center with a place of its own
// has its addresses there.
func TestVotersTakeTurns(t *testing.T) {
	for voters, want := range map[int]string{
		4: "gw-east-1 gw-west-1 gw-north-1 gw-east-2",
		6: "gw-east-1 gw-west-1 gw-north-1 gw-east-2 gw-west-2 gw-north-2",
	} {
		p, err := ports.Take()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		opts, err := Options{North: true, NorthGateways: 2, Voters: voters, Places: map[string]Place{West: {Host: "10.1.2.3"}}}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l, err := lay(opts, t.TempDir(), p)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(l.spec(voters).Voters, " "); got != want {
			t.Errorf("%d voters: %s, want %s", voters, got, want)
		}
		for _, g := range l.gateways {
			if at := strings.HasPrefix(g.RPC, "10.1.2.3:"); at != (g.DataCenter == West) {
				t.Errorf("%s is at %s", g.Name, g.RPC)
			}
		}
	}
}
