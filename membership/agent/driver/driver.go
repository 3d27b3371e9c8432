// Package driver is the port between an agent and what it makes obey: one
// process of a service. driver/guard drives a Go service from inside its own
// process, driver/http any process that speaks the HTTP contract.
//
// Guarantees that every implementation gives: StepDown returns nil only when the
// instance is closed and nothing is in flight, as one state, and it stays so
// until the next Promote; nothing starts as master by itself. The agent calls
// StepDown, Promote, Prepare and Follow one at a time; Status, Ready and Lease
// may run beside them. driver/drivertest is the suite that every one passes.
package driver

import (
	"context"
	"errors"
	"time"

	"github.com/signalbox-io/signalbox"
)

// The bounds of how an instance stops taking new work (design, section 3): it
// closes when Idle has passed without a new request, after MaxIdle at most.
const (
	Idle    = 2 * time.Millisecond
	MaxIdle = 50 * time.Millisecond
)

// ErrStreams is returned by StepDown, wrapped or not, when the order says to abort
// and only streams are left in flight.
var ErrStreams = errors.New("streams outlive the drain")

// A Driver makes one instance obey.
type Driver interface {
	// Ready says whether the instance could be promoted now. It returns within
	// the context's time; an error means that nobody knows.
	Ready(ctx context.Context) (Readiness, error)
	// StepDown has the instance stop serving order.Term and everything below:
	// it takes new work until Idle has passed without any (MaxIdle at most),
	// then closes and drains. It blocks until closed with nothing in flight
	// (nil), or returns an error: the context's when that ended first. After an
	// error the instance may be closed, open or in between; the caller repeats
	// StepDown or promotes. Repeating it is harmless.
	//
	// The position is what the instance's data had reached as master, at most
	// signalbox.MaxPosition bytes, printable where possible; the agent signs it
	// into its ack or leave. It is nil for an instance without data, and for one
	// that has not been master since it last followed another. A repeated
	// StepDown returns the same position until the next Promote or Follow, also
	// after the agent, the driver or the instance was started again.
	StepDown(ctx context.Context, order StepDown) (Position, error)
	// Promote opens the instance at a term whose certificate the agent has
	// verified. It returns nil when the instance serves. Repeating it is
	// harmless; opening a higher term while a lower one is open interrupts
	// nothing. It never opens a term below the newest that the instance served,
	// and never an instance whose data has not reached order.Position. An error
	// leaves the instance closed, or open as it was before.
	Promote(ctx context.Context, order Promotion) error
	// Status says what the instance is doing. It changes nothing.
	Status(ctx context.Context) (Status, error)
	// Stop releases what the driver holds. It neither steps the instance down
	// nor ends it.
	Stop(ctx context.Context) error
}

// StepDown is the order to stop serving.
type StepDown struct {
	Service signalbox.Service
	// Term is the highest term that the instance shall no longer serve. It may
	// be promoted to the same term again when the handover was given up.
	Term signalbox.Term
	// Deadline is when the instance would refuse the handover; zero: none. It
	// is for the instance to hurry by, not a promise to reopen.
	Deadline time.Time
	// Incoming are the instances that are to be promoted, where they are known:
	// those that have to have everything. Empty: any that can be promoted may be.
	Incoming []Peer
	// Streams is what becomes of long-lived requests; a driver that cannot tell
	// them from others waits for all. With StreamsAbort StepDown returns
	// ErrStreams as soon as nothing else is in flight.
	Streams signalbox.StreamPolicy
}

// A Peer is another instance of the service. It comes from a gateway and is a
// hint: what it leads to is checked where it counts, at the promotion.
type Peer struct {
	Name    string
	Address string // host:port
}

// Names are the peers' names.
func Names(peers []Peer) (out []string) {
	for _, p := range peers {
		out = append(out, p.Name)
	}
	return out
}

// Promotion is the order to serve a term.
type Promotion struct {
	Service signalbox.Service
	Term    signalbox.Term
	// Position is what the old master's data had reached, as its driver said in
	// the evidence that the certificate carries; nil when nobody said: an
	// instance without data, a failover without evidence of the instance itself,
	// or the fallback to who served before. See signalbox.Certificate.Position.
	Position Position
	// Leased: the term uses leases. An instance that has no live one of the term
	// (see Leaser) refuses: it was perhaps started again since it was given one.
	Leased bool
}

