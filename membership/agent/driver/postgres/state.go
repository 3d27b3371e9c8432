package postgres

import "github.com/signalbox-io/signalbox"

// role is what the driver last made of its server.
type role string

const (
	roleNone role = "" // nothing yet
	// rolePromoting is from before a promotion until it is noted that it went
	// well: the server itself says which.
	rolePromoting role = "promoting"
	rolePrimary   role = "primary" // promoted
	roleClosed    role = "closed"  // stepped down
	roleStandby   role = "standby" // follows
)

// memory is what the driver must know after it was started again.
type memory struct {
	Role role           `json:"role"`
	Term signalbox.Term `json:"term"` // the newest that it served
	// Position is where its data ended when it stepped down; "" when it was no
	// primary since it last followed one.
	Position string `json:"position,omitempty"`
	// Upstream is the primary that it follows, host:port.
	Upstream string `json:"upstream,omitempty"`
	// Rewinding is true from before pg_rewind begins until it has ended well.
	Rewinding bool `json:"rewinding,omitempty"`
	// Loss is what the last rewind took back, for people.
	Loss *Loss `json:"loss,omitempty"`
}

// Loss is what an old primary had that its successor has not.
type Loss struct {
	Term         signalbox.Term `json:"term,omitempty"` // that it served
	Timeline     uint32         `json:"timeline"`
	From         string         `json:"from"` // log positions
	To           string         `json:"to"`
	Bytes        uint64         `json:"bytes"`
	Transactions int            `json:"transactions"` // committed ones
	// Kept is the directory that holds the log of them.
	Kept string `json:"kept,omitempty"`
}

// served is the term whose data this server holds as its master, 0 for a standby:
// what that one has alone is no loss of the term that it served before.
func (m memory) served() signalbox.Term {
	if m.Role == roleStandby {
		return 0
	}
	return m.Term
}

// memoryFile is its name in the driver's state directory.
const memoryFile = "postgres.json"
