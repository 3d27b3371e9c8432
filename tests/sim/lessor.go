package sim

import (
	"errors"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
)

// clock is a machine's: it runs apart from real time by parts per million. Its boot
// clock misses what the machine was paused for, its wall clock is stepped; not both
// in one history, that no clock would show.
type clock struct {
	rate    int64
	boot    time.Duration
	pauses  bool
	missed  time.Duration
	stepped time.Duration
}

func (s *Sim) newClock() clock {
	c := clock{rate: s.plan.drift, boot: s.between(time.Second, time.Hour)}
	switch s.rnd.IntN(3) {
	case 0:
		c.rate = -c.rate
	case 1:
		c.rate = s.rnd.Int64N(2*s.plan.drift+1) - s.plan.drift
	}
	c.pauses = s.chance(0.5)
	return c
}

// step sets the wall clock, by a little or by much.
func (s *Sim) step(c *clock) {
	if c.pauses {
		return
	}
	s.Stats["steps of wall clocks"]++
	by := s.between(-3*time.Second, 3*time.Second)
	if s.chance(0.3) {
		by *= 1000
	}
	c.stepped += by
}

func (s *Sim) instant(c clock) lease.Instant {
	real := s.now.Sub(epoch)
	lived := real + real*time.Duration(c.rate)/1_000_000
	return lease.Instant{Boot: c.boot + lived - c.missed, Wall: time.Duration(epoch.UnixNano()) + lived + c.stepped}
}

// startLessor makes the grantor, of a voter that goes on or begins in a new set with
// all that any voter may have promised or granted by the log.
func (g *gateway) startLessor() bool {
	v := g.voter
	if epoch := v.seat.epoch(); v.disk.leased != epoch {
		next := v.disk.leases
		if g.s.off != NewVotersForgetPromises {
			next = copied(next)
			for _, c := range g.book.LeaseChanges() {
				next.Apply(c)
			}
		}
		if !g.write(true, func() { v.disk.leases, v.disk.leased = next, epoch }, nil) {
			return false
		}
	}
	now := g.s.instant(v.clock)
	saved := v.disk.leases
	switch {
	case g.s.off == PromiseForgotten:
		saved.Promises = nil
	case g.s.off == StartNotWaited, g.s.off == NewVotersDoNotWait && v.seat.epoch() > g.s.first.Epoch:
		now = lease.Instant{Boot: now.Boot - time.Hour, Wall: now.Wall - time.Hour}
	}
	v.grantor = lease.NewGrantor(v.seat.epoch(), saved, now)
	return true
}

func copied(s lease.Saved) (next lease.Saved) {
	next.Apply(lease.Change{Longest: s.Longest, Stopped: s.Stopped})
	for of, p := range s.Promises {
		next.Apply(lease.Change{Of: of, Promise: p})
	}
	return next
}

// keepLease writes a change of the leases and tells the grantor.
func (g *gateway) keepLease(c *lease.Change) bool {
	if c == nil {
		return true
	}
	kept := g.write(true, func() {
		next := copied(g.voter.disk.leases)
		next.Apply(*c)
		g.voter.disk.leases = next
	}, nil)
	if kept {
		g.voter.grantor.Kept(*c)
	}
	return kept
}

// grant is journal.Lessor's: as which voter of which epoch.
func (g *gateway) grant(r lease.Request) (as vote, ok bool) {
	v := g.voter
	if v.liar != nil {
		return as, true
	}
	if !g.up || v.grantor == nil || g.book.Voters().Epoch != v.seat.epoch() {
		return as, false
	}
	leases, ok := g.leasesOf(r)
	if !ok {
		return as, false
	}
	v.grantor.Decided(g.book.Index())
	as = vote{v.seat.scheme.tags[v.seat.self], v.seat.epoch()}
	for {
		c, err := v.grantor.Grant(r, leases, g.s.instant(v.clock))
		if err != nil {
			if errors.Is(err, signalbox.ErrUnavailable) {
				g.s.Stats["leases not granted while voters change"]++
			}
			return as, false
		}
		if c == nil {
			return as, true
		}
		if !g.keepLease(c) {
			return as, false
		}
	}
}

