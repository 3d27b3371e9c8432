package handover

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// tell passes the own hold on, and declares it final when the second is over.
func (m *Machine) tell(r *run, now time.Time) []Effect {
	own, known := r.held[m.opt.Gateway]
	if known && !own.Complete && !own.Final && now.Sub(r.began) >= HoldWait {
		own.Final, r.tellHeld = true, true
		r.held[m.opt.Gateway] = own
	}
	if !known || !r.tellHeld || !own.Complete && !own.Final {
		return nil
	}
	r.tellHeld = false
	out := []Effect{TellHeld{Held: own, Now: m.firsts(r)}}
	if !r.toldHeld {
		r.toldHeld = true
		out = append([]Effect{Record{Block: r.block.Digest, Phase: PhaseHold, Detail: holdDetail(own), At: now}}, out...)
	}
	return out
}

func holdDetail(h Held) string {
	var late []string
	for _, p := range h.Proxies {
		if !p.Acknowledged {
			late = append(late, p.ID)
		}
	}
	if len(h.Proxies) == 0 {
		return "no proxy is connected to this gateway"
	}
	if len(late) == 0 {
		return fmt.Sprintf("%d proxies hold", len(h.Proxies))
	}
	return fmt.Sprintf("%d of %d proxies hold; late: %s", len(h.Proxies)-len(late), len(h.Proxies), strings.Join(late, ", "))
}

// holdState says whether the interruption may go on to the drain. late names
// connected proxies that did not acknowledge, mute the gateways that can be
// reached and did not say how their proxies are.
func (m *Machine) holdState(r *run, now time.Time) (ready bool, late, mute []string) {
	waited := now.Sub(r.began)
	unheld := false
	ready = true
	look := func(name string, up bool) {
		h, ok := r.held[name]
		switch {
		case ok && (h.Complete || h.Final):
		case up && waited >= MuteWait:
			mute = append(mute, name)
		case up || waited < HoldWait:
			// A gateway that cannot be reached is waited for until the second
			// is over; its proxies then report through another gateway.
			ready = false
		}
		unheld = unheld || up && slices.ContainsFunc(h.Proxies, func(p ProxyHold) bool { return !p.Acknowledged })
	}
	look(m.opt.Gateway, true)
	for name := range m.opt.Peers {
		look(name, m.peers[name].up)
	}
	if unheld {
		late = m.late(r)
	}
	sort.Strings(mute)
	return ready, late, mute
}

// late names the proxies of gateways that can be reached which no gateway says
// hold.
func (m *Machine) late(r *run) (late []string) {
	acknowledged := map[string]bool{}
	for _, h := range r.held {
		for _, p := range h.Proxies {
			acknowledged[p.ID] = acknowledged[p.ID] || p.Acknowledged
		}
	}
	for name, h := range r.held {
		if name != m.opt.Gateway && !m.peers[name].up {
			continue
		}
		for _, p := range h.Proxies {
			if !acknowledged[p.ID] && !slices.Contains(late, p.ID) {
				late = append(late, p.ID)
			}
		}
	}
	sort.Strings(late)
	return late
}

// doubt says why the interruption must not go on to the drain although waiting
// longer does not help, "" when it may.
func (m *Machine) doubt(r *run, now time.Time) string {
	ready, late, mute := m.holdState(r, now)
	switch {
	case !ready || r.h.AllowLateProxies:
		return ""
	case len(late) > 0:
		return "proxies did not acknowledge the hold within " + HoldWait.String() + ": " + strings.Join(late, ", ")
	case len(mute) > 0:
		return "gateways did not say within " + MuteWait.String() + " whether their proxies hold: " + strings.Join(mute, ", ")
	}
	return ""
}
