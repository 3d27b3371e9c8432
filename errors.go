package signalbox

import "errors"

// Sentinel errors. Errors wrap them so that callers can tell kinds apart with
// errors.Is; the wrapped text says what to do.
var (
	// ErrInvalid is returned when input is malformed; trying again unchanged
	// cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrConflict is returned when another handover of the service is open, or
	// the log moved on meanwhile.
	ErrConflict = errors.New("conflict")
	// ErrExpectation is returned when a compare-and-switch expectation does not
	// hold. Nothing was moved.
	ErrExpectation = errors.New("expectation does not hold")
	// ErrRefused is returned when a rule of the interlock or a safety rule says
	// no.
	ErrRefused = errors.New("refused by rule")
	// ErrNotReady is returned when a readiness check fails.
	ErrNotReady = errors.New("not ready")
	// ErrUnknown is returned when a name is not known here.
	ErrUnknown = errors.New("unknown")
	// ErrUntrusted is returned when a signature, key or certificate does not
	// prove what it should.
	ErrUntrusted = errors.New("untrusted")
	// ErrUnsigned is returned when an order counts only with the operator's own
	// signature, and has none.
	ErrUnsigned = errors.New("not signed by the operator")
	// ErrNotConfigured is returned when a kind of evidence or a feature is not
	// configured.
	ErrNotConfigured = errors.New("not configured")
	// ErrUnavailable is returned when too few voters can be reached; the
	// request may or may not have been decided.
	ErrUnavailable = errors.New("unavailable")
)
