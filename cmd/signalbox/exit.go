package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// The exit codes; they are part of the interface (design, section 7).
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitRefused  = 3
	exitTimeout  = 4
	exitReverted = 5
	exitConflict = 6
)

// exitError carries an exit code past what the error's kind would say. With a
// nil err nothing more is printed: the verb has said it all.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// withCode gives err an exit code; nil stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

// usageError is a command line or a file that is wrong: trying again unchanged
// cannot help.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// exitKinds maps kinds of errors to exit codes, in this order: the first that
// fits counts.
var exitKinds = []struct {
	kind error
	code int
}{
	{signalbox.ErrConflict, exitConflict},
	{signalbox.ErrExpectation, exitConflict},
	{signalbox.ErrRefused, exitRefused},
	{signalbox.ErrNotReady, exitRefused},
	{signalbox.ErrUnsigned, exitRefused},
	{signalbox.ErrNotConfigured, exitRefused},
	// Whether it was decided is open, as after a timeout.
	{signalbox.ErrUnavailable, exitTimeout},
	{context.DeadlineExceeded, exitTimeout},
	{signalbox.ErrInvalid, exitUsage},
	{resource.ErrInvalid, exitUsage},
}

func hasExitCode(err error) bool {
	var code *exitError
	var usage usageError
	return errors.As(err, &code) || errors.As(err, &usage)
}

// exitCode is the one place that turns an error into an exit code.
func exitCode(err error) int {
	var code *exitError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &usage):
		return exitUsage
	}
	for _, k := range exitKinds {
		if errors.Is(err, k.kind) {
			return k.code
		}
	}
	return exitFailure
}
