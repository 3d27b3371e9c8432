//go:build chaos

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
)

const (
	// newVoter is a gateway that is not there at first.
	newVoter = "gw-north-2"
	// votersTTL is long enough for a machine that is busy for seconds.
	votersTTL = 8 * time.Second
)

// TestVoters: a gateway is added, follows, and becomes a voter in another one's place while the service serves by leases:
// no request fails. Its vote counts: with one of the others dead it decides, moves the service and signs that leases
// lapsed (rules 1, 2 and 9; docs/adr/0013).
func TestVoters(t *testing.T) {
	f := start(t, demo.Options{
		North: true, Gateways: 1, Instances: 1, Envoys: 1, Failover: fmt.Sprintf("{evidence: [lapse, attest], lease_ttl: %s}", votersTTL),
	})
	f.lenient = true // its Envoy dies with west
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	f.steady(t, demo.East)
	f.addGateway(t)
	votersUnderLoad(t, f)
	votersLoseOne(t, f)
	must(t, f.UpAll(demo.West))
	f.steady(t, demo.East)
	f.innocent(t)
}

// addGateway does what docs/operations.md says: keys, everybody's cluster.json, restarts, one after the other.
func (f *fixture) addGateway(t *testing.T) {
	t.Helper()
	keys := filepath.Join(f.Dir(), "keys")
	run := func(args ...string) {
		t.Helper()
		if code, out, errs := f.command(t, append([]string{"keys"}, append(args, "--keys", keys)...)...); code != 0 {
			t.Fatalf("keys %s: exit code %d\n%s%s", args, code, out, errs)
		}
	}
	address, err := f.FreeGateway(demo.North)
	must(t, err)
	run("issue", "gateway", "--data-center", demo.North, "--name", newVoter, "--address", address)
	for _, g := range f.Gateways() {
		run("rotate", f.Bundle(rpc.RoleGateway, g.DataCenter, g.Name))
		must(t, f.Restart(within(t), g.Name, patience))
		eventually(t, g.Name+" to be back", func(ctx context.Context) error { return f.GatewayReady(ctx, g.Name) })
	}
	must(t, f.AddGateway(demo.North, newVoter))
	eventually(t, newVoter+" to follow and to offer a key", func(ctx context.Context) error {
		v, err := f.API().Voters(ctx)
		if err != nil {
			return err
		}
		for _, g := range v.Gateways {
			if g.Name == newVoter && g.CaughtUp && g.Next != nil && !g.Votes {
				return nil
			}
		}
		return fmt.Errorf("%+v", v.Gateways)
	})
}

func voterNames(v *api.Voters) (out []string) {
	for _, k := range v.Voters {
		out = append(out, k.Name)
	}
	slices.Sort(out)
	return out
}

// changeVoters orders a change until it is decided; an order may be decided although its answer did not come.
func (f *fixture) changeVoters(t *testing.T, want []string, args ...string) {
	t.Helper()
	eventually(t, "the change of voters", func(ctx context.Context) error {
		now, err := f.API().Voters(ctx)
		if err != nil || slices.Equal(voterNames(&now), want) {
			return err
		}
		code, out, errs := f.command(t, append([]string{"gateway", "voters", "change"}, args...)...)
		return fmt.Errorf("exit code %d\n%s%s", code, out, errs)
	})
}

// votersUnderLoad: leases of the old voters end, those of the new ones begin, and nobody notices; a switch works, and its
// certificate verifies from the first voters' keys.
func votersUnderLoad(t *testing.T, f *fixture) {
	code, _, errs := f.command(t, "gateway", "voters", "change", "--add", newVoter, "--reason", "two in north")
	if code != 3 || !strings.Contains(errs, "service "+demo.Service+" uses leases") {
		t.Errorf("voters of whom north has two of four: exit code %d\n%s", code, errs)
	}
	l := f.load(t)
	before := l.Stats().Answered
	f.changeVoters(t, []string{"gw-east-1", newVoter, "gw-west-1"}, "--add", newVoter, "--remove", "gw-north-1", "--reason", "another machine")
	until := before + int64(rate*(votersTTL+3*time.Second)/time.Second)
	eventually(t, "every lease of the old voters to be over", func(context.Context) error {
		if s := l.Stats(); s.Answered < until {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	h, err := f.Switch(within(t), demo.West)
	forward(t, h, err)
	f.steady(t, demo.West)
	unharmed(t, l)
	f.certified(t, f.newest(t))
}

// votersLoseOne: the master's data center dies with its voter; the two that are left are a quorum only with the new one.
func votersLoseOne(t *testing.T, f *fixture) {
	l := f.load(t, f.Through(demo.East))
	_, err := f.DownAll(demo.West)
	must(t, err)
	eventually(t, "the failover", func(context.Context) error {
		code, out, errs := f.command(t, "failover", demo.Service, "--to", demo.East, "--evidence", "lapse", "--reason", "west is dead")
		if master, _ := f.master(t); master == demo.East {
			return nil
		}
		return fmt.Errorf("exit code %d\n%s%s", code, out, errs)
	})
	h := f.newest(t)
	if words := f.certified(t, h); h.To != demo.East || !strings.Contains(words, "lapse: ") || !strings.Contains(words, newVoter) {
		t.Errorf("failover %+v\n%s", h, words)
	}
	must(t, l.Stop())
}
