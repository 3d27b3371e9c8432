package handover_test

import (
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

func (g *simGateway) wants(a *simAgent) {
	if st := g.book.Service(orders); g.up && st != nil && st.Master() == a.DataCenter && len(st.Open) == 0 && st.Term() == a.disk.cert.Term {
		if st.Outstanding[a.Identity].Admission <= a.disk.left || a.held {
			g.propose(admit(a.name, st.Term()))
			return
		}
		g.grant(a)
	}
}

// remove takes those who left out of the outstanding.
func (g *simGateway) remove() {
	st := g.book.Service(orders)
	if st == nil || len(st.Open) > 0 {
		return
	}
	for _, a := range g.s.agents {
		if e, ok := g.leaves[a.Identity]; ok {
			delete(g.leaves, a.Identity)
			if st.Outstanding[a.Identity].Admission == e.Admission {
				g.propose(signalbox.Request{Remove: &signalbox.Removal{Service: orders, Identity: a.Identity, Evidence: e.Envelope}})
			}
		}
	}
}

// propose reaches the voter or is lost.
func (g *simGateway) propose(r signalbox.Request) {
	if voter := g.s.gateways[0]; g == voter {
		g.s.after(time.Millisecond, func() { g.s.proposed(r) })
	} else {
		g.s.send(g.name, voter.name, func() { g.s.proposed(r) })
	}
}

func (g *simGateway) candidates(dc signalbox.DataCenter) []string {
	var out []string
	for _, a := range g.s.agents {
		for _, p := range g.s.gateways {
			if a.DataCenter == dc && p.dc == dc && g.s.link(p.name, a.name).up {
				out = append(out, a.name)
				break
			}
		}
	}
	return out
}

func (g *simGateway) proposeReturn(e handover.ProposeReturn) {
	before := e.Block.Handover(orders)
	if who := g.candidates(before.From); len(who) > 0 && len(g.book.Service(orders).Open) > 0 {
		g.propose(signalbox.Request{Handover: g.book.plan(before.ID+"-back", before.From, who...)})
	}
}

// order starts a switchover, when nothing is open.
func (g *simGateway) order() {
	st := g.book.Service(orders)
	if !g.up || st == nil || st.Certificate == nil || len(st.Open) > 0 {
		return
	}
	to := west
	if st.Master() == west {
		to = east
	}
	if who := g.candidates(to); len(who) > 0 {
		h := g.book.plan(fmt.Sprintf("h%d", st.Last+1), to, who...)
		h.AllowLateProxies = g.s.chance(0.5)
		h.HoldBudget = time.Duration(1+g.s.rnd.IntN(4)) * time.Second
		g.propose(signalbox.Request{Handover: h})
	}
}
