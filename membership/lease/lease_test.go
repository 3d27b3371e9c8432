package lease

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
)

func at(d time.Duration) Instant { return Instant{Boot: d, Wall: 1_000_000*time.Second + d} }

func self() Request {
	return Request{Service: "orders", Term: 7, Identity: "a", Admission: 3, Incarnation: 1, TTL: 3 * time.Second}
}

// A deadline is over by the first clock that reaches it, and when the clocks are
// apart.
func TestPassed(t *testing.T) {
	deadline := at(10 * time.Second)
	for name, c := range map[string]struct {
		now  Instant
		want bool
	}{
		"before":                {at(9 * time.Second), false},
		"reached":               {deadline, true},
		"boot-time clock":       {Instant{deadline.Boot, deadline.Wall - time.Millisecond}, true},
		"wall clock":            {Instant{deadline.Boot - time.Millisecond, deadline.Wall}, true},
		"wall clock set back":   {Instant{deadline.Boot - time.Second, deadline.Wall - 2*time.Second}, true},
		"boot-time clock stood": {Instant{deadline.Boot - 2*time.Second, deadline.Wall - time.Second}, true},
		"a little apart":        {Instant{deadline.Boot - time.Second, deadline.Wall - time.Second - Disagreement}, false},
	} {
		if got := deadline.Passed(c.now); got != c.want {
			t.Errorf("%s: passed %t, want %t", name, got, c.want)
		}
	}
}

// A lease is a quorum's, of this term, incarnation and request, and lives from
// when the request was sent.
func TestHolder(t *testing.T) {
	h := NewHolder(Default(), 3, self())
	r := h.Renew(Nonce{1}, at(0))
	h.Granted("v1", r, at(time.Second))
	h.Granted("v2", r, at(time.Second))
	h.Granted("v2", r, at(time.Second))
	if h.Live(at(time.Second)) {
		t.Error("live with two of three grants")
	}
	for name, change := range map[string]func(*Request){
		"service": func(r *Request) { r.Service = "stock" }, "term": func(r *Request) { r.Term++ },
		"identity": func(r *Request) { r.Identity = "b" }, "incarnation": func(r *Request) { r.Incarnation++ },
		"admission": func(r *Request) { r.Admission++ }, "nonce": func(r *Request) { r.Nonce[0]++ },
		"time to live": func(r *Request) { r.TTL++ },
	} {
		other := r
		change(&other)
		if h.Granted("v3", other, at(time.Second)) {
			t.Errorf("a grant of another %s counts", name)
		}
	}
	if !h.Granted("v3", r, at(2*time.Second)) || !h.Live(at(2999*time.Millisecond)) || h.Live(at(3*time.Second)) {
		t.Error("not live for exactly 3 s since the request was sent")
	}
	later := h.Renew(Nonce{2}, at(2*time.Second))
	h.Granted("v1", later, at(2*time.Second))
	h.Granted("v1", r, at(2*time.Second)) // late: takes nothing back
	if deadline, ok := h.Deadline(); !ok || deadline != at(3*time.Second) {
		t.Errorf("deadline %v, %t: want the oldest of the three", deadline, ok)
	}
	h.Granted("v2", later, at(2*time.Second))
	h.Granted("v3", later, at(2*time.Second))
	if deadline, _ := h.Deadline(); deadline != at(5*time.Second) {
		t.Errorf("deadline %v, want 5s", deadline)
	}
	for i := range byte(2 * maxPending) {
		h.Renew(Nonce{10 + i}, at(4*time.Second))
	}
	if len(h.sent) != maxPending {
		t.Errorf("%d requests kept, at most %d", len(h.sent), maxPending)
	}
}

