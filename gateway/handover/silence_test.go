package handover_test

import (
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/gateway/handover"
)

// TestSilenceWatch: a quorum of voters, silent for long enough, now, about the
// master's data center, once; and none of it too early.
func TestSilenceWatch(t *testing.T) {
	const after = 10 * time.Second
	now := epoch.Add(time.Hour)
	say := func(w *handover.SilenceWatch, voter string, d time.Duration, at time.Time) {
		w.Report(handover.Silence{Voter: voter, DataCenter: east, For: d}, at)
	}
	fresh := func() *handover.SilenceWatch {
		w := handover.NewSilenceWatch([]string{"east-1", "west-1", "north-1"}, 2, after)
		say(w, "west-1", after, now)
		say(w, "north-1", after+time.Minute, now)
		return w
	}
	why, due := fresh().Due(east, epoch, now, 0)
	if !due || !strings.Contains(why, "2 of 3 voters have heard of no agent in east for 10s") {
		t.Fatalf("a quorum hears nobody: %v, %q", due, why)
	}
	for name, f := range map[string]func(*handover.SilenceWatch) bool{
		"another data center": func(w *handover.SilenceWatch) bool { _, due := w.Due(west, epoch, now, 0); return due },
		"a new master":        func(w *handover.SilenceWatch) bool { _, due := w.Due(east, now.Add(-after/2), now, 0); return due },
		"another's turn":      func(w *handover.SilenceWatch) bool { _, due := w.Due(east, now.Add(-after), now, 1); return due },
		"an old report": func(w *handover.SilenceWatch) bool {
			_, due := w.Due(east, epoch, now.Add(4*time.Second), 0)
			return due
		},
		"somebody is heard": func(w *handover.SilenceWatch) bool {
			say(w, "north-1", 0, now)
			_, due := w.Due(east, epoch, now, 0)
			return due
		},
		"not long enough": func(w *handover.SilenceWatch) bool {
			say(w, "north-1", after-1, now)
			_, due := w.Due(east, epoch, now, 0)
			return due
		},
		"twice": func(w *handover.SilenceWatch) bool {
			w.Due(east, epoch, now, 0)
			_, due := w.Due(east, epoch, now.Add(time.Second), 0)
			return due
		},
	} {
		if f(fresh()) {
			t.Errorf("%s: due", name)
		}
	}
	lone := handover.NewSilenceWatch([]string{"east-1", "west-1", "north-1"}, 2, after)
	say(lone, "west-1", after, now)
	say(lone, "west-2", after, now) // does not vote
	if _, due := lone.Due(east, epoch, now, 0); due {
		t.Error("one voter and somebody who does not vote: due")
	}
	again := fresh()
	again.Due(east, epoch, now, 0)
	later := now.Add(after)
	say(again, "west-1", 2*after, later)
	say(again, "north-1", 2*after, later)
	if _, due := again.Due(east, epoch, later, 0); !due {
		t.Error("still silent, and not tried again")
	}
}
