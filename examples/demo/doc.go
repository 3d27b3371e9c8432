// Package demo runs a whole Signalbox site on one machine: two data centers, each with gateways, Envoys, instances of
// the example service and their agents, and where asked for a third one with one more voter, as real processes on
// loopback. `signalbox demo`, the end-to-end tests, the chaos runs and the benchmarks share it.
//
// It guarantees that every process it started is gone when Close returns, or when this process dies; that processes that
// die are started again after RestartAfter, as any supervisor would; that ports lie below the kernel's range for outgoing
// connections, so that a restarted process finds its own free; and that nothing outside the site's folder is written.
//
// It does not build anything and judges nothing by itself: binaries are given, and what happened is in the logs that
// Judge hands to the oracle.
package demo

import "time"

// The data centers of a site.
const (
	East = "east"
	West = "west"
	// North is the third one of Options.North.
	North = "north"
)

// Service is the name of the example service.
const Service = "orders"

// DataCenters returns the data centers of a site that have instances, in their order.
func DataCenters() []string { return []string{East, West} }

// The drivers of the example's instances.
const (
	DriverHTTP    = "http"    // an agent beside each instance
	DriverLibrary = "library" // the agent is in the instance
)

const (
	// RestartAfter is how long a process that died stays dead.
	RestartAfter = time.Second
	// StartWithin bounds the start of a site, on a machine that does much else.
	StartWithin = 3 * time.Minute

	stopWithin = 5 * time.Second       // for a process to end after SIGTERM, before SIGKILL
	askEvery   = 5 * time.Millisecond  // between two questions whether something is ready
	seeEvery   = 20 * time.Millisecond // between two looks at a handover
	logTail    = 2048                  // bytes of a process's log that an error shows
)
