package coordinator

import (
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
)

const (
	// waitQuietly is how long a handover may wait for somebody before it says
	// so; most never do.
	waitQuietly = 50 * time.Millisecond
	// waitAgain is the least time between two lines that differ in numbers only.
	waitAgain = 250 * time.Millisecond
)

// awaited is what was said last of whom a record's handover waits for.
type awaited struct {
	since time.Time // of the phase
	phase string
	words string
	at    time.Time
}

// sayWaiting publishes whom the service's open handovers wait for, once the wait
// is worth a line, and again when it changed.
func (c *Coordinator) sayWaiting(s *service) {
	now := c.opt.Now()
	for _, st := range s.machine.Status(now) {
		r := s.records[st.Block.Digest]
		if r == nil || r.drainAt.IsZero() { // nobody was asked for anything yet
			continue
		}
		if phase := string(r.phase); r.waiting.phase != phase {
			r.waiting = awaited{since: now, phase: phase}
		}
		words := strings.Join(c.waiting(s, st), "; ")
		w := &r.waiting
		if words == "" || words == w.words || now.Sub(w.since) < waitQuietly || now.Sub(w.at) < waitAgain {
			continue
		}
		w.words, w.at = words, now
		line := newEvent(now, api.EventWaiting, string(s.conf.Name), "", "waiting for "+words)
		line.Handover, line.Phase, line.Gateway = r.view.ID, string(r.phase), c.opt.Gateway
		line.DataCenter, line.Term = string(c.opt.DataCenter), r.view.Term
		r.line(line)
		c.opt.Events.Publish(line)
	}
}
