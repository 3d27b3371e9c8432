package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/signalbox-io/signalbox"
)

// LSN is a place in the write-ahead log, in bytes from its beginning. PostgreSQL
// writes it as two hexadecimal halves: 16/B374D848.
type LSN uint64

// String is PostgreSQL's way of writing it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// parseLSN reads PostgreSQL's way of writing.
func parseLSN(s string) (LSN, error) {
	high, low, found := strings.Cut(s, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !found || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%w: log position %q: want something like 16/B374D848", signalbox.ErrInvalid, s)
	}
	return LSN(h<<32 | l), nil
}

// Behind is how many bytes l lacks to reach other, 0 when it is there.
func (l LSN) Behind(other LSN) uint64 {
	if l >= other {
		return 0
	}
	return uint64(other - l)
}

// Position is what a stopped primary's data had reached: the end of its log, on
// which timeline, of which database cluster. A standby that has replayed to it
// has everything that was ever acknowledged.
type Position struct {
	System   uint64 // pg_control's system identifier
	Timeline uint32
	LSN      LSN
}

// positionFormat names the writing of a position, so that another can follow.
const positionFormat = "pg1"

// Bytes is what the agent signs: "pg1 7512…  3 0/3000148", at most 64 bytes.
func (p Position) Bytes() signalbox.Position {
	return signalbox.Position(fmt.Sprintf("%s %d %d %s", positionFormat, p.System, p.Timeline, p.LSN))
}

// ParsePosition reads what Bytes wrote. The bytes come from another machine.
func ParsePosition(b signalbox.Position) (Position, error) {
	fields := strings.Split(string(b), " ")
	if len(b) > signalbox.MaxPosition || len(fields) != 4 || fields[0] != positionFormat {
		return Position{}, fmt.Errorf("%w: position %.64q is not one of PostgreSQL: is the old master driven by another driver?", signalbox.ErrInvalid, []byte(b))
	}
	system, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("%w: position %.64q: system identifier: %w", signalbox.ErrInvalid, []byte(b), err)
	}
	timeline, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		return Position{}, fmt.Errorf("%w: position %.64q: timeline: %w", signalbox.ErrInvalid, []byte(b), err)
	}
	lsn, err := parseLSN(fields[3])
	if err != nil {
		return Position{}, err
	}
	return Position{System: system, Timeline: uint32(timeline), LSN: lsn}, nil
}
