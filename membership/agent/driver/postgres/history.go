package postgres

import (
	"bufio"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/signalbox-io/signalbox"
)

// maxHistory bounds the timelines of one history file.
const maxHistory = 10_000

// history is how a timeline came to be: which earlier timeline it left, and
// where. It is the content of NNNNNNNN.history; timeline 1 has none.
type history struct {
	timeline uint32
	left     []branch // oldest first
}

// branch says that the log of timeline counts up to at.
type branch struct {
	timeline uint32
	at       LSN
}

// logFile is the name of a segment or of a history in pg_wal.
var logFile = regexp.MustCompile(`^([0-9A-F]{8})(?:[0-9A-F]{16}(?:\.partial)?|\.history)$`)

// timelineOf is the timeline of a file in pg_wal; ok is false for other files.
func timelineOf(name string) (timeline uint32, ok bool) {
	m := logFile.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[1], 16, 32)
	return uint32(n), err == nil
}

// parseHistory reads a history file: lines of "timeline <tab> LSN <tab> reason".
func parseHistory(timeline uint32, content string) (history, error) {
	h := history{timeline: timeline}
	lines := bufio.NewScanner(strings.NewReader(content))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 || len(h.left) == maxHistory {
			return history{}, fmt.Errorf("%w: history of timeline %d: line %.80q", signalbox.ErrInvalid, timeline, line)
		}
		t, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return history{}, fmt.Errorf("%w: history of timeline %d: line %.80q: %w", signalbox.ErrInvalid, timeline, line, err)
		}
		at, err := parseLSN(fields[1])
		if err != nil {
			return history{}, fmt.Errorf("history of timeline %d: %w", timeline, err)
		}
		h.left = append(h.left, branch{timeline: uint32(t), at: at})
	}
	return h, lines.Err()
}

// until is how far the log of a timeline belongs to h; known is false when h
// never was on it.
func (h history) until(timeline uint32) (at LSN, known bool) {
	if timeline == h.timeline {
		return ^LSN(0), true
	}
	for _, b := range h.left {
		if b.timeline == timeline {
			return b.at, true
		}
	}
	return 0, false
}

// contains reports whether a server on h whose log reaches to end has everything
// up to lsn of timeline.
func (h history) contains(timeline uint32, lsn, end LSN) bool {
	at, known := h.until(timeline)
	return known && lsn <= at && lsn <= end
}
