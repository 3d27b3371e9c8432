package agent

import (
	"time"

	"github.com/signalbox-io/signalbox"
)

// stopPhase is how far an orderly stop is.
type stopPhase int

const (
	stopNone    stopPhase = iota
	stopLeaving           // known blocks are answered, the proxies are told, requests still served
	stopClosing           // stepping down, signing the leave
	stopDone
)

// hopeless is how many times a driver may fail before a stop goes on without it.
const hopeless = 5

type stop struct {
	phase stopPhase
	exit  bool // the agent stops, not the instance alone
	quiet bool
	left  bool
	began time.Time
	quiz  quiz
}

func (c *core) onStopping(now time.Time) {
	if c.stop.phase == stopNone {
		c.beginStop()
	}
	c.stop.exit = true
	if c.stop.began.IsZero() {
		c.stop.began = now
	}
	if c.stop.phase == stopDone {
		c.emit(exit{left: c.stop.left})
	}
}

func (c *core) beginStop() {
	c.stop = stop{phase: stopLeaving, quiz: c.newQuiz()}
	c.emit(note{what: "leaving"})
	if c.gate.open && !c.unmanaged() {
		c.emit(awaitQuiet{idle: leaveIdle, most: leaveMost})
	} else {
		c.stop.quiet = true
	}
}

// onLeaving takes the instance's own wish to stop, and its being back.
func (c *core) onLeaving(leaving bool) {
	switch {
	case leaving && c.stop.phase == stopNone:
		c.beginStop()
	case !leaving && c.stop.phase == stopDone && !c.stop.exit:
		c.stop = stop{}
		c.restarted()
	}
}

func (c *core) onQuieted() {
	if c.stop.phase == stopLeaving {
		c.stop.quiet = true
	}
}

// asksToLeave reports whether a leave needs a quorum that has not answered yet.
func (c *core) asksToLeave() bool {
	return (c.stop.phase == stopLeaving || c.stop.phase == stopClosing) &&
		c.Admission > c.Left && !c.quorate(&c.stop.quiz)
}

// proceedStop takes the orderly stop one step on. A known open block is answered
// first (rule 4); the leave is signed when closed and drained, and only with a
// quorum in reach: without one the instance could not come back.
func (c *core) proceedStop(now time.Time) {
	if c.stop.phase == stopNone || c.stop.phase == stopDone {
		return
	}
	if c.stop.began.IsZero() {
		c.stop.began = now
	}
	if c.unmanaged() {
		c.finishStop(false, "the instance is not managed yet: it goes on serving")
		return
	}
	if len(c.open) > 0 {
		return
	}
	if c.stop.phase == stopLeaving {
		if !c.stop.quiet {
			return
		}
		c.stop.phase = stopClosing
	}
	switch {
	case !c.gate.drained && c.gate.failures >= hopeless && now.Sub(c.stop.began) > leaveMost:
		c.finishStop(false, "the instance does not step down: nothing is signed")
	case !c.gate.drained:
	case c.Admission <= c.Left:
		c.finishStop(c.Left != 0, "stopped")
	case c.quorate(&c.stop.quiz):
		c.signLeave()
	case now.Sub(c.stop.began) >= leaveQuorum:
		c.finishStop(false, "no quorum of voters answered: drained without signing a leave")
	}
}

func (c *core) signLeave() {
	e, ok := c.statement(signalbox.SaysLeave, c.HighestTerm, c.HighestBlock, c.Admission)
	if !ok {
		c.finishStop(false, "the leave could not be signed")
		return
	}
	c.keep(record{Left: c.Admission, Leave: e.Envelope}, true)
	c.emit(say{evidence: e})
	c.finishStop(true, "left")
}

func (c *core) finishStop(left bool, why string) {
	c.stop.phase, c.stop.left = stopDone, left
	c.emit(note{what: why})
	c.tellChange()
	if c.stop.exit {
		c.emit(exit{left: left})
	}
}
