package register

import (
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/tests/oracle"
)

// Rule: what one master after the other answers is one register; what two answer at once, or an old one after a new one, is not.
func TestOne(t *testing.T) {
	for name, c := range map[string]struct {
		readings []Reading
		want     bool
	}{
		"nothing":                       {nil, true},
		"a switchover":                  {[]Reading{{0, 10, "east", 7}, {11, 20, "west", 8}, {21, 30, "west", 8}}, true},
		"answers on their way":          {[]Reading{{0, 40, "east", 7}, {5, 20, "west", 8}, {21, 30, "west", 8}}, true},
		"a fallback, one by one":        {[]Reading{{0, 10, "east", 9}, {11, 20, "east", 7}, {21, 30, "east", 9}}, true},
		"back and forth":                {[]Reading{{0, 10, "east", 7}, {11, 20, "west", 8}, {21, 30, "east", 10}}, true},
		"two masters":                   {[]Reading{{0, 10, "east", 7}, {11, 20, "west", 8}, {21, 30, "east", 7}}, false},
		"two masters, answers overlap":  {[]Reading{{0, 10, "east", 7}, {5, 20, "west", 8}, {15, 30, "east", 7}, {31, 32, "east", 7}}, false},
		"one term of two data centers":  {[]Reading{{0, 10, "east", 7}, {11, 20, "west", 7}}, false},
		"the old one at a term of late": {[]Reading{{0, 10, "east", 7}, {11, 20, "west", 9}, {21, 30, "east", 8}}, false},
	} {
		if one, known := One(c.readings, time.Minute); !known || one != c.want {
			t.Errorf("%s: %v, %v", name, one, known)
		}
	}
}

// Rule: a recorded history is read as tests/oracle means it, however long: failed requests say nothing.
func TestRecorded(t *testing.T) {
	var h oracle.History
	h.Certified = []oracle.Certified{{Service: "orders", Term: 7, DataCenter: "east"}, {Service: "orders", Term: 8, DataCenter: "west"}}
	for i := range int64(3 * longest) {
		term := uint64(7)
		if i > longest {
			term = 8
		}
		h.Requests = append(h.Requests, oracle.Request{Status: 200, Begin: 10 * i, End: 10*i + 15, Term: term})
	}
	h.Requests = append(h.Requests, oracle.Request{Status: 503, Begin: 25 * longest, End: 25*longest + 1, Term: 7},
		oracle.Request{Error: "cut off", Begin: 25 * longest, End: 25*longest + 1, Term: 7})
	if one, known := Recorded(h, time.Minute); !one || !known {
		t.Fatal("a history without a fault is refused", known)
	}
	h.Requests = append(h.Requests, oracle.Request{Status: 200, Begin: 25 * longest, End: 25*longest + 1, Term: 7})
	if one, _ := Recorded(h, time.Minute); one {
		t.Error("an old master answered, and nobody noticed")
	}
}
