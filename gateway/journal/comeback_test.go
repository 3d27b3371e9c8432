package journal

import (
	"errors"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
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
		done, fill, err := NewComeback(m.opt.Journal, 3, 1).Heard(c.said)
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
		if done, fill, err := NewComeback(m.opt.Journal, 3, 1).Heard(said); done || !fill || err != nil {
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
	stop = a.run(voterNames...)
	defer stop()
	for i, target := range []uint64{newest + 1, newest + 2} {
		a.propose("east-1", newInstance(t, orders, []string{"second", "third"}[i]))
		a.await(m.opt.Journal, target)
	}
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for end := time.After(30 * time.Second); !m.opt.Journal.Begun(); {
		select {
		case <-pace.C:
		case <-end:
			t.Fatal("it never votes again")
		}
	}
}
