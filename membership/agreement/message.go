package agreement

import (
	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A Kind is what a message is.
type Kind uint8

// The kinds, in the order of a slot's life.
const (
	// Request is something to be decided, on its way to the leader. Replicas
	// do not look at it: the caller keeps what is pending.
	Request Kind = iota + 1
	// Proposal is the leader's, with what justifies it.
	Proposal
	// VoteOne is a share for the leader.
	VoteOne
	// Certified is the leader's certificate of a quorum of votes 1.
	Certified
	// VoteTwo is a share for the leader, of the decision.
	VoteTwo
	// Decided is the decision certificate.
	Decided
	// Timeout ends a view, as far as its sender is concerned.
	Timeout
	// Want asks for the value of a digest, Value is the answer.
	Want
	Value
)

var kindNames = []string{"?", "request", "proposal", "vote 1", "certified", "vote 2", "decided", "timeout", "want", "value"}

// String returns the word of DESIGN.md for k.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return kindNames[0]
	}
	return kindNames[k]
}

// A Message is what voters send to each other. Receivers must not change it.
type Message struct {
	Kind              Kind
	Epoch, Slot, View uint64
	// Value is a Proposal's or a Value's block, or a Request.
	Value []byte
	// Share is a vote's or a Timeout's.
	Share []byte
	// Quorum is a Proposal's justification, a Timeout's newest certificate
	// (either may be nil), or what Certified and Decided bring.
	Quorum *Quorum
	// Change says how the sender came into the view, for Proposal and Timeout.
	Change *Change
	// Digest is what a Want asks for.
	Digest signalbox.Digest
}

// A Quorum is the combined signature of a quorum: over votes 1, or votes 2.
type Quorum struct {
	View      uint64
	Digest    signalbox.Digest
	Signature []byte
}

// view of a certificate; 0 for none.
func (q *Quorum) view() uint64 {
	if q == nil {
		return 0
	}
	return q.View
}

// A Change proves that a quorum ended a view (Jolteon's timeout certificate).
type Change struct {
	View  uint64
	Ended []Ended
}

// Ended is one voter's signed word that it ended the view, and the view of its
// newest first certificate.
type Ended struct {
	Voter int
	High  uint64
	Share []byte
}

// highest is the highest view of a certificate that the change names.
func (c *Change) highest() (high uint64) {
	for _, e := range c.Ended {
		high = max(high, e.High)
	}
	return high
}

// An Outgoing message and who it is for: a voter's index, or Everyone else.
type Outgoing struct {
	To      int
	Message *Message
}

// Everyone addresses all other voters.
const Everyone = -1

// A Decision is a decided value with the quorum's signature over
// rpc.DecisionInput of the view and the value.
type Decision struct {
	Slot, View uint64
	Value      []byte
	Digest     signalbox.Digest
	Signature  []byte
}

// Effects are what a call wants done, in this order: what is to be persisted is
// on stable storage (fsync) before the first message leaves, and both before
// anything is decided.
type Effects struct {
	Persist *State
	Send    []Outgoing
	Decide  *Decision
}

// Empty reports whether there is nothing to do.
func (e *Effects) Empty() bool { return e.Persist == nil && len(e.Send) == 0 && e.Decide == nil }

func digestOf(value []byte) signalbox.Digest { return rpc.BlockDigest(value) }
