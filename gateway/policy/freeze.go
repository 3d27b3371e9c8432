package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
)

// A WeekTime is a moment of every week, on the clock of a zone: minutes since
// midnight of a day, 0 to 1440.
type WeekTime struct {
	Day    time.Weekday
	Minute int
}

// A Span is a part of every week, from a moment until the next time that another
// comes. Equal moments are a whole week.
type Span struct{ From, Until WeekTime }

// A Freeze is a time in which no planned handover begins: spans of every week in
// a zone, or one stretch from Begin to End.
type Freeze struct {
	// Name says to people what it is for.
	Name       string
	Zone       *time.Location
	Spans      []Span
	Begin, End time.Time
}

// maxWeeks bounds how far ahead an end is looked for: spans that cover the whole
// week never end.
const maxWeeks = 2

// Active reports whether the freeze holds at a time, and until when: the zero
// time when it does not end within two weeks.
//
// Where clocks change, a freeze holds rather longer: from the first of two equal
// wall clock times until the last, and around a time that does not exist.
func (f *Freeze) Active(at time.Time) (until time.Time, active bool) {
	if !f.Begin.IsZero() {
		return f.End, !at.Before(f.Begin) && at.Before(f.End)
	}
	for end := at; end.Sub(at) < maxWeeks*7*24*time.Hour; {
		next := f.end(end)
		if next.IsZero() {
			return end, active
		}
		end, active = next, true
	}
	return time.Time{}, true
}

// end returns the latest end of the spans that hold at a time, zero when none.
func (f *Freeze) end(at time.Time) (latest time.Time) {
	for _, s := range f.Spans {
		for week := -1; week <= 1; week++ {
			from, until := f.occurrence(s, at, week)
			if !at.Before(from) && at.Before(until) && until.After(latest) {
				latest = until
			}
		}
	}
	return latest
}

// Next returns when the freeze begins next after a time; the zero time when it
// does not.
func (f *Freeze) Next(at time.Time) (next time.Time) {
	if f.Begin.After(at) {
		return f.Begin
	}
	for _, s := range f.Spans {
		for week := -1; week <= 2; week++ {
			if from, _ := f.occurrence(s, at, week); from.After(at) && (next.IsZero() || from.Before(next)) {
				next = from
			}
		}
	}
	return next
}

// occurrence returns the span of the week of a time, or of one some weeks later.
func (f *Freeze) occurrence(s Span, at time.Time, week int) (from, until time.Time) {
	local := at.In(f.Zone)
	first := int(s.From.Day-local.Weekday()) + 7*week
	days := (int(s.Until.Day-s.From.Day) + 7) % 7
	if days == 0 && s.Until.Minute <= s.From.Minute {
		days = 7
	}
	from, _ = wall(local, first, s.From.Minute, f.Zone)
	_, until = wall(local, first+days, s.Until.Minute, f.Zone)
	return from, until
}

// wall returns the first and the last moment at which the zone's clock shows
// minute on the day that lies so many days after day. A time that a clock change
// skips is taken by the clock before and by the one after.
func wall(day time.Time, after, minute int, zone *time.Location) (first, last time.Time) {
	year, month, date := day.Date()
	shown := time.Date(year, month, date+after, 0, minute, 0, 0, time.UTC)
	var exact, either []time.Time
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := shown.Add(near).In(zone).Zone()
		t := shown.Add(-time.Duration(offset) * time.Second)
		either = append(either, t)
		if l := t.In(zone); l.Hour() == shown.Hour() && l.Minute() == shown.Minute() && l.Day() == shown.Day() {
			exact = append(exact, t)
		}
	}
	if len(exact) == 0 {
		exact = either
	}
	first, last = exact[0], exact[len(exact)-1]
	if last.Before(first) {
		first, last = last, first
	}
	return first, last
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseSpans reads a freeze as people write it: either from and until with a
// weekday each ("fri 16:00", "mon 08:00"), or times of day ("22:00", "06:00"; 24:00
// is the day's end) on days ("mon-fri", "sat"; none means every day), where an end that is not after
// the beginning lies on the next day.
func ParseSpans(days []string, from, until string) ([]Span, error) {
	fromDay, fromMinute, err := parseMoment(from)
	if err != nil {
		return nil, err
	}
	untilDay, untilMinute, err := parseMoment(until)
	if err != nil {
		return nil, err
	}
	switch {
	case (fromDay < 0) != (untilDay < 0):
		return nil, fmt.Errorf("%w: %q to %q: write a weekday in both or in neither", signalbox.ErrInvalid, from, until)
	case fromDay >= 0 && len(days) > 0:
		return nil, fmt.Errorf("%w: days and weekdays in %q: write one of them", signalbox.ErrInvalid, from)
	case fromDay >= 0:
		return []Span{{WeekTime{time.Weekday(fromDay), fromMinute}, WeekTime{time.Weekday(untilDay), untilMinute}}}, nil
	}
	on, err := parseDays(days)
	if err != nil {
		return nil, err
	}
	var out []Span
	for _, day := range on {
		end := day
		if untilMinute <= fromMinute {
			end = (day + 1) % 7
		}
		out = append(out, Span{WeekTime{day, fromMinute}, WeekTime{end, untilMinute}})
	}
	return out, nil
}

// parseMoment reads "fri 16:00" or "16:00"; day is -1 for the latter.
func parseMoment(s string) (day, minute int, err error) {
	bad := fmt.Errorf("%w: %q: write a time as 16:00 or fri 16:00, 00:00 to 24:00", signalbox.ErrInvalid, s)
	day, clock := -1, s
	if name, rest, two := strings.Cut(s, " "); two {
		d, err := parseDay(name)
		if err != nil {
			return 0, 0, err
		}
		day, clock = int(d), rest
	}
	if len(clock) != len("16:00") || clock[2] != ':' {
		return 0, 0, bad
	}
	h, herr := strconv.ParseUint(clock[:2], 10, 8)
	m, merr := strconv.ParseUint(clock[3:], 10, 8)
	if herr != nil || merr != nil || m > 59 || h*60+m > 24*60 {
		return 0, 0, bad
	}
	return day, int(h*60 + m), nil
}

func parseDay(s string) (time.Weekday, error) {
	for i, name := range weekdays {
		if s == name {
			return time.Weekday(i), nil
		}
	}
	return 0, fmt.Errorf("%w: weekday %q: write one of %s", signalbox.ErrInvalid, s, strings.Join(weekdays, ", "))
}

func parseDays(list []string) (out []time.Weekday, err error) {
	if len(list) == 0 {
		list = []string{"sun-sat"}
	}
	seen := map[time.Weekday]bool{}
	for _, item := range list {
		first, last, isRange := strings.Cut(item, "-")
		a, err := parseDay(first)
		if err != nil {
			return nil, err
		}
		b := a
		if isRange {
			if b, err = parseDay(last); err != nil {
				return nil, err
			}
		}
		for d := a; ; d = (d + 1) % 7 {
			if !seen[d] {
				out = append(out, d)
			}
			seen[d] = true
			if d == b {
				break
			}
		}
	}
	return out, nil
}
