package api

import (
	"context"
	"io"
	"time"
)

// A Viewer answers from what the gateway knows now. Its methods do not block on
// other processes, are safe for concurrent use and return copies.
type Viewer interface {
	// Services lists all configured services by name.
	Services(ctx context.Context) ([]Service, error)
	// Instances lists the instances of a service, or of all when it is empty,
	// by service, data center and name. ErrUnknown for a service that is not
	// configured.
	Instances(ctx context.Context, service string) ([]Instance, error)
	// Proxies lists the proxies of all gateways as far as this one knows, by
	// data center and id.
	Proxies(ctx context.Context) ([]Proxy, error)
	// Health says whether the gateway is ready to serve proxies and orders.
	Health(ctx context.Context) Health
}

// A Page selects handovers, newest first.
type Page struct {
	// Service is empty for all.
	Service string
	// Before is the id of a handover: only older ones are listed. Empty for
	// the newest.
	Before string
	// Limit is the largest number wanted, 1 to MaxPage.
	Limit int
}

// A Historian has the cutover records.
type Historian interface {
	// Handovers lists records without their details, newest first, the open
	// ones included.
	Handovers(ctx context.Context, page Page) ([]Handover, error)
	// Handover returns the whole record; ErrUnknown when there is none of that
	// id. For an open handover it is what is known so far.
	Handover(ctx context.Context, id string) (Handover, error)
}

// An Order is a wish to switch, as it came in and was checked for form.
type Order struct {
	// ID is the id that the handover is to have. When the log has a handover
	// of this id already, the order was given before: the backend returns that
	// handover as it is, and starts nothing. So a repeated request is safe at
	// any gateway.
	ID      string
	Service string
	To      string
	// Expect is "east@7" or empty: anything else being certified is
	// ErrExpectation.
	Expect string
	Reason string
	// By is who asked, "operator/alice".
	By string
	// HoldBudget is 0 for the service's own.
	HoldBudget       time.Duration
	AllowLateProxies bool
	// BreakGlass is the reason for which the safety rules that block are
	// overridden; empty: none is.
	BreakGlass string
	// Mandate is the order as the operator signed it; nil where the caller's
	// certificate alone says who asked.
	Mandate []byte
	// Failback: To is where the service was before; that side is looked at more
	// closely.
	Failback bool
}

// A Conductor moves mastership. Errors wrap the root package's sentinels; a
// *Fault adds what to do. Methods return when the wish is durable on a quorum
// (or refused), not when the handover is over.
type Conductor interface {
	// Plan says what the order would do, without doing any of it. A check that
	// fails is no error. ErrUnknown for a service or data center, ErrExpectation
	// when the expectation does not hold.
	Plan(ctx context.Context, order Order) (Plan, error)
	// Switch starts the handover. ErrConflict when another is open (Fault.Handover
	// names it), ErrExpectation, ErrNotReady (Fault.Checks has what failed),
	// ErrRefused, ErrUnavailable.
	Switch(ctx context.Context, order Order) (Handover, error)
	// GiveUp asks for the open handover's fallback. ErrUnknown when there is no
	// such handover; ErrRefused when it is over, certified or cannot be voided.
	GiveUp(ctx context.Context, id, by, reason string) (Handover, error)
	// Adopt takes over a service that runs: order.To is master and becomes
	// term 1. ErrConflict when the service has a term already.
	Adopt(ctx context.Context, order Order) (Handover, error)
}

// An Archivist copies the gateway's journal.
type Archivist interface {
	// Backup writes a consistent copy of the journal while the gateway goes on.
	// It holds no private key.
	Backup(ctx context.Context, w io.Writer) error
}

// A Fault is an error with what an operator needs beside its text. Err is never
// nil and wraps a sentinel of the root package.
type Fault struct {
	Err error
	// Do says what to do; empty for the problem's usual advice.
	Do string
	// Handover is the id of the handover that is in the way.
	Handover string
	// Current is what is certified, "west@8".
	Current string
	// Checks are those that failed.
	Checks []Check
	// Code is the problem's code where it is more exact than the sentinel's.
	Code string
}

// Error returns the text of Err.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }
