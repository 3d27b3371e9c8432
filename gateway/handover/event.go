package handover

import (
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// An Event is something that a gateway learned about a service.
type Event interface{ event() }

// Decided: the log has a handover block for the service, durable here. A block
// that the machine knows already says nothing new.
type Decided struct {
	Block *signalbox.DecidedBlock
	// Resumed: read back from the own log at a start. The others may be far
	// ahead, so that nothing is waited for.
	Resumed bool
}

// Prepared: a gateway has the block, durable. It may be the machine's own.
type Prepared struct {
	Gateway string
	Block   signalbox.Digest
}

// Held is what one gateway's proxies say of a hold; Gateway may be the
// machine's own.
type Held struct {
	Gateway string
	Block   signalbox.Digest
	Proxies []ProxyHold
	// Complete: every connected proxy acknowledged the hold.
	Complete bool
	// Final: the second is over; what is late stays late.
	Final bool
}

// ProxyHold is one proxy's part in a hold.
type ProxyHold struct {
	ID           string
	Acknowledged bool
	// Problem is the proxy's own words after a refusal (NACK).
	Problem string
}

// PeerChanged: a gateway can be reached, or no more.
type PeerChanged struct {
	Gateway string
	Up      bool
}

// AgentChanged: the agent of an identity in this data center can be reached, or
// no more, by any of the data center's gateways as far as this one knows. It is
// never evidence; it decides when to ask again.
type AgentChanged struct {
	Identity signalbox.Identity
	Up       bool
}

// Said: a verified statement came in, by whatever way.
type Said struct{ Evidence signalbox.Evidence }

// Serves: an instance says that it serves at Term, by a statement or by its
// agent's status.
type Serves struct {
	Identity signalbox.Identity
	Term     signalbox.Term
}

// Certified: a verified certificate came in, or was built here.
type Certified struct {
	Certificate *signalbox.Certificate
	// Built: from evidence, here; nobody else may have it.
	Built bool
}

// GiveUp: somebody asks for a refuse while the block can still be voided.
type GiveUp struct {
	Block   signalbox.Digest
	Problem string
}

// Logged: the outcome of the block is in the log.
type Logged struct {
	Block     signalbox.Digest
	Certified signalbox.Term
}

// Removed: the log took an identity out of the outstanding, at Index. What it
// said for an earlier admission proves nothing any more.
type Removed struct {
	Identity signalbox.Identity
	Index    uint64
}

// Tick: time has passed.
type Tick struct{}

func (Decided) event()      {}
func (Prepared) event()     {}
func (Held) event()         {}
func (PeerChanged) event()  {}
func (AgentChanged) event() {}
func (Said) event()         {}
func (Serves) event()       {}
func (Certified) event()    {}
func (GiveUp) event()       {}
func (Logged) event()       {}
func (Removed) event()      {}
func (Tick) event()         {}

// An Effect is something to be done, in the order given.
type Effect interface{ effect() }

// Route points this data center's proxies at the service's cluster of Term.
// Above the certified term, that holds requests. The proxies' answers come back
// as Held with this gateway's name.
type Route struct {
	Block signalbox.Digest
	Term  signalbox.Term
}

// TellPrepared tells all peers that this gateway has the block.
type TellPrepared struct{ Block signalbox.Digest }

// TellHeld passes this gateway's hold on: at once to Now, who order what comes
// next, and to the other peers when there is time.
type TellHeld struct {
	Held Held
	Now  []string
}

// OrderKind is what an agent is told.
type OrderKind int

// The orders.
const (
	OrderDrain OrderKind = iota + 1
	OrderAck
	OrderRefuse
)

// String returns the order's word.
func (k OrderKind) String() string {
	return [...]string{"?", "drain", "ack", "refuse"}[max(0, min(int(k), 3))]
}

// Order tells local agents.
type Order struct {
	Kind  OrderKind
	Block *signalbox.DecidedBlock
	To    []signalbox.Identity
}

// TellGiveUp asks every peer to have its agents refuse.
type TellGiveUp struct {
	Block   signalbox.Digest
	Problem string
}

// Collect asks for others' evidence (lapse or fence) about roster identities
// that do not answer themselves; what comes of it comes back as Said.
type Collect struct {
	Kind  signalbox.EvidenceKind
	Block *signalbox.DecidedBlock
	Of    []signalbox.RosterEntry
}

// Certify builds the certificate of Term from the evidence, and feeds it back
// as Certified, Built.
type Certify struct {
	Block    *signalbox.DecidedBlock
	Term     signalbox.Term
	Evidence [][]byte
}

// Spread hands a certificate to those named.
type Spread struct {
	Certificate *signalbox.Certificate
	To          Audience
}

// Audience is a set of those whom a certificate is for.
type Audience uint8

// Who a certificate is for.
const (
	ToPeers  Audience = 1 << iota
	ToAgents          // of the service in this data center
)

// String lists the audience for people.
func (a Audience) String() string {
	var words []string
	for i, word := range []string{"peers", "agents"} {
		if a&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// Release publishes the certified term with the endpoints that serve it.
type Release struct{ Certificate *signalbox.Certificate }

// ProposeOutcome puts a certificate into the log.
type ProposeOutcome struct{ Certificate *signalbox.Certificate }

// ProposeReturn proposes a superseding handover back.
type ProposeReturn struct {
	Block  *signalbox.DecidedBlock
	Reason string
}

// Record is a line of the cutover record.
type Record struct {
	Block  signalbox.Digest
	Phase  Phase
	Detail string
	At     time.Time
}

func (Route) effect()          {}
func (TellPrepared) effect()   {}
func (TellHeld) effect()       {}
func (Order) effect()          {}
func (TellGiveUp) effect()     {}
func (Collect) effect()        {}
func (Certify) effect()        {}
func (Spread) effect()         {}
func (Release) effect()        {}
func (ProposeOutcome) effect() {}
func (ProposeReturn) effect()  {}
func (Record) effect()         {}
