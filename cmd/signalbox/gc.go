package main

import (
	"os"
	"runtime/debug"
)

// How much a process's heap may grow between two collections, in percent. Both
// heaps are a few megabytes: collected at Go's default of 100, a fifth of a
// handover's processor time went into it.
const (
	gatewayGC = 400
	agentGC   = 200
)

// relaxGC sets it, unless the operator did.
func relaxGC(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
