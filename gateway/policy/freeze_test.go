package policy_test

import (
	"errors"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func weekly(t testing.TB, in string, days []string, from, until string) policy.Freeze {
	t.Helper()
	spans, err := policy.ParseSpans(days, from, until)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Freeze{Name: "test", Zone: zone(t, in), Spans: spans}
}

// TestFreeze guards the edges of freeze windows: the beginning is in, the end is
// out, nights and weekends go over midnight and over the week's end, and clock
// changes make a freeze longer, never shorter.
func TestFreeze(t *testing.T) {
	weekend := weekly(t, "Europe/Berlin", nil, "fri 16:00", "mon 08:00")
	office := weekly(t, "America/New_York", []string{"mon-fri"}, "09:00", "17:00")
	night := weekly(t, "UTC", []string{"sat"}, "22:00", "06:00")
	days := weekly(t, "UTC", []string{"sat-sun"}, "00:00", "24:00")
	whole := weekly(t, "Europe/Berlin", nil, "mon 00:00", "mon 00:00")
	gap := weekly(t, "Europe/Berlin", []string{"sun"}, "02:30", "03:30")
	fold := weekly(t, "Europe/Berlin", []string{"sun"}, "02:30", "02:45")
	holidays := policy.Freeze{Name: "holidays", Begin: at(t, "2026-12-20T00:00:00+01:00"), End: at(t, "2027-01-04T00:00:00+01:00")}
	for _, c := range []struct {
		name   string
		freeze policy.Freeze
		at     string
		until  string // empty: not frozen; "never": without an end
	}{
		{"weekend, just before", weekend, "2026-11-20T15:59:59+01:00", ""},
		{"weekend, the beginning", weekend, "2026-11-20T16:00:00+01:00", "2026-11-23T08:00:00+01:00"},
		{"weekend, on Sunday", weekend, "2026-11-22T12:00:00Z", "2026-11-23T08:00:00+01:00"},
		{"weekend, the last second", weekend, "2026-11-23T07:59:59+01:00", "2026-11-23T08:00:00+01:00"},
		{"weekend, the end", weekend, "2026-11-23T08:00:00+01:00", ""},
		{"weekend in which summer time ends", weekend, "2026-10-24T12:00:00+02:00", "2026-10-26T08:00:00+01:00"},
		{"weekend in which summer time begins", weekend, "2026-03-28T12:00:00+01:00", "2026-03-30T08:00:00+02:00"},
		{"office hours are New York's", office, "2026-11-20T13:59:00Z", ""},
		{"office hours, winter", office, "2026-11-20T14:00:00Z", "2026-11-20T22:00:00Z"},
		{"office hours, summer", office, "2026-07-20T13:00:00Z", "2026-07-20T21:00:00Z"},
		{"office hours, Saturday", office, "2026-11-21T15:00:00Z", ""},
		{"night, over midnight", night, "2026-11-22T05:00:00Z", "2026-11-22T06:00:00Z"},
		{"night, the evening before belongs to another day", night, "2026-11-21T05:00:00Z", ""},
		{"two whole days are one", days, "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"},
		{"a whole week never ends", whole, "2026-11-21T00:00:00Z", "never"},
		// On 29 March 2026 there is no 02:30 in Berlin: 01:59:59+01:00 is followed by 03:00:00+02:00.
		{"a beginning that does not exist", gap, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
		{"before it", gap, "2026-03-29T00:29:00Z", ""},
		// On 25 October 2026 02:30 and 02:45 come twice: the freeze is from the first to the last.
		{"before the first of two", fold, "2026-10-25T00:29:59Z", ""},
		{"the first of two", fold, "2026-10-25T00:30:00Z", "2026-10-25T01:45:00Z"},
		{"between the two", fold, "2026-10-25T01:00:00Z", "2026-10-25T01:45:00Z"},
		{"after the last of two", fold, "2026-10-25T01:45:00Z", ""},
		{"holidays, before", holidays, "2026-12-19T22:59:59Z", ""},
		{"holidays", holidays, "2026-12-19T23:00:00Z", "2027-01-03T23:00:00Z"},
		{"holidays, the end", holidays, "2027-01-03T23:00:00Z", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			until, active := c.freeze.Active(at(t, c.at))
			switch {
			case active != (c.until != ""):
				t.Errorf("active %t until %s", active, until)
			case c.until == "never" && !until.IsZero():
				t.Errorf("until %s, want no end", until)
			case active && c.until != "never" && !until.Equal(at(t, c.until)):
				t.Errorf("until %s, want %s", until, c.until)
			}
		})
	}
}

// TestFreezeNext guards what `service rules` says of the next window.
func TestFreezeNext(t *testing.T) {
	weekend := weekly(t, "Europe/Berlin", nil, "fri 16:00", "mon 08:00")
	if next := weekend.Next(at(t, "2026-11-23T08:00:00+01:00")); !next.Equal(at(t, "2026-11-27T16:00:00+01:00")) {
		t.Errorf("after a weekend: %s", next)
	}
	if next := weekend.Next(at(t, "2026-11-20T16:00:00+01:00")); !next.Equal(at(t, "2026-11-27T16:00:00+01:00")) {
		t.Errorf("at a beginning: %s", next)
	}
	once := policy.Freeze{Begin: at(t, "2026-12-20T00:00:00Z"), End: at(t, "2026-12-21T00:00:00Z")}
	if next := once.Next(at(t, "2026-12-20T12:00:00Z")); !next.IsZero() {
		t.Errorf("a stretch that began: %s", next)
	}
}

// TestParseSpans guards that a mistake in a window is said, never guessed at.
func TestParseSpans(t *testing.T) {
	for _, c := range []struct {
		days        []string
		from, until string
	}{
		{nil, "fri 16:00", "08:00"},
		{nil, "16:00", "mon 08:00"},
		{[]string{"sat"}, "fri 16:00", "mon 08:00"},
		{nil, "freitag 16:00", "mon 08:00"},
		{[]string{"mon-"}, "09:00", "17:00"},
		{[]string{"Mon"}, "09:00", "17:00"},
		{nil, "9:00", "17:00"},
		{nil, "09:60", "17:00"},
		{nil, "09:00", "24:01"},
		{nil, "+9:00", "17:00"},
		{nil, "", "17:00"},
		{nil, "09:00", ""},
	} {
		if spans, err := policy.ParseSpans(c.days, c.from, c.until); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%v %q to %q: %v, %v", c.days, c.from, c.until, spans, err)
		}
	}
	if spans, err := policy.ParseSpans([]string{"fri-mon", "sun"}, "22:00", "06:00"); err != nil || len(spans) != 4 || spans[1].Until.Day != time.Sunday {
		t.Errorf("fri-mon: %v, %v", spans, err)
	}
}

// FuzzFreeze guards that no window makes the search for its end go wrong: the
// end is ahead, and the moment before it is frozen.
func FuzzFreeze(f *testing.F) {
	f.Add(int64(1790000000), "fri 16:00", "mon 08:00", "Europe/Berlin")
	f.Add(int64(1792886400), "02:30", "02:45", "Europe/Berlin")
	f.Add(int64(1790000000), "00:00", "24:00", "Australia/Lord_Howe")
	f.Fuzz(func(t *testing.T, unix int64, from, until, name string) {
		loc, err := time.LoadLocation(name)
		if err != nil || unix < 0 || unix > 1<<33 {
			return
		}
		spans, err := policy.ParseSpans(nil, from, until)
		if err != nil {
			return
		}
		fr := policy.Freeze{Zone: loc, Spans: spans}
		now := time.Unix(unix, 0)
		end, active := fr.Active(now)
		if !active || end.IsZero() {
			return
		}
		if !end.After(now) {
			t.Errorf("frozen at %s until %s", now, end)
		}
		if _, before := fr.Active(end.Add(-time.Second)); !before {
			t.Errorf("not frozen just before its end %s", end)
		}
		if _, still := fr.Active(end); still {
			t.Errorf("frozen at its end %s", end)
		}
	})
}
