package api

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
)

// TooMuch reports whether its driver would not promote with that loss.
func (e *ExpectedLoss) TooMuch() bool {
	return e.Limit != nil && (!e.Known || e.Bytes > *e.Limit)
}

// Words say it to a person.
func (e *ExpectedLoss) Words() string {
	words := fmt.Sprintf("%s lacks %s of what the old master had when it was last seen, %s ago; what was acknowledged since is not counted",
		e.Instance, signalbox.Size(e.Bytes), (time.Duration(e.AgeMS) * time.Millisecond).Round(time.Second/10))
	if !e.Known {
		words = fmt.Sprintf("nobody knows how much %s lacks: its agent has not seen the old master", e.Instance)
	}
	if e.Limit != nil {
		words += fmt.Sprintf("; at most %s may be lost", signalbox.Size(*e.Limit))
	}
	return words
}

// Words say it to a person.
func (l *Lost) Words() string {
	words := fmt.Sprintf("%s came back with %s that the new master has not", l.Instance, signalbox.Size(l.Bytes))
	switch {
	case !l.Known:
		words = fmt.Sprintf("%s came back, and nobody can tell what it had that the new master has not", l.Instance)
	case l.Bytes == 0:
		return fmt.Sprintf("%s came back with nothing that the new master has not", l.Instance)
	case l.Writes > 0:
		words += fmt.Sprintf(", %d transactions", l.Writes)
	}
	if l.Kept != "" {
		words += "; kept in " + l.Kept
	}
	return words
}
