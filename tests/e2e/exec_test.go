package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// script is a service that consists of a file, and all commands of its driver. It notes every call, and whoever is
// promoted beside another one.
const script = `#!/bin/sh
set -u
cd "$1"
echo "$SIGNALBOX_ACTION term ${SIGNALBOX_TERM-} position ${SIGNALBOX_POSITION-}" >>"$SIGNALBOX_INSTANCE.log"
case $SIGNALBOX_ACTION in
status) [ -e "$SIGNALBOX_INSTANCE.serves" ] || exit 3 ;;
ready) echo "problem=old-disk|its disk is old|buy one" ;;
step-down)
  if [ ! -e asked ]; then touch asked; exit 75; fi # not yet: asked again
  rm -f "$SIGNALBOX_INSTANCE.serves"
  echo "position=end-of-$SIGNALBOX_INSTANCE" ;;
promote)
  for other in *.serves; do
    [ ! -e "$other" ] || [ "$other" = "$SIGNALBOX_INSTANCE.serves" ] || echo "$SIGNALBOX_INSTANCE beside $other" >>violations
  done
  touch "$SIGNALBOX_INSTANCE.serves" ;;
stop) rm -f "$SIGNALBOX_INSTANCE.serves" ;;
esac
`

// TestExec: commands of driver exec, run by the real agent as docs/driver-exec.md says: a switch there and back. Rules:
// nobody is promoted beside another, a command that says "not yet" is asked again, the position goes from the old
// master's command to the new one's, and what the commands name is in the plan.
func TestExec(t *testing.T) {
	const service = "reports"
	dir := t.TempDir()
	command := filepath.Join(dir, "command")
	must(t, os.WriteFile(command, []byte(script), 0o700))
	f := start(t, demo.Options{Gateways: 1, Empty: true, More: []demo.MoreService{{Name: service, Protocol: "tcp", HoldBudget: unhurried}}})
	for _, dc := range demo.DataCenters() {
		var b strings.Builder
		fmt.Fprintf(&b, "service: %s\nname: %s-%s\naddress: 127.0.0.1:9\ndriver: exec\nexec:\n", service, service, dc)
		for _, action := range []string{"status", "ready", "step_down", "promote", "stop"} {
			fmt.Fprintf(&b, "  %s: [%q, %q]\n", action, command, dir)
		}
		must(t, f.AddDriven("agent-"+dc, dc, b.String()))
	}
	must(t, f.Adopt(within(t), service, demo.East))
	master := demo.East
	for _, to := range []string{demo.West, demo.East} {
		eventually(t, "a switch to be possible", func(ctx context.Context) error { return f.Steady(ctx, service, master) })
		if _, out, _ := f.command(t, "switch", service, "--to", to, "--dry-run"); !strings.Contains(out, "old-disk") || !strings.Contains(out, "buy one") {
			t.Errorf("the plan does not name what the command does:\n%s", out)
		}
		h := f.moved(t, api.SwitchRequest{Service: service, To: to, Reason: "test"})
		want := "end-of-" + service + "-" + master
		if h.Outcome != api.OutcomeForward || len(h.Acks) != 1 || h.Acks[0].Position != want {
			t.Fatalf("the switch to %s: %s, %+v", to, h.Outcome, h.Acks)
		}
		log, err := os.ReadFile(filepath.Join(dir, service+"-"+to+".log"))
		must(t, err)
		if line := fmt.Sprintf("promote term %d position %s\n", h.CertifiedTerm, want); !strings.Contains(string(log), line) {
			t.Errorf("no %q in\n%s", line, log)
		}
		master = to
	}
	if _, err := os.Stat(filepath.Join(dir, "violations")); !errors.Is(err, os.ErrNotExist) {
		text, _ := os.ReadFile(filepath.Join(dir, "violations"))
		t.Errorf("%v %s", err, text)
	}
}
