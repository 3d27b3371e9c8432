package handover

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
)

// Maxima and defaults of automatic failover.
const (
	// MinSilence is the shortest silence after which a service may be failed over
	// by itself, DefaultSilence the usual one.
	MinSilence     = 2 * time.Second
	DefaultSilence = 10 * time.Second
	// reportLasts is how long a voter's report counts; it is repeated meanwhile.
	reportLasts = 3 * time.Second
)

// A Silence is what one voter sees of a service: for how long nobody has heard of
// any agent of a data center, on its own clock.
type Silence struct {
	Voter      string
	DataCenter signalbox.DataCenter
	// For is 0 when somebody is heard.
	For time.Duration
}

// A SilenceWatch decides when a service is failed over by itself: when a quorum
// of voters has heard of no agent of its master's data center for long enough.
// It is no evidence (rule 6): the failover's block needs that for every roster
// identity, as any other. Not safe for concurrent use.
type SilenceWatch struct {
	voters  []string
	quorum  int
	after   time.Duration
	reports map[string]report
	acted   time.Time
}

type report struct {
	Silence
	at time.Time
}

// NewSilenceWatch returns a watch that has heard no report. after is how long the
// silence has to last.
func NewSilenceWatch(voters []string, quorum int, after time.Duration) *SilenceWatch {
	return &SilenceWatch{voters: voters, quorum: quorum, after: max(after, MinSilence), reports: map[string]report{}}
}

// After is how long the silence has to last.
func (w *SilenceWatch) After() time.Duration { return w.after }

// SetVoters says who votes now; of whoever does not any more nothing counts.
func (w *SilenceWatch) SetVoters(voters []string, quorum int) {
	w.voters, w.quorum = voters, quorum
	for name := range w.reports {
		if !slices.Contains(voters, name) {
			delete(w.reports, name)
		}
	}
}

// Report takes a voter's report in; others' count for nothing.
func (w *SilenceWatch) Report(s Silence, now time.Time) {
	if slices.Contains(w.voters, s.Voter) {
		w.reports[s.Voter] = report{s, now}
	}
}

// Due reports whether the master's data center has been silent to a quorum for
// long enough, and says so. since is when its term began: a master that is new is
// given as long to be heard. turn is how many gateways should act before this one.
// It is due once for each such time.
func (w *SilenceWatch) Due(master signalbox.DataCenter, since, now time.Time, turn int) (why string, due bool) {
	silent := 0
	for _, r := range w.reports {
		if r.DataCenter == master && r.For >= w.after && now.Sub(r.at) < reportLasts {
			silent++
		}
	}
	switch {
	case silent < w.quorum || now.Sub(since) < w.after+time.Duration(turn)*TakeOver:
		return "", false
	case !w.acted.IsZero() && now.Sub(w.acted) < w.after:
		return "", false
	}
	w.acted = now
	return fmt.Sprintf("%d of %d voters have heard of no agent in %s for %v", silent, len(w.voters), master, w.after), true
}
