// Package postgres drives a PostgreSQL 15 server (or newer): a primary is stepped
// down, its streaming standby promoted, and the old primary comes back as a
// standby of the new one.
//
// Guarantees:
//
//   - StepDown returns nil only when the server is stopped, no process of it
//     lives, everything that was acknowledged to any session is flushed and
//     replayed by a standby, and the end of the log is on the driver's own disk.
//     The fence is the stopped server: no setting, role or statement undoes it.
//   - Promote opens a server only whose log contains the position that the
//     certificate carries, on the same timeline or one that left it behind that
//     position. Without a position max-loss decides.
//   - Whoever starts the server otherwise, a person or the distribution's unit,
//     gets a standby: standby.signal lies in the data directory at all times but
//     during a start as primary.
//   - A rewind loses nothing silently: the log that only the old primary had is
//     kept beside, and its bytes and transactions are counted.
//
// The order of a step-down is told at Driver.StepDown. What stops a switch is
// decided by judge, planRejoin and reached, which are pure; the rest is sockets,
// signals and PostgreSQL's own programs.
//
// It does not guarantee that a transaction whose answer was lost was not
// committed, nor anything about a server that somebody else starts with another
// data directory, or about logical slots, which stay behind. With several
// standbys those that are to be promoted are waited for, where the order names
// them, else all that stream; the others get the rest from the new primary.
package postgres