func TestGrantorRefuses(t *testing.T) {
	wait := Default().LapseWait()
	g := NewGrantor(1, Saved{Longest: wait, Promises: map[Of]Promise{{"orders", "b"}: {Below: 8, UpTo: 5}}}, at(0))
	for name, c := range map[string]struct {
		change func(*Request)
		leases signalbox.Leases
		want   string
	}{
		"granted":           {func(*Request) {}, Default(), ""},
		"no leases":         {func(*Request) {}, signalbox.Leases{}, "uses no leases"},
		"other leases":      {func(*Request) {}, signalbox.Leases{TTL: 2 * time.Second, Drift: 1}, "have 2s"},
		"promised":          {func(r *Request) { r.Identity = "b" }, Default(), "no lease below term 8"},
		"the promised term": {func(r *Request) { r.Identity, r.Term = "b", 8 }, Default(), ""},
		"admitted since":    {func(r *Request) { r.Identity, r.Admission = "b", 6 }, Default(), ""},
	} {
		r := self()
		c.change(&r)
		change, err := g.Grant(r, c.leases, at(time.Second))
		if change != nil || (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, signalbox.ErrRefused)) {
			t.Errorf("%s: %v, %v", name, change, err)
		}
	}
	if c := g.Stop(9); c == nil {
		t.Fatal("stopping needs no disk")
	}
	if _, err := g.Grant(self(), Default(), at(time.Second)); err == nil {
		t.Error("granted after it was told to stop")
	}
}

// Promise, disk, wait, share: in this order and for what was granted.
func TestLapse(t *testing.T) {
	g := NewGrantor(1, Saved{}, at(0))
	of, promise := Of{"orders", "a"}, Promise{Below: 8, UpTo: 5}
	change, err := g.Grant(self(), Default(), at(10*time.Second))
	if err != nil || change == nil || change.Longest != Default().LapseWait() {
		t.Fatalf("a longer lease than ever was granted at once: %v, %v", change, err)
	}
	g.Kept(*change)
	if change, err = g.Grant(self(), Default(), at(10*time.Second)); err != nil || change != nil {
		t.Fatal(change, err)
	}
	over := 10*time.Second + Default().LapseWait()
	change, err = g.Promise(of, promise)
	if err != nil || change == nil {
		t.Fatal(change, err)
	}
	if ready, _ := g.Lapsed(of, promise, Default(), at(time.Hour)); ready {
		t.Error("lapsed without a promise on the disk")
	}
	g.Kept(*change)
	if ready, wait := g.Lapsed(of, promise, Default(), at(11*time.Second)); ready || wait != over-11*time.Second {
		t.Errorf("ready %t in %s", ready, wait)
	}
	if ready, wait := g.Lapsed(of, promise, Default(), at(over)); !ready || wait != 0 {
		t.Errorf("not ready when the lease has run out: in %s", wait)
	}
	if c, _ := g.Promise(of, Promise{Below: 7, UpTo: 5}); c != nil {
		t.Error("a promise that is covered is kept again")
	}
	var disk Saved
	disk.Apply(*change)
	again := NewGrantor(1, disk, at(time.Hour))
	if ready, wait := again.Lapsed(of, promise, Default(), at(time.Hour)); ready || wait != Default().LapseWait() {
		t.Errorf("a restarted voter: ready %t in %s", ready, wait)
	}
	if _, err := again.Grant(self(), Default(), at(time.Hour)); err == nil {
		t.Error("a restarted voter forgot its promise")
	}
}

func TestGrantorIsBounded(t *testing.T) {
	g := NewGrantor(1, Saved{Longest: time.Minute}, at(0))
	for i := range MaxHolders {
		g.over[Of{"orders", signalbox.Identity(fmt.Sprint(i))}] = 5 * time.Second
	}
	if _, err := g.Grant(self(), Default(), at(time.Second)); err == nil {
		t.Error("no bound")
	}
	if _, err := g.Grant(self(), Default(), at(5*time.Second)); err != nil || len(g.over) != 1 {
		t.Errorf("what has run out is not forgotten: %v, %d", err, len(g.over))
	}
}
