// Package rpc is what goes over the wire between Signalbox's processes: signed
// envelopes and their verification, blocks, statements and certificates as
// bytes, and the mutual-TLS identity of every process. The protobuf messages
// and gRPC services themselves are generated into rpc/wire.
//
// Guarantees: whatever a function named Open or Verify returns without an error
// was signed by the keys it was checked against, over exactly the bytes that
// came in, for this cluster and this kind of message; every length is bounded
// by a named maximum before it is looked at; no input makes it panic.
//
// It does not guarantee freshness (a replayed statement is as genuine as the
// first) and does not know who may do what: the rules live in gateway/handover
// and membership/agent.
package rpc
