package gossip

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Role is what a member says it is.
type Role uint8

// The roles.
const (
	RoleAgent Role = 1 + iota
	RoleGateway
)

// String returns "agent" or "gateway".
func (r Role) String() string {
	switch r {
	case RoleAgent:
		return "agent"
	case RoleGateway:
		return "gateway"
	default:
		return "unknown"
	}
}

// Meta is what a member says about itself.
type Meta struct {
	Role        Role
	DataCenter  string
	GRPCAddress string // host:port where it serves gRPC; may be empty for an agent
}

// Member is a member of the pool as last heard of. All of it is a hint: the
// member's own claim, and perhaps out of date.
type Member struct {
	Name    string
	Address string // host:port of its gossip
	Meta
}

// EventKind is what happened to a Member.
type EventKind uint8

// The kinds of Event.
const (
	EventJoin EventKind = 1 + iota
	EventUpdate
	// EventLeave says that the member left or is no longer heard. It is never
	// evidence of anything.
	EventLeave
)

// String returns "join", "update" or "leave".
func (k EventKind) String() string {
	switch k {
	case EventJoin:
		return "join"
	case EventUpdate:
		return "update"
	case EventLeave:
		return "leave"
	default:
		return "unknown"
	}
}

// Event is the newest thing known about a member's presence. When the receiver
// is slow, events of one member are merged into the last one.
type Event struct {
	Kind   EventKind
	Member Member
}

func (m Meta) check() error {
	if m.Role != RoleAgent && m.Role != RoleGateway {
		return fmt.Errorf("role %d is neither agent nor gateway", m.Role)
	}
	if m.DataCenter == "" {
		return errors.New("data center is empty")
	}
	if err := checkText("data center", m.DataCenter, MaxDataCenter); err != nil {
		return err
	}
	return checkText("gRPC address", m.GRPCAddress, MaxGRPCAddress)
}

func (m Meta) encode() []byte {
	b := make([]byte, 0, 4+len(m.DataCenter)+len(m.GRPCAddress))
	b = append(b, metaVersion, byte(m.Role), byte(len(m.DataCenter)))
	b = append(b, m.DataCenter...)
	b = append(b, byte(len(m.GRPCAddress)))
	return append(b, m.GRPCAddress...)
}

// decodeMeta reads a member's metadata as it came from the network.
func decodeMeta(b []byte) (Meta, error) {
	if len(b) < 3 {
		return Meta{}, errTruncated
	}
	if b[0] != metaVersion {
		return Meta{}, errVersion
	}
	m := Meta{Role: Role(b[1])}
	var ok bool
	if m.DataCenter, b, ok = readText(b[2:]); !ok {
		return Meta{}, errTruncated
	}
	if m.GRPCAddress, b, ok = readText(b); !ok {
		return Meta{}, errTruncated
	}
	if len(b) != 0 {
		return Meta{}, errTrailing
	}
	return m, m.check()
}

func readText(b []byte) (string, []byte, bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, false
	}
	return string(b[1 : 1+int(b[0])]), b[1+int(b[0]):], true
}

func checkName(name string) error {
	if name == "" {
		return errors.New("name is empty")
	}
	return checkText("name", name, MaxName)
}

// checkText refuses what could disturb a log line or a terminal.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s is longer than %d bytes", what, limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", what)
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) {
			return fmt.Errorf("%s contains an unprintable character", what)
		}
	}
	return nil
}
