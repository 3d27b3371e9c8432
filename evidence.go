package signalbox

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

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

// ByOthers are the kinds that others sign about an instance which says nothing
// itself. A block that allows any of them cannot be voided.
const ByOthers = EvidenceKinds(Lapse | Fence | Attest)

// AnyEvidence holds all kinds.
const AnyEvidence = AckOnly | ByOthers

// ParseEvidenceKinds is the inverse of EvidenceKinds.String; an empty string is
// the empty set.
func ParseEvidenceKinds(s string) (EvidenceKinds, error) {
	var out EvidenceKinds
	for word := range strings.SplitSeq(s, "+") {
		i := slices.Index(evidenceNames, word)
		if i < 0 && s != "" {
			return 0, fmt.Errorf("%w: evidence %q: use %s, joined by +", ErrInvalid, word, strings.Join(evidenceNames, ", "))
		}
		if i >= 0 {
			out |= 1 << i
		}
	}
	return out, nil
}

// StatementKind is what a signed statement about an instance says.
type StatementKind uint8

// The kinds of statements. Ack, refuse and leave are answers and final; drained
// and serving tell how far the instance is and prove nothing about later. Lapse,
// fence and attest are signed by others, never by the instance.
const (
	SaysDrained StatementKind = iota + 1
	SaysAck
	SaysRefuse
	SaysLeave
	SaysServing
	SaysLapse
	SaysFence
	SaysAttest
)

var statementNames = []string{"?", "drained", "ack", "refuse", "leave", "serving", "lapse", "fence", "attest"}

// Evidence returns the kind of evidence that such a statement is, 0 when it is
// none.
func (k StatementKind) Evidence() EvidenceKind {
	switch k {
	case SaysAck:
		return Ack
	case SaysLeave:
		return Leave
	case SaysLapse:
		return Lapse
	case SaysFence:
		return Fence
	case SaysAttest:
		return Attest
	}
	return 0
}

// ByOthers reports whether the statement is signed by others than the instance.
func (k StatementKind) ByOthers() bool { return ByOthers.Has(k.Evidence()) }

// String returns the word of the design for k.
func (k StatementKind) String() string {
	if int(k) >= len(statementNames) {
		return statementNames[0]
	}
	return statementNames[k]
}

// A Statement is one thing that an instance signed, or that others signed about
// it. It is idempotent: the same statement received twice says no more than once.
type Statement struct {
	Kind        StatementKind
	Service     Service
	Identity    Identity
	Incarnation uint64
	// Term is the block's term; for a leave the term of the highest block that
	// the identity answered, for serving the term that it serves, for what others
	// signed the term below which the identity will not serve.
	Term Term
	// Block is the exact block answered; for a leave the highest one answered
	// (zero when none), for serving the block of the certificate it holds. What
	// others signed is for exactly this block: a handover's, or one that
	// announces a removal.
	Block Digest
	// Admission is the log index that admitted the identity (see RosterEntry).
	Admission uint64
	// Address is where a serving instance takes requests, host:port.
	Address string
	// Position is what the instance's data had reached when it stopped, in its
	// driver's own words; opaque, at most MaxPosition bytes. Acks and leaves
	// only; empty for an instance without data or one that was not master.
	Position Position
}

// Evidence is a statement together with the envelope that proves it.
type Evidence struct {
	Statement
	// Witness says more of what others signed; nil for the instance's own word.
	Witness *Witness
	// Envelope is the signed envelope verbatim.
	Envelope []byte
}

// A Witness is who signed evidence about an instance in its place, and on what
// ground. Where a field is not of the kind of evidence, it is zero.
type Witness struct {
	// By names the signers: voters (lapse, fence) or the operator (attest).
	By []string
	// Epoch is the voter set of a lapse.
	Epoch uint64
	// Plugin is the fencing plugin that confirmed, Output the SHA-256 of what it
	// said; the output itself is in the cutover record.
	Plugin string
	Output Digest
	// Reason is why an operator takes responsibility; never empty.
	Reason string
	// At is when the operator signed, by the operator's clock.
	At time.Time
}
