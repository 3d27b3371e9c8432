// Package agreement has a set of voters decide one value for each slot of a log,
// although some voters are away and some of those lie: unchained two-phase
// HotStuff-2 with Jolteon's timeout certificates. DESIGN.md has the protocol and
// why it is safe.
//
// Guarantees, while at most u of n = 2u + r + 1 voters are away and at most r of
// those lie: no two different values of one slot get a decision certificate; a
// certificate verifies with the voters' public keys alone (rpc.OpenBlock); what
// was decided was valid to a voter that does not lie. When messages arrive in
// time again, what is pending is decided, in 5(n-1) messages where the first
// leader is well.
//
// A Replica is pure: messages and time in, effects out. It keeps nothing itself:
// the caller carries out the effects of one call, in their order (persist, then
// send, then decide), before the next call. It knows nothing of what the values
// mean beyond Config.Validate, and nothing of who sent a message beyond what the
// caller tells it: the transport authenticates voters.
package agreement
