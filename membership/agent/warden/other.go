//go:build !linux

package warden

import (
	"fmt"

	"github.com/signalbox-io/signalbox"
)

// Run is for Linux only: it needs control groups, subreapers and a clock that
// counts suspension.
func Run(string) error {
	return fmt.Errorf("run warden: %w: it needs Linux", signalbox.ErrNotConfigured)
}
