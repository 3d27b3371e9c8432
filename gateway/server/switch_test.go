package server

import (
	"testing"

	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestSwitchThereAndBack: a switch started at any gateway certifies the new
// term at all of them, with a certificate that the public keys alone verify
// (sections 2.1 and 3).
func TestSwitchThereAndBack(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()

	there := s.order(west)
	s.begin("east-1", there)
	h := s.wantOutcome(there.ID, api.OutcomeForward, 2)
	s.awaitServing(west, 2)
	cert := s.verify(h)
	if cert.Term != 2 || cert.DataCenter() != west || len(cert.Evidence) != 2 || cert.IsFallback() {
		t.Fatalf("certificate: term %d, %s, %d pieces of evidence", cert.Term, cert.DataCenter(), len(cert.Evidence))
	}
	for _, a := range h.Acks {
		if a.Evidence != "ack" || a.DrainedMS == nil || a.AckedMS == nil {
			t.Errorf("ack matrix: %+v", a)
		}
	}
	if c := s.converged(); c.Term != 2 {
		t.Fatalf("the log certifies term %d", c.Term)
	}

	back := s.order(east)
	s.begin("west-2", back)
	h = s.wantOutcome(back.ID, api.OutcomeForward, 4)
	s.awaitServing(east, 4)
	if c := s.verify(h); c.DataCenter() != east {
		t.Fatalf("certificate of %s", c.DataCenter())
	}
	s.converged()
}
