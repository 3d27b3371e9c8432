package filedriver_test

import (
	"os"
	"path/filepath"
	"testing"

	filedriver "github.com/signalbox-io/signalbox/examples/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/drivertest"
)

// TestDriver runs the suite that every driver passes against the service itself.
func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		dir := t.TempDir()
		open := func(t *testing.T) driver.Driver {
			d, err := filedriver.New(dir)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		busy := filepath.Join(dir, "busy", "1")
		return drivertest.Subject{
			Driver: open(t), Reopen: open,
			Serves: func() bool { // what the service does before each piece of work
				_, err := os.Stat(filepath.Join(dir, "master"))
				return err == nil
			},
			Busy: func(t *testing.T) func() {
				if err := os.WriteFile(busy, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return func() { _ = os.Remove(busy) }
			},
			Restart: func(t *testing.T) { // it begins as standby, whatever it was before
				if err := os.Remove(filepath.Join(dir, "master")); err != nil {
					t.Fatal(err)
				}
			},
			Spoil: func(t *testing.T) string {
				if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return "broken"
			},
		}
	})
}
