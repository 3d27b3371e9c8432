package execdriver

import "github.com/signalbox-io/signalbox"

// recordName is the driver's file.
const recordName = "exec.json"

// record is what the driver must not forget.
type record struct {
	// Newest is the newest term that the instance was to serve.
	Newest signalbox.Term `json:"newest"`
	// Open is true from before a promotion to after a step-down.
	Open bool `json:"open"`
	// Position is what its data had reached at the last step-down; empty after a
	// promotion, and for a standby.
	Position string `json:"position,omitempty"`
}

// write makes a record durable, then the driver's own.
func (d *Driver) write(r record) error { return d.mem.Change(func(m *record) { *m = r }) }
