package redis

import (
	"os"

	"github.com/signalbox-io/signalbox"
)

// role is what the driver last made of its server.
type role string

const (
	roleNone   role = ""       // nothing yet
	roleMaster role = "master" // promoted, or about to be
	roleClosed role = "closed" // stepped down
	roleFollow role = "follow" // replica of somebody
)

// memory is what the driver must know after it was started again.
type memory struct {
	Role role           `json:"role"`
	Term signalbox.Term `json:"term"` // the newest that it served
	// Run is the run of the server that was promoted: another one has crashed
	// since, and may have lost what was not on its disk.
	Run string `json:"run,omitempty"`
	// Position is where its data ended when it stepped down; "" when it was no
	// master since it last followed one. Boot is the start of the machine then.
	Position string `json:"position,omitempty"`
	Boot     string `json:"boot,omitempty"`
	// Upstream is the master that it follows, host:port.
	Upstream string `json:"upstream,omitempty"`
	// Leases is true once a lease was given: then the server ends with its warden.
	Leases bool `json:"leases,omitempty"`
	// Loss is what the last full synchronization took back, for people.
	Loss *Loss `json:"loss,omitempty"`
}

// Loss is what an old master had that its successor has not.
type Loss struct {
	Term signalbox.Term `json:"term,omitempty"` // that it served
	// Bytes of the replication stream; 0 when it was started again since and
	// nobody knows.
	Bytes uint64 `json:"bytes"`
	// Kept is the directory with the files of the data as it was, "" for none.
	Kept string `json:"kept,omitempty"`
}

// served is the term whose data this server holds as its master, 0 for a standby:
// what that one has alone is no loss of the term that it served before.
func (m memory) served() signalbox.Term {
	if m.Role == roleFollow {
		return 0
	}
	return m.Term
}

// memoryFile is its name in the driver's state directory.
const memoryFile = "redis.json"

// bootID names the start of the machine, "" where nobody knows.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(raw) < 36 {
		return ""
	}
	return string(raw[:36])
}
