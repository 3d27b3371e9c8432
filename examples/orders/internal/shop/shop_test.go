package shop

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

type line struct {
	ID         string `json:"id"`
	Service    string `json:"service"`
	Instance   string `json:"instance"`
	DataCenter string `json:"data_center"`
	Term       uint64 `json:"term"`
	Begin      int64  `json:"begin_ns"`
	End        int64  `json:"end_ns"`
}

func readLines(t *testing.T, path string) []line {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for text := range strings.Lines(string(data)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, l)
	}
	return lines
}

func open(t *testing.T, path string) *WriteLog {
	t.Helper()
	log, err := OpenWriteLog(path, "orders", "orders-east-1", "east")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() }) // a test may have closed it before
	return log
}

func seven(*http.Request) uint64 { return 7 }

// Rule: a write is in the log, within its request's time, when it is answered.
func TestWriteIsLoggedBeforeItIsAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "writes.jsonl")
	h := New(Options{Instance: "orders-east-1", Log: open(t, path), Term: seven}).Handler()
	before := Now()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/orders?slow=1ms", strings.NewReader(`{"id":"a-1"}`)))
	after := Now()
	if w.Code != 201 || w.Body.String() != `{"id":"a-1","term":7}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if by, term := w.Header().Get("x-served-by"), w.Header().Get("x-served-term"); by != "orders-east-1" || term != "7" {
		t.Errorf("served by %q at %q", by, term)
	}
	lines := readLines(t, path)
	if len(lines) != 1 {
		t.Fatalf("log: %+v", lines)
	}
	got := lines[0]
	if got.Begin < before || got.End < got.Begin+1e6 || got.End > after {
		t.Errorf("interval [%d, %d] of a 1 ms write is not within [%d, %d]", got.Begin, got.End, before, after)
	}
	got.Begin, got.End = 0, 0
	if want := (line{ID: "a-1", Service: "orders", Instance: "orders-east-1", DataCenter: "east", Term: 7}); got != want {
		t.Errorf("logged %+v", got)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/orders/a-1", nil))
	if w.Code != 200 {
		t.Errorf("reading it: %d %s", w.Code, w.Body)
	}
}

// Rule: what cannot be logged, or whose lease ran out, is not answered as
// written.
func TestWriteNotMadeIsNotAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "writes.jsonl")
	log := open(t, path)
	post := func(live bool) int {
		h := New(Options{Log: log, Term: seven, Live: func(*http.Request) bool { return live }}).Handler()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/orders", strings.NewReader(`{"id":"a"}`)))
		return w.Code
	}
	if status := post(false); status != 503 || len(readLines(t, path)) != 0 {
		t.Errorf("without a lease: %d, %d lines", status, len(readLines(t, path)))
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if status := post(true); status != 500 {
		t.Errorf("with a closed log: %d", status)
	}
}

// Rule: bad input is refused, nothing is written.
func TestBadRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "writes.jsonl")
	h := New(Options{Log: open(t, path), Term: seven}).Handler()
	for _, bad := range []struct {
		method, target, body string
		want                 int
	}{
		{"POST", "/orders", `{"id":""}`, 400},
		{"POST", "/orders", `{"id":"a\nb"}`, 400},
		{"POST", "/orders", `{"id":"` + strings.Repeat("a", MaxID+1) + `"}`, 400},
		{"POST", "/orders", `{"id":"` + strings.Repeat("a", MaxBody) + `"}`, 400},
		{"POST", "/orders", `nothing`, 400},
		{"POST", "/orders?slow=1h", `{"id":"a"}`, 400},
		{"POST", "/orders?slow=-1s", `{"id":"a"}`, 400},
		{"GET", "/orders/a", ``, 404},
		{"DELETE", "/orders/a", ``, 405},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(bad.method, bad.target, strings.NewReader(bad.body)))
		if w.Code != bad.want {
			t.Errorf("%s %s %.40s: %d, want %d", bad.method, bad.target, bad.body, w.Code, bad.want)
		}
	}
	if lines := readLines(t, path); len(lines) != 0 {
		t.Errorf("bad requests wrote %+v", lines)
	}
}

// Rule: memory is bounded; the oldest orders are forgotten first.
func TestOrdersAreBounded(t *testing.T) {
	s := New(Options{})
	for i := range MaxOrders + 10 {
		s.remember(Write{ID: strconv.Itoa(i), Term: 7})
	}
	if len(s.orders) != MaxOrders || len(s.ring) != MaxOrders {
		t.Errorf("%d orders, ring of %d", len(s.orders), len(s.ring))
	}
	for i, want := range map[int]bool{0: false, 9: false, 10: true, MaxOrders + 9: true} {
		if _, found := s.orders[strconv.Itoa(i)]; found != want {
			t.Errorf("order %d remembered: %t, want %t", i, found, want)
		}
	}
}

// Rule: a line that a killed process left unfinished does not spoil the next.
func TestUnfinishedLineIsCutOff(t *testing.T) {
	for _, left := range []string{"", `{"id":"x"`, "{\"id\":\"a\"}\n", "{\"id\":\"a\"}\n{\"id\":\"b"} {
		path := filepath.Join(t.TempDir(), "writes.jsonl")
		if err := os.WriteFile(path, []byte(left), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := open(t, path).Append(Write{ID: "next", Term: 7, Begin: 1, End: 2}); err != nil {
			t.Fatal(err)
		}
		lines := readLines(t, path)
		if want := strings.Count(left, "\n") + 1; len(lines) != want || lines[want-1].ID != "next" {
			t.Errorf("after %q: %+v", left, lines)
		}
	}
}
