package inserts

import (
	"context"
	"errors"
	"testing"
	"time"
)

// empty is a server without a row.
type empty struct{}

func (empty) Open(context.Context) (Session, error)      { return nil, errors.New("closed") }
func (empty) Rows(context.Context) (map[Row]bool, error) { return map[Row]bool{}, nil }

// Rule: a row that the server acknowledged before it was killed, and that its client looked at only later, is none that
// it took afterwards; one that was begun afterwards is.
func TestLateLookIsNoLateRow(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	killed, end := at(5), at(1000)
	l := &Load{acked: []ack{{Row{1, 0}, at(0), at(1)}, {Row{1, 1}, at(2), at(900)}}}
	_, last := l.Span(start, end)
	if n := l.Between(killed, end).Acknowledged; n != 0 || l.since(killed) != 0 || !last.Equal(at(2)) {
		t.Errorf("%d rows after the kill, %d since, the last at %s", n, l.since(killed), last.Sub(start))
	}
	if lost, err := l.Missing(t.Context(), empty{}, killed); len(lost) != 2 || err != nil {
		t.Errorf("%d rows from before the kill, %v", len(lost), err)
	}
	l.acked = append(l.acked, ack{Row{1, 2}, at(901), at(902)})
	first, last := l.Span(killed, end)
	if n := l.Between(killed, end).Acknowledged; n != 1 || l.since(killed) != 1 || !first.Equal(at(902)) || !last.Equal(at(901)) {
		t.Errorf("%d rows after the kill, %d since, from %s to %s", n, l.since(killed), first.Sub(start), last.Sub(start))
	}
	if lost, err := l.Missing(t.Context(), empty{}, killed); len(lost) != 2 || err != nil {
		t.Errorf("%d rows from before the kill, %v", len(lost), err)
	}
}
