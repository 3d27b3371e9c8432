package signalbox

import "time"

// A RosterEntry is one identity that must give evidence before a term is
// certified.
type RosterEntry struct {
	Identity  Identity
	PublicKey []byte
	// Name and DataCenter say to people who it is.
	Name       string
	DataCenter DataCenter
	// Admission is the log index of the block that admitted or listed the
	// identity. A leave names it and counts for no other.
	Admission uint64
	// Leased: every term that the identity could serve uses leases. Only then
	// a lapse counts for it.
	Leased bool
}

// A Handover is the handover block: what voters agree on before anything is
// interrupted. The adoption of a running service is the handover to term 1 from
// nowhere, with an empty roster.
type Handover struct {
	// ID is the handover's name for people and logs; unique per cluster.
	ID      string
	Service Service
	Term    Term
	// Fallback is Term+1, for the roster's identities inside From; 0 for a
	// superseding handover, which has none and cannot be voided.
	Fallback Term
	From, To DataCenter
	Incoming []Identity
	Roster   []RosterEntry
	Allowed  EvidenceKinds
	// HoldBudget bounds the interruption: an instance that has not acked when
	// it has run out since it first received the block refuses by itself.
	HoldBudget time.Duration
	// AllowLateProxies goes on although a connected proxy did not acknowledge
	// the hold in time.
	AllowLateProxies bool
	By, Reason       string
	// Streams is what becomes of streams that outlive the drain.
	Streams StreamPolicy
	// BreakGlass says which safety rules it overrides, and why; nil: none.
	BreakGlass *BreakGlass
	// Mandate is the order as the operator By signed it; nil where By is named by
	// the gateway that took the order.
	Mandate *Mandate
	// Singleton: exactly one instance serves. The roster is everybody
	// outstanding but the one incoming, and the fallback is Previous's alone.
	Singleton bool
	// Previous is a singleton's master until now; empty when it is gone.
	Previous Identity
	// Leases are those of Term, FallbackLeases those of the term that the
	// fallback restores.
	Leases, FallbackLeases Leases
}

// Superseding reports whether the handover has no fallback: it follows one that
// is still open, or allows others' evidence.
func (h *Handover) Superseding() bool { return h.Fallback == 0 && h.From != "" }

// Voidable reports whether one refuse voids the handover and certifies its
// fallback.
func (h *Handover) Voidable() bool { return h.Fallback != 0 && h.Allowed&^AckOnly == 0 }

// Entry returns the roster entry of id.
func (h *Handover) Entry(id Identity) (RosterEntry, bool) {
	for _, e := range h.Roster {
		if e.Identity == id {
			return e, true
		}
	}
	return RosterEntry{}, false
}

// Lists reports whether id may serve at term t by this block alone: as incoming
// at Term, or as a roster identity inside From at Fallback (of a singleton: the
// previous master only).
func (h *Handover) Lists(id Identity, t Term) bool {
	switch {
	case t == 0:
		return false
	case t == h.Term:
		for _, in := range h.Incoming {
			if in == id {
				return true
			}
		}
	case t == h.Fallback:
		e, ok := h.Entry(id)
		return ok && e.DataCenter == h.From && (!h.Singleton || id == h.Previous)
	}
	return false
}

// An Admission makes an instance known (Term 0: standby only) or admits it to a
// certified term.
type Admission struct {
	Instance
	Term Term
	// Enrollment proves the instance's key and the agent's right to it,
	// verbatim; see rpc.Enrollment.
	Enrollment []byte
}

// An Outcome closes an open block: the certificate that came of it.
type Outcome struct {
	Service Service
	// Block is the block that the certificate is of.
	Block Digest
	// Certified is the certified term: the block's Term or its Fallback.
	Certified Term
	// Evidence holds the certificate's evidence envelopes verbatim.
	Evidence [][]byte
}

// A Removal takes an identity out of the outstanding with the evidence that a
// handover would need: a leave, or what others signed for the block that
// announced the removal. A removal without evidence announces.
type Removal struct {
	Service  Service
	Identity Identity
	Evidence []byte
	// Of an announcement only: the admission that is to end, the term below
	// which the identity will not serve, the evidence allowed (others' kinds
	// only), and who wants it why.
	Admission  uint64
	Below      Term
	Allowed    EvidenceKinds
	By, Reason string
}

// Announces reports whether the removal announces: others' evidence may be given
// from this block on.
func (r *Removal) Announces() bool { return len(r.Evidence) == 0 }

// A Request is one thing that voters agree on. Exactly one field is set.
type Request struct {
	Handover *Handover
	Admit    *Admission
	Outcome  *Outcome
	Remove   *Removal
	Pause    *Pause
	Approval *Approval
	Snapshot *Snapshot
	// Started says for ever that an operator started an instance without a quorum
	// of voters: a mandate of VerbStart.
	Started *Mandate
	// Voters changes who decides from the next block on. It is alone in its block
	// and speaks of no service.
	Voters *VoterChange
}

