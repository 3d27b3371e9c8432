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
	log, keys := g.book.log, g.voter.disk.keys
	g.book = g.s.newBook(g.s.trust())
	g.voter.disk, g.voter.lost = voterDisk{}, true
	if g.s.chance(0.5) {
		g.restore(log)
		// Sometimes it is only the journal that a backup took the place of.
		if g.voter.disk.restored = true; len(keys) > 0 && g.s.chance(0.5) {
			g.voter.disk.keys = keys
		}
	}
	for _, d := range g.desks {
		d.notes = nil
	}
}

// restoresJournal is OldKeyBelieved's: a backup in the place of the journal alone.
func (g *gateway) restoresJournal() {
	n := -1
	if at := g.voter.seat.self; at >= 0 {
		n, _ = g.voter.key(g.voter.seat.set.Voters[at].PublicKey)
	}
	if n <= 0 || !g.s.mayLose(g) {
		g.crash(g.s.between(20*time.Millisecond, 300*time.Millisecond))
		return
	}
	keys := g.voter.disk.keys
	g.loseDisk()
	g.voter.disk.keys = keys
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
	if v.seat.self < 0 || len(v.seat.who) == 1 {
		g.catchUp()
		return
	}
	own := g.book.Index()
	if v.disk.within != v.seat.epoch() {
		v.disk.silent = 0 // what it learned in another epoch bounds nothing here
	}
	if v.disk.silent == 0 {
		begun, newest := 0, uint64(0)
		for _, s := range v.said {
			if s.begun {
				begun++
			}
			newest = max(newest, s.index)
		}
		if begun >= min(v.seat.quorum(), len(v.seat.who)-1) && own >= newest {
			g.write(true, func() { v.disk.silent, v.disk.within = own+2, v.seat.epoch() }, nil)
		}
	} else if own >= v.disk.silent {
		var saved lease.Saved
		for _, c := range g.book.LeaseChanges() {
			saved.Apply(c)
		}
		if g.write(true, func() {
			v.disk.begun, v.disk.restored, v.lost = true, false, false
			v.disk.leases, v.disk.leased = saved, v.seat.epoch()
		}, nil) {
			g.s.say("%s may vote", g.name)
			g.startVoter()
			g.keepUp()
		}
		return
	} else {
		g.sendAgreement(agreement.Outgoing{To: agreement.Everyone, Message: &agreement.Message{Kind: agreement.Request, Slot: own + 1}})
	}
	run, epoch := g.run, v.seat.epoch()
	for _, p := range v.seat.who {
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
				if g.up && g.run == run && v.seat.epoch() == epoch {
					v.said[p] = said
				}
			})
		})
	}
}

// catchUp is journal.CaughtUp, of whoever does not vote, or alone: every other
// gateway was asked, and none has more.
func (g *gateway) catchUp() {
	v := g.voter
	alone := v.seat.self >= 0 && len(v.seat.who) == 1
	if !v.disk.restored && !alone {
		return
	}
	for _, p := range g.s.gateways {
		if p != g && (!g.s.link(g.node, p.node).up || p.book.Index() > g.book.Index()) {
			return
		}
	}
	if !alone {
		g.write(true, func() { v.disk.restored = false }, nil)
	} else if g.begin() {
		g.startVoter()
		g.keepUp()
	}
}