// vote is as which voter something was said: by its key, of which epoch.
type vote struct {
	key   tag
	epoch uint64
}

func (g *gateway) leasesOf(r lease.Request) (signalbox.Leases, bool) {
	st := g.book.Service(r.Service)
	if st == nil {
		return signalbox.Leases{}, false
	}
	if _, ok := st.Outstanding[r.Identity]; !ok {
		return signalbox.Leases{}, false
	}
	if st.Term() == r.Term {
		return st.Certificate.Leases(), true
	}
	for _, b := range st.Open {
		switch h := b.Handover(r.Service); r.Term {
		case h.Term:
			return h.Leases, true
		case h.Fallback:
			return h.FallbackLeases, true
		}
	}
	return signalbox.Leases{}, false
}

// lapse promises, and signs when everything granted has run out.
func (g *gateway) lapse(payload []byte) (share signature.Share, ok bool) {
	v := g.voter
	sign := func() (signature.Share, bool) {
		if g.s.off == PromiseForgotten {
			g.s.after(0, func() { g.crash(20 * time.Millisecond) })
		}
		share, err := v.seat.scheme.Sign(rpc.SigningInput(rpc.DomainLapse, cluster, payload))
		return share, err == nil
	}
	if v.liar != nil {
		return g.signAnything(payload)
	}
	if g.s.off == StartNotWaited && g.s.rough(0.3) {
		g.crash(20 * time.Millisecond)
	}
	if !g.up || v.grantor == nil {
		return share, false
	}
	t, err := rpc.DecodeTestimony(signalbox.SaysLapse, payload)
	if err != nil {
		g.s.fail("%s cannot read a lapse: %v", g.name, err)
		return share, false
	}
	if t.Witness.Epoch != v.seat.epoch() || g.book.Voters().Epoch != v.seat.epoch() {
		return share, false
	}
	st := g.book.Service(t.Service)
	for _, b := range st.Open {
		h := b.Handover(t.Service)
		entry, listed := h.Entry(t.Identity)
		if b.Digest != t.Block || !listed || rpc.Proves(h, b.Digest, entry, t.Statement) != nil {
			continue
		}
		of, promise := lease.Of{Service: t.Service, Identity: t.Identity}, lease.Promise{Below: h.Term, UpTo: b.Index}
		if g.s.off == NoPromise {
			return g.lapseWithoutPromise(of, sign)
		}
		c, err := v.grantor.Promise(of, promise)
		if err != nil || !g.keepLease(c) {
			return share, false
		}
		ready, _ := v.grantor.Lapsed(of, promise, g.longest(st), g.s.instant(v.clock))
		if ready || g.s.off == LapseNotWaited {
			return sign()
		}
	}
	return share, false
}

// signAnything is a lying voter's lapse: as part of whatever set it ever was in.
func (g *gateway) signAnything(payload []byte) (share signature.Share, ok bool) {
	t, err := rpc.DecodeTestimony(signalbox.SaysLapse, payload)
	if err != nil {
		return share, false
	}
	set, known := g.book.trust.Epochs.Of(t.Witness.Epoch)
	if !known {
		return share, false
	}
	as := g.s.seat(set, g)
	if as.self < 0 {
		return share, false
	}
	share, err = as.scheme.Sign(rpc.SigningInput(rpc.DomainLapse, cluster, payload))
	return share, err == nil
}

// lapseWithoutPromise waits, and goes on granting.
func (g *gateway) lapseWithoutPromise(of lease.Of, sign func() (signature.Share, bool)) (share signature.Share, ok bool) {
	if g.asked == nil {
		g.asked = map[lease.Of]time.Time{}
	}
	if g.asked[of].IsZero() {
		g.asked[of] = g.s.now
	}
	if g.s.now.Sub(g.asked[of]) < 2*g.s.plan.leases.LapseWait() {
		return share, false
	}
	return sign()
}

func (g *gateway) longest(st *handover.ServiceState) signalbox.Leases {
	longest := st.Certificate.Leases()
	for _, b := range st.Open {
		h := b.Handover(st.Service)
		for _, l := range []signalbox.Leases{h.Leases, h.FallbackLeases} {
			if l.LapseWait() > longest.LapseWait() {
				longest = l
			}
		}
	}
	return longest
}
