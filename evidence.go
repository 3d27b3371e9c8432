package signalbox

import "strings"

// EvidenceKind is a way to prove that an identity will not serve below a term.
type EvidenceKind uint8

// The kinds of evidence, as bits of an EvidenceKinds.
const (
	// Ack is signed by the instance: drained, persisted the term, will refuse.
	Ack EvidenceKind = 1 << iota
	// Leave is signed by the instance at its orderly stop, for later blocks
	// until it is admitted again.
	Leave
	// Lapse is signed by a quorum of voters: the lease has run out.
	Lapse
	// Fence is signed by r+1 gateways: the machine was cut off.
	Fence
	// Attest is signed by an operator's key: a person takes responsibility.
	Attest
)

var evidenceNames = []string{"ack", "leave", "lapse", "fence", "attest"}

// String returns the word of the design for k.
func (k EvidenceKind) String() string { return EvidenceKinds(k).String() }

// EvidenceKinds is a set of evidence kinds.
type EvidenceKinds uint8

// AckOnly is what a planned handover allows: acks and leaves. Only a block that
// allows nothing else can be voided by a refuse.
const AckOnly = EvidenceKinds(Ack | Leave)

// Has reports whether the set contains k.
func (s EvidenceKinds) Has(k EvidenceKind) bool { return s&EvidenceKinds(k) != 0 }

// String lists the kinds in the design's words, joined by "+".
func (s EvidenceKinds) String() string {
	var words []string
	for i, name := range evidenceNames {
		if s&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, "+")
}

// StatementKind is what a signed statement of an instance says.
type StatementKind uint8

// The kinds of statements. Ack, refuse and leave are answers and final; drained
// and serving tell how far the instance is and prove nothing about later.
const (
	SaysDrained StatementKind = iota + 1
	SaysAck
	SaysRefuse
	SaysLeave
	SaysServing
)

var statementNames = []string{"?", "drained", "ack", "refuse", "leave", "serving"}

// String returns the word of the design for k.
func (k StatementKind) String() string {
	if int(k) >= len(statementNames) {
		return statementNames[0]
	}
	return statementNames[k]
}

// A Statement is one thing that an instance signed. It is idempotent: the same
// statement received twice says no more than once.
type Statement struct {
	Kind        StatementKind
	Service     Service
	Identity    Identity
	Incarnation uint64
	// Term is the block's term; for a leave the term of the highest block that
	// the identity answered, for serving the term that it serves.
	Term Term
	// Block is the exact block answered; for a leave the highest one answered
	// (zero when none), for serving the block of the certificate it holds.
	Block Digest
	// Admission is the log index that admitted the identity (see RosterEntry).
	Admission uint64
	// Address is where a serving instance takes requests, host:port.
	Address string
}

// Evidence is a statement together with the envelope that proves it.
type Evidence struct {
	Statement
	// Envelope is the signed envelope verbatim.
	Envelope []byte
}
