package postgres

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/signalbox-io/signalbox"
)

// standing is where the data of a stopped server is.
type standing struct {
	System uint64
	// State is pg_control's: "shut down", "in production" after a crash, ...
	State    string
	Timeline uint32
	// End is where its log ends; what replays it gets that far.
	End LSN
	// Rewindable is true when pg_rewind can work on it.
	Rewindable bool

	sizes              logSizes
	checkpointTimeline uint32
	redo               LSN
	minimum            LSN // what a standby has applied at least
	minimumTimeline    uint32
}

// primary reports whether it was stopped, or crashed, as a primary.
func (s standing) primary() bool {
	return s.State != "in archive recovery" && s.State != "shut down in recovery"
}

// position is what it says when it steps down.
func (s standing) position() Position {
	return Position{System: s.System, Timeline: s.Timeline, LSN: s.End}
}

// clean reports whether the server was stopped with a shutdown checkpoint.
func (s standing) clean() bool { return s.State == "shut down" }

// parseControl reads what pg_controldata prints in the C locale.
func parseControl(out string) (standing, error) {
	field := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			field[name] = strings.TrimSpace(value)
		}
	}
	var s standing
	var errs [7]error
	number := func(name string, bits int) (uint64, error) { return strconv.ParseUint(field[name], 10, bits) }
	var t, m uint64
	s.System, errs[0] = number("Database system identifier", 64)
	t, errs[1] = number("Latest checkpoint's TimeLineID", 32)
	s.redo, errs[2] = parseLSN(field["Latest checkpoint's REDO location"])
	s.minimum, errs[3] = parseLSN(field["Minimum recovery ending location"])
	m, errs[4] = number("Min recovery ending loc's timeline", 32)
	s.sizes.page, errs[5] = number("WAL block size", 32)
	s.sizes.segment, errs[6] = number("Bytes per WAL segment", 32)
	for _, err := range errs {
		if err != nil {
			return standing{}, fmt.Errorf("%w: pg_controldata printed something else than expected: %w", signalbox.ErrInvalid, err)
		}
	}
	if s.sizes.page == 0 || s.sizes.segment == 0 {
		return standing{}, fmt.Errorf("%w: pg_controldata printed a size of 0", signalbox.ErrInvalid)
	}
	s.checkpointTimeline, s.minimumTimeline = uint32(t), uint32(m)
	s.State = field["Database cluster state"]
	s.Rewindable = field["wal_log_hints setting"] == "on" || field["Data page checksum version"] != "0"
	return s, nil
}

// logSizes are the sizes that the log was written with, in bytes.
type logSizes struct{ page, segment uint64 }

// after is where a record ends that begins at lsn and has length bytes: pages
// begin with a header, which counts when the record goes on there.
func (z logSizes) after(lsn LSN, length uint64, switched bool) LSN {
	at := uint64(lsn)
	for {
		next := (at/z.page + 1) * z.page
		if room := next - at; length > room {
			length -= room
			at = next + shortHeader
			if next%z.segment == 0 {
				at = next + longHeader
			}
			continue
		}
		at += length
		break
	}
	at = (at + 7) &^ 7
	if switched { // the rest of the segment is void
		at = (at + z.segment - 1) / z.segment * z.segment
	}
	return LSN(at)
}

// The headers of a log page and of a segment's first page (XLogPageHeaderData,
// XLogLongPageHeaderData on 64-bit machines).
const (
	shortHeader = 24
	longHeader  = 40
)

// record is a line of pg_waldump.
var record = regexp.MustCompile(`len \(rec/tot\): *\d+/ *(\d+), tx: *\d+, lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: (\w*)`)

