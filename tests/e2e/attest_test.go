package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestAttestedStart: the other sites are dark, so no quorum of voters is left, and the master's only instance is killed
// and started again. It stays closed (rule 2). A person takes responsibility, and it serves; the next start needs the
// voters again. When they are back, the log says for ever who did it and why.
func TestAttestedStart(t *testing.T) {
	f := start(t, demo.Options{Instances: 1, Envoys: 1, Gateways: 1, North: true})
	f.lenient = true
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	f.steady(t, demo.East)
	var name string
	for _, in := range f.Instances() {
		if in.DataCenter == demo.East {
			name = in.Name
		}
	}
	c := f.ClientOf(f.GatewayIn(demo.East))
	instance := func(ctx context.Context) (out api.Instance, err error) {
		list, err := c.Instances(ctx, demo.Service)
		for _, i := range list {
			if i.Name == name {
				return i, err
			}
		}
		return out, fmt.Errorf("no instance %s: %w", name, err)
	}
	attest := func() (int, string, string) {
		return f.command(t, "instance", "attest", name, "--service", demo.Service, "--start", "--reason", "west and north are dark, seen on site")
	}
	if code, _, stderr := attest(); code != 6 || !strings.Contains(stderr, "there is nothing to attest") {
		t.Errorf("an instance that serves: %d: %s", code, stderr)
	}
	code, out, _ := f.command(t, "readiness")
	if !strings.Contains(out, "restart-alone") || !strings.Contains(out, "signalbox instance attest --start") {
		t.Errorf("readiness does not warn: %d: %s", code, out)
	}
	away := []string{f.GatewayIn(demo.West), f.GatewayIn("north")}
	for _, g := range away {
		must(t, f.Down(g, syscall.SIGKILL))
	}
	must(t, f.Kill(name))
	waits := func(ctx context.Context) error {
		i, err := instance(ctx)
		if err == nil && (i.Challenge == "" || i.State == "serving") {
			err = fmt.Errorf("%s: %s", i.State, i.Problem)
		}
		return err
	}
	eventually(t, "the restarted instance to wait for voters", waits)

	code, out, stderr := attest()
	if code != 0 || !strings.Contains(out, "serves "+demo.Service+"@1 on your word") {
		t.Fatalf("attest: %d: %s%s", code, out, stderr)
	}
	t.Log(out)
	l := f.load(t, f.Through(demo.East))
	must(t, l.Stop())

	must(t, f.Kill(name))
	eventually(t, "the word to count for one start only", waits)
	for _, g := range away {
		must(t, f.Up(g))
	}
	eventually(t, "it to serve by the voters' answers", func(ctx context.Context) error {
		i, err := instance(ctx)
		if err == nil && i.State != "serving" {
			err = fmt.Errorf("%s: %s", i.State, i.Problem)
		}
		return err
	})
	for _, g := range append(away, f.GatewayIn(demo.East)) {
		eventually(t, g+" to show the attested start", func(ctx context.Context) error {
			s, err := f.ClientOf(g).Service(ctx, demo.Service)
			if err == nil && (s.AttestedStart == nil || s.AttestedStart.Reason != "west and north are dark, seen on site" || s.AttestedStart.By != "operator/demo") {
				err = fmt.Errorf("%+v", s.AttestedStart)
			}
			return err
		})
	}
	_, out, _ = f.command(t, "status")
	if !strings.Contains(out, "ATTESTED START of "+name) {
		t.Errorf("status: %s", out)
	}
	t.Log(out)
}
