package agent

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
)

var errCrash = errors.New("crash")

func mustOpen(t testing.TB, dir string) *store {
	t.Helper()
	s, err := openStore(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func someAnswer(term signalbox.Term) record {
	return record{Answer: &answer{Kind: signalbox.SaysAck, Term: term, Block: signalbox.Digest{byte(term)}, Envelope: []byte("e")}}
}

func TestStoreRemembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "orders", "a")
	s := mustOpen(t, dir)
	id := s.identity()
	for _, r := range []record{{Certificate: []byte("c"), Admission: 3}, someAnswer(8), {Left: 3, Leave: []byte("l")}} {
		if err := s.append(r, true); err != nil {
			t.Fatal(err)
		}
	}
	want := s.state
	s.close()
	s = mustOpen(t, dir)
	defer s.close()
	want.Incarnation++
	if s.identity() != id || s.why != "" || !reflect.DeepEqual(s.state, want) {
		t.Errorf("got %+v\nwant %+v", s.state, want)
	}
	if s.state.Floor != 8 {
		t.Errorf("floor %d: the ack is forgotten", s.state.Floor)
	}
	info, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file %v, %v", info.Mode(), err)
	}
}

func TestStoreIsLocked(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := openStore(dir, nil); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("opened twice: %v", err)
	}
	s.close()
	mustOpen(t, dir).close()
}

// Rule 8: lost, damaged or foreign state means a new key, and says so. A torn
// last line was never synced, so nothing was said because of it.
func TestLostState(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string, state []byte) error
		newKey bool
	}{
		{"state missing", func(_ *testing.T, dir string, _ []byte) error { return os.Remove(filepath.Join(dir, stateFile)) }, true},
		{"key missing", func(_ *testing.T, dir string, _ []byte) error { return os.Remove(filepath.Join(dir, keyFile)) }, true},
		{"key damaged", func(_ *testing.T, dir string, _ []byte) error {
			return os.WriteFile(filepath.Join(dir, keyFile), []byte("x"), 0o600)
		}, true},
		{"state empty", func(_ *testing.T, dir string, _ []byte) error { return os.Truncate(filepath.Join(dir, stateFile), 0) }, true},
		{"byte changed", func(_ *testing.T, dir string, state []byte) error {
			state[len(state)/2] ^= 1
			return os.WriteFile(filepath.Join(dir, stateFile), state, 0o600)
		}, true},
		{"line lost in the middle", func(_ *testing.T, dir string, state []byte) error {
			lines := strings.SplitAfter(string(state), "\n")
			return os.WriteFile(filepath.Join(dir, stateFile), []byte(strings.Join(lines[1:], "")), 0o600)
		}, true},
		{"state of another key", func(t *testing.T, dir string, _ []byte) error {
			other := t.TempDir()
			mustOpen(t, other).close()
			raw, err := os.ReadFile(filepath.Join(other, stateFile))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, stateFile), raw, 0o600)
		}, true},
		{"torn last line", func(_ *testing.T, dir string, state []byte) error {
			return os.WriteFile(filepath.Join(dir, stateFile), append(state, "0123abcd {\"rec"...), 0o600)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir)
			id := s.identity()
			if err := s.append(someAnswer(8), true); err != nil {
				t.Fatal(err)
			}
			s.close()
			raw, err := os.ReadFile(filepath.Join(dir, stateFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(t, dir, raw); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, dir)
			defer s.close()
			if renewed := s.identity() != id; renewed != c.newKey || (s.why != "") != c.newKey {
				t.Errorf("new key %t (%q), want %t", renewed, s.why, c.newKey)
			}
			if !c.newKey && s.state.Floor != 8 {
				t.Errorf("floor %d", s.state.Floor)
			}
		})
	}
}

// A crash at any step to the disk leaves the state from before or after it, and
// never a key with a state that is not its own.
func TestCrashAtEveryStep(t *testing.T) {
	for at := 0; ; at++ {
		dir := t.TempDir()
		s := mustOpen(t, dir)
		id, steps, acked := s.identity(), 0, signalbox.Term(0)
		s.close()
		fault := func(string) error {
			steps++
			if steps > at {
				return errCrash
			}
			return nil
		}
		s, err := openStore(dir, fault)
		if err == nil {
			for term := signalbox.Term(2); term <= 4 && err == nil; term++ {
				if err = s.append(someAnswer(term), true); err == nil {
					acked = term
				}
			}
			if err == nil {
				err = s.compact()
			}
			s.close()
		}
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		again := mustOpen(t, dir)
		if again.identity() != id || again.why != "" {
			t.Errorf("crash at step %d: a new key (%s)", at, again.why)
		}
		if again.state.Floor < acked {
			t.Errorf("crash at step %d: floor %d, acked %d", at, again.state.Floor, acked)
		}
		again.close()
		if err == nil {
			return // every step was tried
		}
	}
}

// A crash while an identity is given up never leaves the old key in use with an
// empty state.
func TestCrashWhileRenewing(t *testing.T) {
	for at := 0; ; at++ {
		dir := t.TempDir()
		s := mustOpen(t, dir)
		id := s.identity()
		if err := s.append(someAnswer(8), true); err != nil {
			t.Fatal(err)
		}
		steps := 0
		s.fault = func(string) error {
			steps++
			if steps > at {
				return errCrash
			}
			return nil
		}
		err := s.renew("test")
		s.close()
		again := mustOpen(t, dir)
		if again.identity() == id && again.state.Floor != 8 {
			t.Errorf("crash at step %d: the old key with a new state", at)
		}
		again.close()
		if err == nil {
			return
		}
	}
}

func TestStoreCompacts(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer func() { s.close() }()
	certificate := []byte(strings.Repeat("c", 1<<20))
	for range 20 {
		if err := s.append(record{Certificate: certificate}, false); err != nil {
			t.Fatal(err)
		}
		if err := s.tidy(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || info.Size() > compactAt+4<<20 {
		t.Errorf("state file has %d bytes, %v", info.Size(), err)
	}
	if err := s.append(someAnswer(8), true); err != nil {
		t.Fatal(err)
	}
	s.close()
	s = mustOpen(t, dir)
	if s.state.Floor != 8 || len(s.state.Certificate) != len(certificate) {
		t.Error("compaction lost something")
	}
}

// BenchmarkPersistAck is the part of the interruption that the disk takes.
func BenchmarkPersistAck(b *testing.B) {
	s := mustOpen(b, b.TempDir())
	defer s.close()
	envelope := make([]byte, 250)
	var term signalbox.Term
	for b.Loop() {
		term++
		r := someAnswer(term)
		r.Answer.Envelope = envelope
		if err := s.append(r, true); err != nil {
			b.Fatal(err)
		}
	}
}