// parseRecord says where the record of one line of pg_waldump ends.
func (z logSizes) parseRecord(line string) (LSN, error) {
	m := record.FindStringSubmatch(line)
	if m == nil {
		return 0, fmt.Errorf("%w: pg_waldump printed %.200q", signalbox.ErrInvalid, line)
	}
	length, err := strconv.ParseUint(m[1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: pg_waldump printed %.200q: %w", signalbox.ErrInvalid, line, err)
	}
	lsn, err := parseLSN(m[2])
	if err != nil {
		return 0, err
	}
	return z.after(lsn, length, m[3] == "SWITCH"), nil
}

// inspect reads the data directory of a server that does not run.
func (t tools) inspect(ctx context.Context) (standing, error) {
	out, err := t.run(ctx, "pg_controldata", "-D", t.data)
	if err != nil {
		return standing{}, err
	}
	s, err := parseControl(out)
	if err != nil {
		return standing{}, err
	}
	s.Timeline, s.End = s.checkpointTimeline, s.redo
	for range maxHistory {
		end, err := t.end(ctx, s, s.Timeline, s.End)
		if err != nil {
			return standing{}, err
		}
		s.End = end
		next, at := t.successor(s.Timeline, end)
		if next == 0 {
			break
		}
		s.Timeline, s.End = next, at
	}
	if s.minimum > s.End || s.minimumTimeline > s.Timeline {
		s.Timeline, s.End = s.minimumTimeline, s.minimum
	}
	return s, nil
}

// end is where the log of a timeline ends: behind the last record that is whole.
func (t tools) end(ctx context.Context, s standing, timeline uint32, from LSN) (LSN, error) {
	last := ""
	err := t.lines(ctx, func(line string) {
		if strings.HasPrefix(line, "rmgr:") {
			last = line
		}
	}, "pg_waldump", "-p", t.wal(), "-t", strconv.FormatUint(uint64(timeline), 10), "-s", from.String())
	switch {
	case err == nil: // it ends with an error where the log does
		return 0, fmt.Errorf("%w: pg_waldump found no end of timeline %d", signalbox.ErrInvalid, timeline)
	case ctx.Err() != nil:
		return 0, fmt.Errorf("look for the end of the log: %w", ctx.Err())
	case last == "":
		return from, nil
	}
	return s.sizes.parseRecord(last)
}

// successor is the timeline that this server went on with when it left the given
// one, and where; 0 when it did not.
func (t tools) successor(timeline uint32, end LSN) (uint32, LSN) {
	var next uint32
	var at LSN
	for _, h := range t.histories() {
		if len(h.left) == 0 {
			continue
		}
		last := h.left[len(h.left)-1]
		if last.timeline == timeline && last.at <= end && h.timeline > next && t.hasLog(h.timeline) {
			next, at = h.timeline, last.at
		}
	}
	return next, at
}

// histories are those in pg_wal; what cannot be read is left out.
func (t tools) histories() []history {
	names, _ := filepath.Glob(filepath.Join(t.wal(), "*.history"))
	var out []history
	for _, name := range names {
		timeline, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".history"), 16, 32)
		content, errRead := os.ReadFile(name)
		if err != nil || errRead != nil {
			continue
		}
		if h, err := parseHistory(uint32(timeline), string(content)); err == nil {
			out = append(out, h)
		}
	}
	return out
}

// history is how a timeline of this server came to be.
func (t tools) history(timeline uint32) history {
	for _, h := range t.histories() {
		if h.timeline == timeline {
			return h
		}
	}
	return history{timeline: timeline}
}

// hasLog reports whether pg_wal holds a segment of the timeline.
func (t tools) hasLog(timeline uint32) bool {
	names, _ := filepath.Glob(filepath.Join(t.wal(), fmt.Sprintf("%08X%s", timeline, strings.Repeat("[0-9A-F]", 16))))
	return len(names) > 0
}

// commits counts the transactions that were committed in a part of the log.
func (t tools) commits(ctx context.Context, timeline uint32, from LSN) int {
	n := 0
	_ = t.lines(ctx, func(line string) { // it ends with an error where the log does
		if strings.Contains(line, "desc: COMMIT") {
			n++
		}
	}, "pg_waldump", "-r", "Transaction", "-p", t.wal(), "-t", strconv.FormatUint(uint64(timeline), 10), "-s", from.String())
	return n
}
