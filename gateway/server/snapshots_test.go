package server

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// grow adds blocks to the log until a gateway keeps none up to an index.
func (s *site) grow(gateway string, index uint64) {
	s.t.Helper()
	for s.gateways[gateway].journal.First() <= index+1 {
		s.enrolled++
		must(s.t, s.propose(gateway, fmt.Sprintf("x%d", s.enrolled)))
	}
}

// over waits until a handover is over at a gateway, whatever came of it.
func (s *site) over(gateway string, o api.Order) {
	s.t.Helper()
	eventually(s.t, o.ID+" to be over at "+gateway, func() bool {
		h, err := s.gateways[gateway].coordinator.Handover(s.t.Context(), o.ID)
		return err == nil && h.Done()
	})
}

// leave begins a switch that nobody ends for now, and stops gateways in it. It
// returns the newest block that all of them have.
func (s *site) leave(o api.Order, away ...string) (index uint64) {
	s.t.Helper()
	s.refusePromotions(signalbox.DataCenter(o.To), true)
	s.begin("east-1", o)
	s.sameLog()
	for _, name := range away {
		eventually(s.t, name+" to see the handover", func() bool {
			h, err := s.gateways[name].coordinator.Handover(s.t.Context(), o.ID)
			return err == nil && !h.Done()
		})
	}
	for _, name := range away {
		index = max(index, s.gateways[name].journal.Index())
		s.gateways[name].stop()
	}
	return index
}

// master is who is master by a gateway's log.
func (s *site) master(gateway string) (dc signalbox.DataCenter, term signalbox.Term) {
	s.gateways[gateway].journal.View(func(l *handover.Ledger) { dc, term = l.Service(orders).Master(), l.Service(orders).Term() })
	return dc, term
}

// toldShort wants what ended while a gateway was away told there as where it was
// seen, in few words, and listed.
func (s *site) toldShort(gateway, by string, o api.Order) {
	s.t.Helper()
	want, err := s.gateways[by].coordinator.Handover(s.t.Context(), o.ID)
	must(s.t, err)
	var got api.Handover
	eventually(s.t, gateway+" to tell that "+o.ID+" is over", func() bool {
		got, err = s.gateways[gateway].coordinator.Handover(s.t.Context(), o.ID)
		return err == nil && got.Done()
	})
	if got.Outcome != want.Outcome || got.CertifiedTerm != want.CertifiedTerm || got.State != want.State || got.From != want.From || got.Ended == nil {
		s.t.Errorf("%s tells\n%+v\nand %s tells\n%+v", gateway, got, by, want)
	}
	all, err := s.gateways[gateway].coordinator.Handovers(s.t.Context(), api.Page{Limit: 100})
	must(s.t, err)
	if !slices.ContainsFunc(all, func(h api.Handover) bool { return h.ID == o.ID && h.Outcome == want.Outcome }) {
		s.t.Errorf("%s does not list %s", gateway, o.ID)
	}
}

// TestAwayForLong: snapshots take the place of the log several times while a voter
// and a follower are away, who stopped in the middle of a handover. They come back
// by snapshot: the handover that is still open goes on; one that ended meanwhile is
// over for them too; and the service is handed over as before, also with a quorum
// that needs who was away.
func TestAwayForLong(t *testing.T) {
	s := newSite(t, voting(three...), func(s *site) { s.snapshotBlocks = 6 }).run()
	away, here := []string{"east-2", "west-2"}, []string{"east-1", "west-1"}

	open := s.order(west)
	was := s.leave(open, away...)
	for _, name := range here {
		s.grow(name, was)
	}
	for _, name := range away {
		s.startGateway(name)
		eventually(t, name+" to take a snapshot", func() bool { return s.gateways[name].journal.First() > was+1 })
	}
	s.refusePromotions(west, false)
	for _, name := range gatewayNames {
		s.over(name, open)
	}
	s.converged()

	dc, _ := s.master("east-1")
	ended := s.order(map[signalbox.DataCenter]signalbox.DataCenter{east: west, west: east}[dc])
	was = s.leave(ended, away...)
	s.refusePromotions(signalbox.DataCenter(ended.To), false)
	for _, name := range here {
		s.over(name, ended)
		s.grow(name, was)
	}
	for _, name := range away {
		s.startGateway(name)
		eventually(t, name+" to take a snapshot", func() bool { return s.gateways[name].journal.First() > was+1 })
	}
	s.converged()
	for _, name := range away {
		s.toldShort(name, "east-1", ended)
	}
	s.sameLog()

	s.gateways["west-1"].stop() // the other voters are a quorum only with who was away
	must(t, s.propose("west-2", "later"))
	s.startGateway("west-1")
	dc, term := s.master("east-1")
	to := map[signalbox.DataCenter]signalbox.DataCenter{east: west, west: east}[dc]
	there := s.order(to)
	s.begin("west-2", there)
	s.wantOutcome(there.ID, api.OutcomeForward, term+2)
	s.awaitServing(to, term+2)
	s.gateways["west-2"].stop()
	trust, err := signature.Trust(s.cluster)
	must(t, err)
	summary, err := journal.Verify(filepath.Join(s.dir, "gateways", "west-2", journal.FileName), trust)
	if err != nil || summary.First <= was || summary.Snapshot == 0 {
		t.Errorf("%+v, %v", summary, err)
	}
}
