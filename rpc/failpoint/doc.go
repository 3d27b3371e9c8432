// Package failpoint kills the process at a named step, with SIGKILL, in builds
// with the tag failpoints; in all others Reach does nothing and costs nothing.
//
// A point is armed from outside by a file of its name in the folder that
// SIGNALBOX_FAILPOINTS names: the first process that reaches the point takes the
// file and dies. So exactly one kill comes of one file, at exactly that step.
package failpoint

const (
	// Dir is the environment variable that names the folder.
	Dir = "SIGNALBOX_FAILPOINTS"
	// Blocks is the one that says after how many blocks gateways take a snapshot of
	// the log, so that its steps are reached.
	Blocks = "SIGNALBOX_SNAPSHOT_BLOCKS"
)
