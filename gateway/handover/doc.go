// Package handover decides. The Ledger is what the agreed log says: terms, who
// is outstanding, which blocks are open; voters vote for what Ledger.Check
// accepts and for nothing else. The Machine is one service's handover as one
// gateway sees it: events and the time go in, ordered effects come out.
//
// Guarantees: the rules of INVARIANTS.md. Nothing here reads a clock, starts a
// goroutine or touches a file or socket, so every history can be replayed.
//
// It does not guarantee that effects happen; gateway/coordinator carries them
// out, and every step is idempotent so that it may do so twice.
package handover
