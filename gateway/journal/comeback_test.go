package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agreement"
)

// TestComeback guards invariant 8 with several voters: who forgot its votes does
// not vote before it knows that it does not vote twice, and every voter of a new
// cluster does.
func TestComeback(t *testing.T) {
	silent := map[string]Standing{"west-1": {}, "south-1": {}}
	for name, c := range map[string]struct {
		said       map[string]Standing
		done, fill bool
	}{
		"a new cluster":                     {silent, true, false},
		"a new cluster, one is away":        {map[string]Standing{"west-1": {}}, false, false},
		"somebody voted":                    {map[string]Standing{"west-1": {Begun: true, Voted: 1}, "south-1": {}}, false, false},
		"somebody has a log":                {map[string]Standing{"west-1": {Begun: true, Index: 1, Voted: 1}, "south-1": {}}, false, false},
		"too few know their votes":          {map[string]Standing{"west-1": {Begun: true, Voted: 1}}, false, false},
		"all others know, none has decided": {map[string]Standing{"west-1": {Begun: true, Voted: 1}, "south-1": {Begun: true}}, false, true},
		"they have more":                    {map[string]Standing{"west-1": {Begun: true, Index: 9, Voted: 9}, "south-1": {Begun: true}}, false, false},
	} {
		m := newAssembly(t).members["east-1"]
		if !m.opt.Journal.Restored() {
			t.Fatal("a new voter is not in doubt")
		}
		done, fill, err := NewComeback(m.opt.Journal, 1, 3, 1).Heard(c.said)
		if err != nil || done != c.done || fill != c.fill || m.opt.Journal.Begun() != c.done {
			t.Errorf("%s: votes %v, fills %v, %v", name, done, fill, err)
		}
	}
}

// TestComebackWaits guards that a voter that forgot stays silent in two slots
// above the newest that it heard of, also after a restart.
func TestComebackWaits(t *testing.T) {
	a := newAssembly(t)
	stop := a.run(voterNames...)
	a.propose("east-1", newInstance(t, orders, "first"))
	stop()
	said := map[string]Standing{}
	for _, name := range []string{"east-1", "west-1"} {
		said[name] = a.members[name].opt.Journal.Standing()
	}
	newest := max(said["east-1"].Index, said["west-1"].Index)
	dir := t.TempDir()
	m := a.member("south-1", dir)
	a.await(m.opt.Journal, newest)
	for range 3 {
		if done, fill, err := NewComeback(m.opt.Journal, 1, 3, 1).Heard(said); done || !fill || err != nil {
			t.Fatalf("votes %v, fills %v, %v", done, fill, err)
		}
		if _, err := m.Answer(orders, "", make([]byte, 32)); !errors.Is(err, signalbox.ErrUnavailable) {
			t.Fatalf("it answers: %v", err)
		}
		if err := m.opt.Journal.Close(); err != nil {
			t.Fatal(err)
		}
		m = a.member("south-1", dir)
	}
	stop = a.run("east-1", "west-1")
	for i, target := range []uint64{newest + 1, newest + 2} {
		a.propose("east-1", newInstance(t, orders, []string{"second", "third"}[i]))
		a.await(m.opt.Journal, target)
		if done, fill, err := NewComeback(m.opt.Journal, 1, 3, 1).Heard(said); done != (i == 1) || fill != (i == 0) || err != nil {
			t.Fatalf("at block %d: votes %v, fills %v, %v", target, done, fill, err)
		}
	}
	stop()
}

// TestComebackFills guards that a voter that forgot does not wait for others to
// have something to decide.
func TestComebackFills(t *testing.T) {
	a := newAssembly(t)
	stop := a.run(voterNames...)
	a.propose("east-1", newInstance(t, orders, "first"))
	stop()
	m := a.member("south-1", t.TempDir())
	a.run(voterNames...)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for end := time.After(2 * time.Minute); !m.opt.Journal.Begun(); {
		select {
		case <-pace.C:
		case <-end:
			t.Fatal("it never votes again")
		}
	}
}

// TestRestoreForgetsVotes guards invariant 8: what a backup says of votes is not
// believed.
func TestRestoreForgetsVotes(t *testing.T) {
	a := newAssembly(t)
	j := a.members["east-1"].opt.Journal
	if err := errors.Join(j.begin(), j.setAllBegun(), j.putState(&agreement.State{Epoch: 1, Slot: 1, View: 1, VotedOne: 1, Value: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	backup, dir := filepath.Join(t.TempDir(), "backup"), t.TempDir()
	file, err := os.Create(backup)
	if err == nil {
		err = errors.Join(j.Backup(file), file.Close())
	}
	if err == nil {
		_, err = Restore(backup, dir, j.trust)
	}
	if err != nil {
		t.Fatal(err)
	}
	back := a.member("east-1", dir).opt.Journal
	if s, err := back.state(); s != nil || err != nil || back.Begun() || back.allBegun() || !back.fromBackup() {
		t.Errorf("it remembers %+v, %v", s, err)
	}
}
