package model

import "math/bits"

// DC is one of the two data centers.
type DC uint8

// The two data centers. East is the master that was adopted.
const (
	East DC = iota
	West
)

// Other is the data center that d is not.
func (d DC) Other() DC { return 1 - d }

// ID is an instance's identity, that is, its key: 0 and 1 are in east, 2 and 3 in west, 4 and 5 are the identities that a restored
// disk or image creates in east and in west.
type ID uint8

// Identities.
const (
	originals = 4
	idents    = 6
)

// DC is the data center that the identity belongs to.
func (x ID) DC() DC {
	if x >= originals {
		return DC(x - originals)
	}
	return DC(x / 2)
}

// Set is a set of identities, one bit each.
type Set uint8

// Has says whether x is in the set.
func (s Set) Has(x ID) bool { return s>>x&1 == 1 }

func one(x ID) Set { return 1 << x }

// DC is the data center of a set that lies in one.
func (s Set) DC() DC {
	if s&in(West) != 0 {
		return West
	}
	return East
}

// in is the set of all identities of a data center.
func in(d DC) Set {
	if d == East {
		return 0b010011
	}
	return 0b101100
}

// Kind is what an entry of the agreed log says.
type Kind uint8

// Kinds of entries.
const (
	Nothing  Kind = iota
	Adopt         // entry 0: term 1, east, both of its instances
	Handover      // a handover block
	Admit         // one identity is admitted to a term
	Outcome       // how the block at Ref ended
	Announce      // others may give evidence from now on that one identity, under its admission until now, serves no more
	Remove        // one identity is no longer outstanding
)

// Flags of an entry.
const (
	ToWest         uint8 = 1 << iota // Handover: the new master is west, else east
	Superseding                      // Handover: decided while another block was open
	AllowsMore                       // Handover: allows evidence that the instance does not give itself (lapse, fence, attest)
	Forward                          // Outcome: the block's own term is certified, else its fallback
	ByFence                          // Remove: the evidence was a fence, else a leave
	Forgotten                        // the voters lost this entry (only when rule 8 is off for voters); its signatures still exist
	Leased                           // Adopt, Handover: the term uses leases
	FallbackLeased                   // Handover: the term that the fallback restores uses leases
)

// Entry is one entry of the agreed log. Its index in the log is its name, and the admission of whom it lists or admits.
type Entry struct {
	Kind     Kind
	Flags    uint8
	Term     uint8 // Handover: forward term; Admit: the term admitted to
	Incoming Set   // Handover: who may serve at Term
	Roster   Set   // Handover: whose evidence is needed
	Fallback Set   // Handover: who may serve at Term+1 after one refuse; empty if the block cannot be voided
	Ref      uint8 // Admit, Announce, Remove: the identity
	Of       uint8 // Admit, Outcome: the index of the block
}

func (e Entry) has(flag uint8) bool { return e.Flags&flag != 0 }

// To is the data center of the block's forward term.
func (e Entry) To() DC {
	if e.has(ToWest) {
		return West
	}
	return East
}

// isBlock says whether the entry establishes a term.
func (e Entry) isBlock() bool { return e.Kind == Handover || e.Kind == Adopt }

// MaxLog is the longest log a state can hold. Indices fit four bits.
const MaxLog = 13

// Log is the agreed log.
type Log struct {
	E   [MaxLog]Entry
	Len uint8
}

// Blocks is a set of log indices, one bit each.
type Blocks uint16

func (b Blocks) has(k int) bool { return b>>k&1 == 1 }

// newest is the highest index in the set, 0 if it is empty (entry 0 is never answered).
func (b Blocks) newest() int { return max(bits.Len16(uint16(b))-1, 0) }

// sinceAdoption in Asked: the instance has run since before the first block and needs to ask nobody.
const sinceAdoption = 15

// Inst is one identity: what its agent has on disk, what it has in memory, and the statements it has signed (or others have signed
// about it). Statements are never lost: anybody may hold any of them at any time.
type Inst struct {
	Acked, Refused  Blocks   // on disk: the answers given
	SaidAck, SaidNo Blocks   // signed
	Fenced          Blocks   // signed by others: it was off, for this block or announcement
	Lapsed          Blocks   // signed by voters, who promised first: it has no lease any more, for this block or announcement
	Leaves          [2]uint8 // signed: (admission+1)<<4 | highest block answered; 0 is none
	Left            uint8    // on disk: the admission left, plus one
	Serving         uint8    // in memory: the term it serves at, 0 is none
	Asked           uint8    // in memory: 0 not yet, 1+index of what the voters answered, or sinceAdoption
	UnboundFence    uint8    // signed by others: it was off, for no announcement (1; only when RemovalIsAnnounced is off)
}

// State is one state of the whole system. It is comparable and holds no pointers.
type State struct {
	Log      Log
	Inst     [idents]Inst
	Alive    Set // identities that exist
	Crashes  uint8
	Restores uint8
	CopyOf   [2]uint8 // per data center: 1 + the identity whose disk or image was restored, 0 is none

	Singleton bool // one instance at a time is master, not all of one data center
}

// Initial is the state after `service adopt`: east serves at term 1, with one instance if the service is a singleton, and with
// leases where the bounds say so.
func Initial(b Bounds) State {
	s := State{Singleton: b.Singleton}
	s.Log.E[0] = Entry{Kind: Adopt, Term: 1, Incoming: 0b0011}
	if b.Leased {
		s.Log.E[0].Flags = Leased
	}
	if b.Singleton {
		s.Log.E[0].Incoming = 0b0001
	}
	s.Log.Len = 1
	s.Alive = 0b1111
	for x := range ID(originals) {
		s.Inst[x].Asked = sinceAdoption
	}
	for x := range ID(idents) {
		if s.Log.E[0].Incoming.Has(x) {
			s.Inst[x].Serving = 1
		}
	}
	return s
}

// inside is who need not give evidence for a block: the new master's data center, or the one incoming instance of a singleton.
func (s *State) inside(to DC, incoming Set) Set {
	if s.Singleton {
		return incoming
	}
	return in(to)
}
