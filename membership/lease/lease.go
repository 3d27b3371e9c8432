// Package lease decides about leases and their lapse (design, section 3): what a
// voter may grant and when it may sign that a lease has run out, and how long a
// holder may believe in what it was granted. It is pure: time comes in as an
// Instant, what has to be on disk goes out as a Change.
//
// Guarantees, while clocks drift no more than Leases.Drift and at most r voters
// lie: when a quorum of voters has signed that the lease of an identity lapsed
// below a term, that identity's holder does not believe a lease below that term
// to be live, then or ever again. Any two quorums (n - u of n = 2u + r + 1) share
// an honest voter; it promised, waited for what it had granted, and then signed.
//
// That holds across a change of voters, too: a voter that votes for others stops
// granting until that slot is decided (Grantor.Stop), who goes on or begins in the new
// set is a new Grantor and waits as after a start, and a Holder counts the grants of one
// epoch only. The argument is in membership/agreement/DESIGN.md, "Changing the voters".
//
// It does not guarantee that a process acts on its clock: one that is frozen
// between looking at its lease and writing needs the term as a fencing token
// where it writes. It knows nothing of signatures, certificates or the log.
package lease

import (
	"time"

	"github.com/signalbox-io/signalbox"
)

// Default is what a service uses that says no more than that it uses leases.
func Default() signalbox.Leases { return signalbox.Leases{TTL: 3 * time.Second, Drift: 10_000} }

// Disagreement is by how much boot-time and wall clock may differ over the life
// of a grant before neither is believed.
const Disagreement = 250 * time.Millisecond

// Renewal is how often a holder asks again: three times in a TTL.
func Renewal(l signalbox.Leases) time.Duration { return l.TTL / 3 }

// Instant is a moment as two clocks of one machine show it.
type Instant struct {
	// Boot is the time since the machine was started, suspension included.
	Boot time.Duration
	// Wall is the time since 1970-01-01 UTC.
	Wall time.Duration
}

// Add returns the instant d later on both clocks.
func (i Instant) Add(d time.Duration) Instant { return Instant{i.Boot + d, i.Wall + d} }

// Time returns the wall clock's reading.
func (i Instant) Time() time.Time { return time.Unix(0, int64(i.Wall)) }

// Passed reports whether a deadline is over: when the first of the two clocks
// has reached it, or when they have drifted apart since it was set, and nobody
// knows which of them is right.
func (i Instant) Passed(now Instant) bool {
	boot, wall := now.Boot-i.Boot, now.Wall-i.Wall
	return boot >= 0 || wall >= 0 || apart(boot, wall)
}

func apart(boot, wall time.Duration) bool {
	return boot-wall > Disagreement || wall-boot > Disagreement
}

// NonceSize is the length of a request's nonce in bytes.
const NonceSize = 16

// Nonce names one request; nobody else can have made it up.
type Nonce = [NonceSize]byte

// Request asks for a lease; a grant repeats it.
type Request struct {
	Service  signalbox.Service
	Term     signalbox.Term
	Identity signalbox.Identity
	// Admission is the log index by which the identity may serve the term.
	Admission   uint64
	Incarnation uint64
	Nonce       Nonce
	TTL         time.Duration
	// Epoch numbers the voter set as part of which a grant is given; what is asked
	// for has none.
	Epoch uint64
}