// Position is what an instance's data had reached.
type Position = signalbox.Position

// Readiness is what an instance says about taking over.
type Readiness struct {
	Ready bool
	// Lag is how far its data is behind, 0 when it is not or does not know.
	Lag time.Duration
	// LagBytes is the same in bytes; 0 when it is not, or does not know.
	LagBytes uint64
	// Problem says to a person why it is not ready.
	Problem string
	// Problems are what a person should look at before a handover, whether it
	// keeps the instance from being ready or not; at most MaxProblems.
	Problems []Problem
	// Expected and Lost are a Reckoner's; the agent fills them in.
	Expected *ExpectedLoss
	Lost     *Loss
}

// A Problem is one thing that a person should look at.
type Problem struct {
	// Name is stable and short, for example "replication-slot-missing".
	Name string
	// What says what is wrong, Do what to do about it.
	What, Do string
	// Refuses: while it is there, the driver of a master refuses to step down,
	// so a planned handover is refused before anything is interrupted.
	Refuses bool
}

// MaxProblems is how many problems of an instance are passed on.
const MaxProblems = 16

// Status is what an instance says about itself.
type Status struct {
	Master   bool
	Term     signalbox.Term
	InFlight uint64
	// Run names one run of the instance's process, opaque; "" when the
	// instance does not say. Another Run is another start.
	Run string
	// Leaving is true when the instance wants to stop in an orderly way: the
	// agent has it leave and the process may exit once it has been stepped down.
	Leaving bool
}

// A Quieter can tell when new work has stopped coming. Optional: without it the
// agent watches Status.
type Quieter interface {
	// Quiet returns when no request has come for idle, after most at the
	// latest, or when ctx ends.
	Quiet(ctx context.Context, idle, most time.Duration)
}

// A Holder parks what comes while closed. Optional.
type Holder interface {
	// Hold says what becomes of requests that come while the instance is
	// closed: with park > 0 each waits that long at most for a Promote, else it
	// is refused at once. known is the newest term that the agent knows of; it
	// goes into the refusal. Never blocks.
	Hold(park time.Duration, known signalbox.Term)
}

// A Preparer can make a coming step-down or promotion short. Optional.
type Preparer interface {
	// Prepare is called before anything is interrupted, on the instances that
	// will step down and on those that will be promoted: a checkpoint, a cache
	// to fill. It changes nothing that clients see. The handover waits for it
	// until ctx ends, and goes on after an error too: it may happen without
	// Prepare, or never.
	Prepare(ctx context.Context, order Preparation) error
}

// Preparation says what is coming.
type Preparation struct {
	Service signalbox.Service
	// Term is the term that is about to be handed over.
	Term signalbox.Term
	// Promote is true for an instance that is to be promoted, false for one that
	// is to step down.
	Promote bool
}

// A Follower turns an instance that does not serve into a standby of who does.
// Optional.
type Follower interface {
	// Follow is called while the instance is stepped down or was never promoted,
	// and only for a term above everything that it acked: when a certificate of
	// another master is known and that master says that it serves, when the
	// master's address changes, and after each start of the agent. It returns
	// nil when the instance follows, or is on its way to by itself. Repeating it
	// is harmless and cheap. After an error it is called again. It never opens
	// the instance. ctx ends when the instance is to be stepped down or promoted.
	Follow(ctx context.Context, order Follow) error
}

// Follow names the master to follow.
type Follow struct {
	Service signalbox.Service
	// Term is the certified term, Master the instance that signed that it serves
	// it, Address where it does, host:port.
	Term    signalbox.Term
	Master  signalbox.Identity
	Address string
}

// A Leaser has a dead-man: without a live lease its instance does not serve.
// Optional; a service without leases never uses it.
type Leaser interface {
	// Lease says until when the instance may serve the term. It may be called
	// often and beside any other method, and ends with ctx. A later deadline of
	// the same term takes the place of an earlier one; an earlier one never does.
	Lease(ctx context.Context, order LeaseOrder) error
}

// LeaseOrder says until when an instance may serve.
type LeaseOrder struct {
	Service signalbox.Service
	Term    signalbox.Term
	// Deadline is by the wall clock, Boot the same moment on BootTime's clock,
	// which counts suspension and is never set. The lease is over when the first
	// of the two is reached. Who can have Boot (a process on the same machine)
	// goes by it.
	Deadline time.Time
	Boot     time.Duration
}
