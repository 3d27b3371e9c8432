package redis

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Position is how far a server's data reached: a replication history, and the
// offset in it.
type Position struct {
	Replication string // id of the history, 40 hexadecimal digits
	Offset      int64
}

// idSize is the length of a replication id.
const idSize = 40

// Bytes is the position as it is signed: "id:offset".
func (p Position) Bytes() driver.Position {
	return driver.Position(p.Replication + ":" + strconv.FormatInt(p.Offset, 10))
}

// ParsePosition reads what Bytes wrote.
func ParsePosition(raw driver.Position) (Position, error) {
	id, text, ok := strings.Cut(string(raw), ":")
	offset, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || offset < 0 || len(id) != idSize || strings.Trim(id, "0123456789abcdef") != "" {
		return Position{}, fmt.Errorf("%w: position %.80q: want a replication id and an offset", signalbox.ErrInvalid, raw)
	}
	return Position{Replication: id, Offset: offset}, nil
}

// position is how far a server's data reaches.
func (s *server) position() Position { return Position{Replication: s.ReplID, Offset: s.Offset} }

// reached returns nil when a server's data contains everything up to a position.
// Its history is its own id since SecondOffset, and before that its second one.
func (s *server) reached(want Position) error {
	switch {
	case s.Syncing || s.Loading:
		return fmt.Errorf("syncing: the data is being loaded; wanted %s", want.Bytes())
	case s.ReplID == want.Replication && s.Offset >= want.Offset:
		return nil
	case s.ReplID == want.Replication:
		return &behindError{missing: want.Offset - s.Offset, want: want}
	case s.ReplID2 == want.Replication && s.SecondOffset > want.Offset:
		return nil
	case s.ReplID2 == want.Replication:
		return fmt.Errorf("history-differs: this server left the old master's history at offset %d, %d bytes before its end", s.SecondOffset-1, want.Offset-s.SecondOffset+1)
	}
	return fmt.Errorf("history-differs: this server's data is of replication %.8s, the old master's of %.8s: it never was its replica, or has been started again since", s.ReplID, want.Replication)
}

// behindError is returned when a server has the right history and not all of it.
type behindError struct {
	missing int64
	want    Position
}

// Error says what is missing.
func (e *behindError) Error() string {
	return fmt.Sprintf("behind: %s of what the old master acknowledged have not arrived (up to %s)", signalbox.Size(uint64(e.missing)), e.want.Bytes())
}
