// Package driver is the port between an agent and what it makes obey: one
// process of a service. driver/guard drives a Go service from inside its own
// process, driver/http any process that speaks the HTTP contract.
//
// Guarantees that every implementation gives: StepDown returns nil only when the
// instance is closed and nothing is in flight, as one state, and it stays so
// until the next Promote; nothing starts as master by itself. The agent calls
// StepDown and Promote one at a time; Status and Ready may run beside them.
package driver

import (
	"context"
	"time"

	"github.com/signalbox-io/signalbox"
)

// The bounds of how an instance stops taking new work (design, section 3): it
// closes when Idle has passed without a new request, after MaxIdle at most.
const (
	Idle    = 2 * time.Millisecond
	MaxIdle = 50 * time.Millisecond
)

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
	StepDown(ctx context.Context, order StepDown) error
	// Promote opens the instance at a term whose certificate the agent has
	// verified. It returns nil when the instance serves. Repeating it is
	// harmless; opening a higher term while a lower one is open interrupts
	// nothing. It never opens a term below the newest that the instance served.
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
}

// Promotion is the order to serve a term.
type Promotion struct {
	Service signalbox.Service
	Term    signalbox.Term
}

// Readiness is what an instance says about taking over.
type Readiness struct {
	Ready bool
	// Lag is how far its data is behind, 0 when it is not or does not know.
	Lag time.Duration
	// Problem says to a person why it is not ready.
	Problem string
}

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
