package managed

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// Guards: what was changed is there for the next driver, what could not be written
// did not happen, and a damaged memory is an error and not an empty one.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state", "driver.json")
	open := func() *Memory[map[string]int] {
		t.Helper()
		m, err := OpenMemory[map[string]int](path)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	set := func(n int) func(*map[string]int) {
		return func(m *map[string]int) { *m = map[string]int{"term": n} }
	}
	m := open()
	if err := m.Change(set(1)); err == nil || m.Get()["term"] != 0 {
		t.Fatalf("%v: it remembers %v although there is no directory", err, m.Get())
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, term := range []int{1, 2, 2} {
		if err := m.Change(set(term)); err != nil || open().Get()["term"] != term {
			t.Fatalf("%v: the next driver remembers %v, want term %d", err, open().Get(), term)
		}
	}
	if err := os.WriteFile(path, []byte(`{"term":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := OpenMemory[map[string]int](path); err == nil {
		t.Fatalf("a damaged memory was read as %v", m.Get())
	}
}

// Guards: what blocks comes first and is the reason; no more is passed on than
// an agent takes.
func TestReadiness(t *testing.T) {
	all := make([]Finding, driver.MaxProblems)
	for i := range all {
		all[i] = Found(false, "note", "look", "number %d", i)
	}
	r := Readiness(append(all, Found(true, "lag", "wait", "it is behind"))...)
	if r.Ready || r.Problems[0].Name != "lag" || r.Problem != "lag: it is behind; wait" || len(r.Problems) != driver.MaxProblems {
		t.Fatalf("%+v", r)
	}
	if r := Readiness(all...); !r.Ready {
		t.Fatalf("%+v", r)
	}
}
