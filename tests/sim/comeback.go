package sim

import (
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agreement"
	"github.com/signalbox-io/signalbox/membership/lease"
)

// standing is what a voter says of itself to another one.
type standing struct {
	index uint64
	begun bool
}

// loseDisk: the machine comes back with an empty one.
func (g *gateway) loseDisk() {
	g.s.Stats["lost disks of voters"]++
	g.s.say("%s loses its disk", g.name)
	g.crash(g.s.between(100*time.Millisecond, 2*time.Second))
	log := g.book.log
	g.book = g.s.newBook()
	if g.s.chance(0.5) {
		g.restore(log)
	}
	for _, d := range g.desks {
		d.notes = nil
	}
	if g.voter != nil {
		g.voter.disk = voterDisk{}
	}
}

// restore is journal.Restore of a backup: of the log only. Votes are no part of it,
// so the voter comes back as one that lost its disk.
func (g *gateway) restore(log []*signalbox.DecidedBlock) {
	g.s.Stats["backups restored"]++
	if len(log) > 0 && log[0] == nil {
		return // the others have a snapshot
	}
	for _, b := range log[:g.s.rnd.IntN(len(log)+1)] {
		if err := g.book.take(b); err != nil {
			g.s.fail("%s cannot restore block %d: %v", g.name, b.Index, err)
			return
		}
	}
}

// comeBack is journal.Comeback: a voter that forgot votes again when others have
// decided every slot that it may have voted in.
func (g *gateway) comeBack() {
	v := g.voter
	if v.replica != nil {
		return
	}
	own := g.book.Index()
	if v.disk.silent == 0 {
		begun, newest := 0, uint64(0)
		for _, s := range v.said {
			if s.begun {
				begun++
			}
			newest = max(newest, s.index)
		}
		if quorum := len(g.s.voters) - g.s.plan.u; begun >= min(quorum, len(g.s.voters)-1) && own >= newest {
			g.write(true, func() { v.disk.silent = own + 2 }, nil)
		}
	} else if own >= v.disk.silent {
		var saved lease.Saved
		for _, c := range g.book.LeaseChanges() {
			saved.Apply(c)
		}
		if g.write(true, func() { v.disk.begun, v.disk.leases = true, saved }, nil) {
			g.s.say("%s may vote", g.name)
			g.startVoter()
			g.keepUp()
		}
		return
	} else {
		g.sendAgreement(agreement.Outgoing{To: agreement.Everyone, Message: &agreement.Message{Kind: agreement.Request, Slot: own + 1}})
	}
	run := g.run
	for i, p := range g.s.voters {
		if p == g {
			continue
		}
		g.s.send(g.node, p.node, func() {
			if !p.up {
				return
			}
			said := standing{p.book.Index(), p.voter.disk.begun}
			if p.voter.liar != nil {
				said = standing{0, true}
			}
			g.s.send(p.node, g.node, func() {
				if g.up && g.run == run {
					v.said[i] = said
				}
			})
		})
	}
}
