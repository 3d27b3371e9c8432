// Package signalbox is the vocabulary of Signalbox: the words that every other
// package speaks, as types. It decides nothing, encodes nothing and imports the
// standard library only.
//
// Guarantees: values of these types are plain data, safe to copy and compare
// unless they hold slices. It does not guarantee that a value is valid or
// genuine; that is what package rpc (encoding, signatures) and package handover
// (the rules) are for.
package signalbox

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// MaxName is the longest name, in bytes, of a cluster, service, data center,
// instance or gateway. It keeps a signed statement within one gossip packet.
const MaxName = 40

// MaxAddress is the longest instance address (host:port), in bytes.
const MaxAddress = 72

// MaxPosition is the longest position of an instance's data, in bytes.
const MaxPosition = 64

// MaxReason is the longest reason or operator name, in bytes.
const MaxReason = 512

// MaxRoster is the largest number of identities in one roster or one list of
// incoming identities.
const MaxRoster = 1024

// A Service is what has one master data center at a time, for example "orders".
type Service string

// A DataCenter is a failure domain with its own gateways, proxies and instances.
type DataCenter string

// A Term is a service's mastership number. It only grows; each term has one
// master data center, and it is the fencing token. 0 means "none".
type Term uint64

// Identity names an instance's key pair: lowercase hex of the first 16 bytes of
// the SHA-256 of its Ed25519 public key.
type Identity string

// Digest is the SHA-256 of a block's bytes as they were signed.
type Digest [32]byte

// Position is what an instance's data had reached, in its driver's own words:
// nobody else reads more in it than the bytes. Empty: not said.
type Position []byte

// String returns the position for people: itself when it is printable ASCII,
// else hexadecimal.
func (p Position) String() string {
	for _, c := range p {
		if c < 0x20 || c > 0x7e {
			return "0x" + hex.EncodeToString(p)
		}
	}
	return string(p)
}

// IsZero reports whether d names no block.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns the first 12 hexadecimal digits, enough for a person.
func (d Digest) String() string { return hex.EncodeToString(d[:6]) }

// CheckName returns nil when name can name a cluster, service, data center,
// instance or gateway: 1 to MaxName bytes of lowercase letters, digits and
// inner hyphens. what says in the error what the name is for.
func CheckName(what, name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%w: %s name has %d bytes: use 1 to %d", ErrInvalid, what, len(name), MaxName)
	}
	for i, c := range []byte(name) {
		inner := i > 0 && i < len(name)-1
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && inner {
			continue
		}
		return fmt.Errorf("%w: %s name %q: use lowercase letters, digits and inner hyphens", ErrInvalid, what, name)
	}
	return nil
}

// RouteName is the name of the proxies' cluster of a service at a term, "orders@8".
func RouteName(s Service, t Term) string { return fmt.Sprintf("%s@%d", s, t) }

// ParseRouteName is the inverse of RouteName. ok is false for any other string.
func ParseRouteName(name string) (s Service, t Term, ok bool) {
	base, number, found := strings.Cut(name, "@")
	if !found || CheckName("service", base) != nil || number == "" || len(number) > 20 {
		return "", 0, false
	}
	for _, c := range []byte(number) {
		if c < '0' || c > '9' {
			return "", 0, false
		}
		next := t*10 + Term(c-'0')
		if next < t {
			return "", 0, false
		}
		t = next
	}
	return Service(base), t, RouteName(Service(base), t) == name
}

// HeaderTerm is the request header in which a proxy says the term of the route
// that a request took. The proxy overwrites what a client sends.
const HeaderTerm = "X-Signalbox-Term"

// HeaderNotMaster is the response header of an instance that did not process a
// request because it is not master at the request's term; its value is the
// instance's own term.
const HeaderNotMaster = "X-Signalbox-Not-Master"

// An Instance is one process of a service in one data center.
type Instance struct {
	Service    Service
	DataCenter DataCenter
	Name       string
	Identity   Identity
	// PublicKey is the Ed25519 key (32 bytes) that Identity names.
	PublicKey []byte
}

// An Expectation is what the caller of a switch believes to be current,
// "east@7". The zero value expects nothing.
type Expectation struct {
	DataCenter DataCenter
	Term       Term
}

// ParseExpectation reads "east@7". The error says what was expected.
func ParseExpectation(s string) (Expectation, error) {
	dc, t, ok := ParseRouteName(s)
	if !ok || t == 0 {
		return Expectation{}, fmt.Errorf("%w: expectation %q: write the data center and the term, as in east@7", ErrInvalid, s)
	}
	return Expectation{DataCenter: DataCenter(dc), Term: t}, nil
}

// String returns "east@7", or "" for the zero value.
func (e Expectation) String() string {
	if e == (Expectation{}) {
		return ""
	}
	return fmt.Sprintf("%s@%d", e.DataCenter, e.Term)
}

// Defaults of a handover's timing; see Handover.HoldBudget.
const (
	DefaultHoldBudget = 5 * time.Second
	MaxHoldBudget     = 15 * time.Second
)
