package server

import (
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// TestStreams: a service's policy for streams that outlive the drain reaches its
// instances in the block: waited for, cut, or the handover is given up at once
// (section 3).
func TestStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy  signalbox.StreamPolicy
		outcome string
		term    signalbox.Term
	}{
		{signalbox.StreamsWait, api.OutcomeForward, 2},
		{signalbox.StreamsCut, api.OutcomeForward, 2},
		{signalbox.StreamsAbort, api.OutcomeFallback, 3},
	} {
		t.Run(c.policy.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(s *site) { s.services[0].Streams = c.policy }).run()
			s.agents["e1"].in.set(func(i *instance) { i.streams = 2 })
			o := s.order(west)
			s.begin("east-1", o)
			if c.policy == signalbox.StreamsWait {
				eventually(t, "e1 to wait for its streams", s.agents["e1"].in.draining)
				s.agents["e1"].in.set(func(i *instance) { i.streams = 0 })
			}
			s.wantOutcome(o.ID, c.outcome, c.term)
			if c.outcome == api.OutcomeForward {
				s.awaitServing(west, c.term)
			} else {
				s.awaitServing(east, c.term)
			}
		})
	}
}
