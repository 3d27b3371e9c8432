package load

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// put appends a finished request; times in milliseconds.
func put(tp *tape, sched, begin, end float64, term uint64, change ...func(*slot)) {
	s, _ := tp.next(func(_ int64, s *slot) { s.sched = int64(sched * 1e6) })
	s.begin, s.end, s.term, s.status = int64(begin*1e6), int64(end*1e6), term, 200
	for _, c := range change {
		c(s)
	}
	s.done.Store(1)
}

func slowly(s *slot)        { s.flags |= isSlow }
func with503(s *slot)       { s.status, s.term = 503, 0 }
func config() Config        { return Default(1000, Target{Name: "a", URL: "http://a"}) }
func msAt(n int) int64      { return int64(n) * 1e6 }
func hold() Hold            { return Hold{ID: "h1", Term: 8, Begin: msAt(10_000), End: msAt(10_020)} }
func over(h ...Hold) Window { return Window{End: msAt(1 << 30), Holds: h} }

// Rule: held, interruption and added latency as the package documents them.
func TestReportOfOneSwitch(t *testing.T) {
	tp := newTape(config())
	for i := range 100 { // the norm: 1 ms
		put(tp, float64(9000+i), float64(9000+i), float64(9001+i), 7)
	}
	put(tp, 9990, 9990, 10_290.5, 7, slowly)    // slow, in flight, old master: not held, not parked
	put(tp, 9999.5, 9999.5, 10_000.5, 7)        // in flight when the hold began
	put(tp, 10_000.5, 10_001, 10_019, 8)        // first parked
	put(tp, 10_002, 10_002, 10_018, 8)          // first answered
	put(tp, 10_003, 10_003, 10_010, 7, with503) // failed
	put(tp, 10_004, 10_004, 10_322, 8, slowly)  // slow and held: 18 ms more than asked for
	put(tp, 10_030, 10_030, 10_031, 8)          // after
	report := tp.report(over(hold()))
	want := Switch{
		ID: "h1", Term: 8, Met: 6, Parked: 3, Held: 4, Failed: 1,
		InterruptionMs: 17, FirstParked: msAt(10_001), FirstAnswered: msAt(10_018),
		NormMs: 1, AddedP50Ms: 6, AddedP99Ms: 17.5,
	}
	if len(report.Switches) != 1 || !reflect.DeepEqual(report.Switches[0], want) {
		t.Errorf("got  %+v\nwant %+v", report.Switches, want)
	}
	if report.Total != 107 || report.Failed != 1 || report.Held != 4 || report.Failures["status 503"] != 1 ||
		report.P50Ms != 1 || report.MaxMs != 18.5 || report.P99Ms != 16 || report.AddedP99Ms != 17.5 {
		t.Errorf("%+v", report)
	}
	window := over(hold())
	window.WithSlow = true
	if report := tp.report(window); report.MaxMs != 318 {
		t.Errorf("with slow ones: %+v", report)
	}
}

// Rule: where nothing was parked there was no interruption, and a master's
// first answer may come after the hold.
func TestReportWithoutParked(t *testing.T) {
	tp := newTape(config())
	put(tp, 9999, 9999, 10_001, 7)
	put(tp, 10_025, 10_025, 10_026, 8)
	put(tp, 10_026, 10_026, 10_027, 8)
	got := tp.report(over(hold())).Switches[0]
	if got.InterruptionMs != 0 || got.Parked != 0 || got.FirstAnswered != msAt(10_026) || got.Met != 1 {
		t.Errorf("%+v", got)
	}
}

// Rule: a window counts what was scheduled in it and is finished.
func TestReportWindow(t *testing.T) {
	tp := newTape(config())
	for i := range 3 * chunkSize {
		put(tp, float64(i), float64(i), float64(i+1), 7)
	}
	tp.next(func(_ int64, s *slot) { s.sched = msAt(3 * chunkSize) }) // in flight
	if r := tp.report(Window{Begin: msAt(100), End: msAt(2*chunkSize + 99)}); r.Total != 2*chunkSize {
		t.Errorf("%+v", r)
	}
	if r := tp.report(Window{End: msAt(1 << 30)}); r.Total != 3*chunkSize {
		t.Errorf("in flight counted: %+v", r)
	}
	if r := tp.record(3 * chunkSize); !r.Failed() || r.Error != "still in flight" {
		t.Errorf("%+v", r)
	}
}

// Rule: what a server sends cannot make memory grow.
func TestNamesAreBounded(t *testing.T) {
	tp := newTape(config())
	for i := range 10 * maxNames {
		tp.names.number(fmt.Sprint("instance-", i))
	}
	if len(tp.names.list) > maxNames || tp.names.name(tp.names.number("one more")) != "(other)" {
		t.Errorf("%d names", len(tp.names.list))
	}
	if tp.names.name(tp.names.number("instance-3")) != "instance-3" {
		t.Error("an early name was lost")
	}
}

// Rule: quantiles are by nearest rank.
func TestQuantile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		q    float64
		want int64
	}{{0, 1}, {0.5, 50}, {0.99, 99}, {1, 100}} {
		if got := quantile(hundred, c.q); got != c.want {
			t.Errorf("quantile %v = %d, want %d", c.q, got, c.want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("no requests have no latency")
	}
}

// Rule: pausing ends with its time, not before.
func TestPause(t *testing.T) {
	at := Now() + int64(3*time.Millisecond)
	if pause(t.Context(), at); Now() < at {
		t.Error("woke up early")
	}
}
