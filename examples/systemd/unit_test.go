// Package systemd tests the script that drives a systemd unit, with a stand-in
// for systemctl.
package systemd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
	execdriver "github.com/signalbox-io/signalbox/membership/agent/driver/exec"
)

// systemctl stands in for systemd's: the unit is active while the file active is
// there, and a stop waits for the file busy to go.
const systemctl = `#!/bin/sh
cd "$UNIT_STATE" || exit 1
[ -e stopping ] && [ ! -e busy ] && rm -f stopping
case "$1 $2" in
"show --property=ActiveState")
	if [ -e active ]; then echo active; elif [ -e stopping ]; then echo deactivating; else echo inactive; fi ;;
"show --property=LoadState") if [ -e missing ]; then echo not-found; else echo loaded; fi ;;
"--quiet is-active") [ -e active ] || exit 3 ;;
"--quiet is-enabled") [ -e enabled ] ;;
"--no-block stop") if [ -e active ]; then touch stopping; rm active; fi; exit 0 ;;
"start orders.service") rm -f stopping; touch active ;;
"stop orders.service") rm -f active stopping ;;
"kill --signal=KILL") rm -f active stopping busy ;;
*) echo "systemctl: $*" >&2; exit 1 ;;
esac
`

// TestUnit runs the suite of all drivers with the script.
func TestUnit(t *testing.T) {
	script, err := filepath.Abs("unit.sh")
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		dir, bin := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(systemctl), 0o755); err != nil {
			t.Fatal(err)
		}
		file := func(name string) string { return filepath.Join(dir, name) }
		touch := func(t *testing.T, name string) {
			if err := os.WriteFile(file(name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := execdriver.Command{script, "orders.service"}
		o := execdriver.Options{
			Service: "orders", Instance: "orders-1", Dir: t.TempDir(), Status: c, Ready: c, StepDown: c, Promote: c, Stop: c,
			Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "UNIT_STATE=" + dir},
		}
		open := func(t *testing.T) driver.Driver {
			d, err := execdriver.New(o)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		return drivertest.Subject{
			Driver: open(t), Reopen: open,
			Serves: func() bool {
				_, err := os.Stat(file("active"))
				return err == nil
			},
			Busy: func(t *testing.T) func() {
				touch(t, "busy")
				return func() { _ = os.Remove(file("busy")) }
			},
			Restart: func(t *testing.T) { _ = os.Remove(file("active")) }, // Restart=no
			Spoil: func(t *testing.T) string {
				touch(t, "missing")
				return "unit-not-loaded"
			},
		}
	})
}