// A Snapshot agrees on what the log up to a block amounts to: blocks before it
// need not be kept any more. It is of no service.
type Snapshot struct {
	Index  uint64
	Digest Digest
}

// Service returns the service that the request is about, "" when it is about all
// of them.
func (r *Request) Service() Service {
	switch {
	case r.Handover != nil:
		return r.Handover.Service
	case r.Admit != nil:
		return r.Admit.Service
	case r.Outcome != nil:
		return r.Outcome.Service
	case r.Remove != nil:
		return r.Remove.Service
	case r.Pause != nil:
		return r.Pause.Service
	case r.Approval != nil:
		return r.Approval.Service
	case r.Started != nil:
		return r.Started.Service
	}
	return ""
}

// Mandate returns the operator's signed word that the request carries, or nil.
func (r *Request) Mandate() *Mandate {
	switch {
	case r.Handover != nil:
		return r.Handover.Mandate
	case r.Pause != nil:
		return r.Pause.Mandate
	case r.Approval != nil:
		return r.Approval.Mandate
	}
	return nil
}

// A Block is one entry of the agreed log.
type Block struct {
	Cluster string
	// Epoch numbers the voter set; Index numbers the blocks from 1.
	Epoch, Index uint64
	Prev         Digest
	// Proposer is the index of the voter that built the block; it leads the
	// agreement on the next one first.
	Proposer uint32
	// At is the proposer's wall clock: for people and for safety rules about time,
	// never for the interlock.
	At       time.Time
	Requests []Request
}

// Handover returns the block's handover of a service, or nil.
func (b *Block) Handover(s Service) *Handover {
	for i := range b.Requests {
		if h := b.Requests[i].Handover; h != nil && h.Service == s {
			return h
		}
	}
	return nil
}

// Announcement returns the block's announced removal of a service, or nil.
func (b *Block) Announcement(s Service) *Removal {
	for i := range b.Requests {
		if r := b.Requests[i].Remove; r != nil && r.Service == s && r.Announces() {
			return r
		}
	}
	return nil
}

// Admission returns the block's admission of a service, or nil.
func (b *Block) Admission(s Service) *Admission {
	for i := range b.Requests {
		if a := b.Requests[i].Admit; a != nil && a.Service == s {
			return a
		}
	}
	return nil
}

// Snapshot returns what the block agrees on of the log before it, or nil.
func (b *Block) Snapshot() *Snapshot {
	for i := range b.Requests {
		if s := b.Requests[i].Snapshot; s != nil {
			return s
		}
	}
	return nil
}

// A DecidedBlock is a block with the bytes that were signed and the signatures
// of a quorum of voters over them.
type DecidedBlock struct {
	Block
	Digest Digest
	// Raw is the signed envelope verbatim: block bytes and quorum signature.
	Raw []byte
}

// A Certificate proves who may serve a term: block, quorum and evidence for the
// whole roster, or block, quorum and one refuse. Anyone who holds the voters'
// public keys can verify it offline.
type Certificate struct {
	Block   *DecidedBlock
	Service Service
	// Term is the certified term: the handover's Term, or its Fallback.
	Term     Term
	Evidence []Evidence
	// Raw is the certificate as it was received or built, verbatim.
	Raw []byte
}

// Handover returns the certified handover.
func (c *Certificate) Handover() *Handover { return c.Block.Handover(c.Service) }

// IsFallback reports whether the certificate is of the block's fallback.
func (c *Certificate) IsFallback() bool {
	h := c.Handover()
	return h.Fallback != 0 && c.Term == h.Fallback
}

// Position is what the old master's data had reached, as its driver said in the
// ack or leave that the certificate carries; nil when nobody said. Of several
// the newest admission's counts: whoever was listed or admitted last was master
// last, and only who was master says a position. A fallback carries none: who
// serves on has the data.
func (c *Certificate) Position() Position {
	var newest *Evidence
	for i := range c.Evidence {
		e := &c.Evidence[i]
		says := (e.Kind == SaysAck || e.Kind == SaysLeave) && len(e.Position) > 0
		if says && !c.IsFallback() && (newest == nil || e.Admission > newest.Admission) {
			newest = e
		}
	}
	if newest == nil {
		return nil
	}
	return newest.Position
}

// Leases are those of the certified term.
func (c *Certificate) Leases() Leases {
	if c.IsFallback() {
		return c.Handover().FallbackLeases
	}
	return c.Handover().Leases
}

// DataCenter is the master data center of the certified term.
func (c *Certificate) DataCenter() DataCenter {
	if c.IsFallback() {
		return c.Handover().From
	}
	return c.Handover().To
}
