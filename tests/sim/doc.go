// Package sim is one seeded, single-threaded simulation of a cluster: the product's pure cores (membership/agreement,
// gateway/handover, membership/lease) over a simulated network, simulated clocks and disks. Everything follows from the seed.
//
// Real are: every voter's agreement.Replica, each gateway's handover.Ledger (which validates what its replica votes for) and
// handover.Machine, every voter's lease.Grantor and every instance's lease.Holder, and package rpc with its encodings, statements,
// certificates and voter sets: an operator has the voters changed, and each gateway goes on as what its log has it be. Simulated are the shells around them (gateway/journal, gateway/coordinator, membership/agent): what they
// persist, in what order, and what a crash leaves of it. Voters' signatures are a fake port, for speed; instances' are real.
//
// It guarantees, for the seeds that were run, what Violations of package-level tests say: never two data centers whose instances
// may serve at once, one log, one data center per term, nobody below its own evidence or without an entry in the log; and when
// the faults stop, every handover ends and somebody serves. It does not see proxies, drivers, encodings on disk nor real time.
package sim
