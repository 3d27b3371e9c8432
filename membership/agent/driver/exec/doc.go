// Package execdriver drives an instance by commands, so that anything that can
// be started and stopped by a script can be handed over. docs/drivers.md has the
// whole contract; in short:
//
//	status     0: it serves; 3: it does not; anything else: nobody knows
//	ready      0: it could be promoted; 1: not, and the last line says why
//	step-down  0: closed, nothing in flight; 75: not yet, asked again; else: failed
//	promote    0: it serves; anything else: failed
//	stop       0: closed at once, without waiting for anything in flight
//	prepare, follow: 0 or failed
//
// Orders come in the environment (SIGNALBOX_ACTION, SIGNALBOX_TERM, ...), facts go
// back as name=value lines on standard output (position=, lag-seconds=, problem=).
// Instead of, or beside commands, the driver can run the service itself, under a
// warden (package warden): then it is the master exactly while it runs, or is
// started as a standby that the commands promote.
//
// Guarantees: a step-down counts only when the status says afterwards that the
// service does not serve; the newest term, whether it was master, and its position
// are on disk before anything is done, so that a restarted agent goes on; a
// command's time, output and processes are bounded. It does not guarantee that
// nobody else starts the service: its unit has to be disabled, and must not
// restart by itself.
package execdriver
