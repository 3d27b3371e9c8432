package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
)

// TestVotersFitTheConfiguration: what a configuration wants of the voters is held
// against those of the log, not those of the cluster's description; a gateway whose
// log is old or empty asks the others before it gives up, and gives up when theirs
// says the same.
func TestVotersFitTheConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting("east-1"), operated).run()
	errFew := errors.New("too few voters")
	s.fits = func(set signalbox.VoterSet) error {
		if len(set.Voters) < 3 {
			return errFew
		}
		return nil
	}
	ends := func(name string) {
		t.Helper()
		g := s.startGateway(name)
		select {
		case <-g.done:
		case <-time.After(patience):
			t.Fatalf("%s runs", name)
		}
		if !errors.Is(g.err, errFew) {
			t.Errorf("%s ended with: %v", name, g.err)
		}
		g.err = nil
	}
	s.gateways["west-2"].stop()
	ends("west-2") // one voter, by its own log, which is new
	must(t, os.RemoveAll(filepath.Join(s.dir, "gateways", "west-2")))
	ends("west-2") // by the others'

	must(t, s.change("west-1", 1, 0, []string{"east-1", "east-2", "west-1"}))
	must(t, os.RemoveAll(filepath.Join(s.dir, "gateways", "west-2")))
	g := s.startGateway("west-2") // its log is empty: the first voters would be too few
	if !g.unproven {
		t.Error("an empty log was enough")
	}
	eventually(t, "west-2 to find the voters enough", func() bool {
		return strings.Contains(s.logs.String(), "the voters of the newest log are enough")
	})
	s.inEpoch(2)
	s.gateways["west-2"].stop()
	if g = s.startGateway("west-2"); g.unproven {
		t.Error("its own log has the voters by now")
	}
	must(t, s.change("west-1", 0, 0, []string{"west-1"}))
	s.inEpoch(3)
	eventually(t, "the gateways to say that they would not start again", func() bool {
		return strings.Contains(s.logs.String(), "it will not start again with it")
	})
	eventually(t, "a decision: they go on", func() bool { return s.propose("west-2", "again") == nil })
}
