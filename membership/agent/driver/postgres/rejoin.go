package postgres

import (
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// rejoin is how a stopped server becomes a standby of the primary.
type rejoin struct {
	// rewind is true when its log has something that the primary's has not.
	rewind bool
	// trim is true when its data files have nothing of that and only its log has:
	// the log of the dead timeline is removed, and pg_rewind is not needed.
	trim bool
	// fork is where the two part: what lies after it on this server is lost to
	// the service.
	fork LSN
	lost uint64 // bytes of it
	// problem, when set, says why it cannot become one.
	problem *driver.Problem
}

// planRejoin compares where a stopped server is, and how it came there, with the
// primary that it shall follow.
func planRejoin(own standing, ownHistory history, system uint64, primary history) rejoin {
	if own.System != system {
		return rejoin{problem: &driver.Problem{
			Name: "system-differs",
			What: fmt.Sprintf("the system identifier is %d here and %d on the primary: this is another database cluster", own.System, system),
			Do:   "look whether the driver's data directory is the right one; if it is, move it away and make the standby anew with pg_basebackup",
		}}
	}
	if primary.contains(own.Timeline, own.End, own.End) {
		return rejoin{fork: own.End}
	}
	fork, known := forkOf(own, ownHistory, primary)
	if !known {
		return rejoin{problem: &driver.Problem{
			Name: "timeline-differs",
			What: fmt.Sprintf("this server is on timeline %d and the primary on %d, and they have no timeline in common", own.Timeline, primary.timeline),
			Do:   "move the data directory away and make the standby anew with pg_basebackup",
		}}
	}
	r := rejoin{rewind: true, fork: fork, lost: fork.Behind(own.End)}
	// A standby that left the primary's timeline without a checkpoint since:
	// pg_rewind before PostgreSQL 16 takes it for one on the old timeline.
	unseen := !own.primary() && own.checkpointTimeline != own.Timeline
	r.trim = unseen && own.minimum <= fork
	switch {
	case unseen && !r.trim:
		r.problem = &driver.Problem{
			Name: "timeline-differs",
			What: fmt.Sprintf("it applied the log of timeline %d up to %s, which the primary left at %s, and took no checkpoint there: pg_rewind would overlook it", own.Timeline, own.minimum, fork),
			Do:   "move the data directory away and make the standby anew with pg_basebackup",
		}
	case !r.trim && !own.Rewindable:
		r.problem = &driver.Problem{
			Name: "rewind-impossible",
			What: fmt.Sprintf("its log goes on to %s, %s after the primary left it at %s, and neither wal_log_hints nor checksums were on", own.End, signalbox.Size(r.lost), fork),
			Do:   "move the data directory away (it holds what was lost) and make the standby anew with pg_basebackup",
		}
	}
	return r
}

// forkOf is the last place that both logs contain.
func forkOf(own standing, ownHistory, primary history) (LSN, bool) {
	ends := append([]branch{{own.Timeline, own.End}}, reversed(ownHistory.left)...)
	for _, b := range ends {
		if at, known := primary.until(b.timeline); known {
			return min(at, b.at), true
		}
	}
	return 0, false
}

func reversed(in []branch) []branch {
	out := make([]branch, 0, len(in))
	for i := len(in) - 1; i >= 0; i-- {
		out = append(out, in[i])
	}
	return out
}
