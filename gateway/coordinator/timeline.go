package coordinator

import (
	"sort"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// recordView is the record for people: with its phases, and copied.
func (c *Coordinator) recordView(s *service, r *record) api.Handover {
	v := r.view
	v.Acks, v.Events = append([]api.Ack(nil), v.Acks...), append([]api.Event(nil), v.Events...)
	v.Proxies, v.Promotions = append([]api.ProxyHold(nil), v.Proxies...), append([]api.Promotion(nil), v.Promotions...)
	for i := range v.Acks {
		if in := s.instances[signalbox.Identity(v.Acks[i].Identity)]; in != nil {
			if n := in.newest(); n != nil {
				v.Acks[i].InFlight, v.Acks[i].Problem = n.status.GetInFlight(), n.status.GetProblem()
			}
		}
	}
	v.Phases = r.phases()
	if !r.holdAt.IsZero() && !r.releasedAt.IsZero() {
		hold := sinceMS(max(0, r.releasedAt.Sub(r.holdAt)))
		v.HoldMS = &hold
	}
	for id := range r.late {
		v.LateProxies = append(v.LateProxies, id)
	}
	sort.Strings(v.LateProxies)
	return v
}

// phases computes the phases from the marks. A mark is when this gateway saw a
// thing, and it sees things out of order: evidence may come after the
// certificate that it stands in. So each phase begins where the one before it
// ended, none is negative, and what was not seen here takes no time.
func (r *record) phases() []api.Phase {
	drain, drained, acked := r.drainAt, r.drainedAt, r.ackedAt
	if !r.sealedAt.IsZero() { // whoever sealed had what came before
		drained, acked = earlier(drained, r.sealedAt), earlier(acked, r.sealedAt)
		if !r.heldAt.IsZero() && r.heldAt.Before(drain) { // another gateway gave the order
			drain = later(r.heldAt, r.holdAt)
		}
	}
	steps := []struct {
		name  string
		begin time.Time
	}{
		{api.PhasePrepare, r.began}, {api.PhaseHold, r.holdAt}, {api.PhaseDrain, drain}, {api.PhaseAck, drained},
		{api.PhaseSeal, acked}, {api.PhasePromote, r.sealedAt}, {api.PhaseRelease, r.servingAt}, {api.PhaseSettle, r.releasedAt},
	}
	// A gateway that hears of everything at once, because it stood still or was cut
	// off, sees the hold and the end, and nothing of what lies between.
	if whole := r.view.Certificate != nil && !r.view.Certificate.Fallback && !r.holdAt.IsZero(); whole {
		for i := len(steps) - 2; i >= 0; i-- {
			if steps[i].begin.IsZero() {
				steps[i].begin = steps[i+1].begin
			}
		}
	}
	var out []api.Phase
	var at time.Time
	for _, step := range steps {
		if step.begin.IsZero() {
			continue
		}
		if step.begin.After(at) {
			at = step.begin
		}
		out = end(out, r.ms(at))
		out = append(out, api.Phase{Name: step.name, BeginMS: *r.ms(at)})
	}
	if over := first(r.doneAt, r.shut); !over.IsZero() {
		if over.Before(at) {
			over = at
		}
		out = end(out, r.ms(over))
	}
	return out
}

func end(phases []api.Phase, at *float64) []api.Phase {
	if n := len(phases); n > 0 {
		phases[n-1].EndMS = at
	}
	return phases
}

// earlier returns the earlier of two times, zero for a that was never marked.
func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func first(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return noTime
}

// heldBy takes what a gateway says of its proxies' part in the hold.
func (r *record) heldBy(h handover.Held, dc signalbox.DataCenter, now time.Time) {
	for _, p := range h.Proxies {
		row := r.proxy(p.ID, dc)
		switch {
		case p.Acknowledged:
			if row.HeldMS == nil {
				row.HeldMS = r.ms(now)
				r.heldAt = later(r.heldAt, now)
			}
		case h.Final:
			r.late[p.ID], row.Late = true, true
		}
		if p.Problem != "" {
			row.Problem = p.Problem
		}
	}
}

// maxProxyRows bounds a record's proxies; those beyond it are counted in the
// hold all the same.
const maxProxyRows = 4096

func (r *record) proxy(id string, dc signalbox.DataCenter) *api.ProxyHold {
	for i := range r.view.Proxies {
		if r.view.Proxies[i].ID == id {
			return &r.view.Proxies[i]
		}
	}
	if len(r.view.Proxies) >= maxProxyRows {
		return &api.ProxyHold{}
	}
	r.view.Proxies = append(r.view.Proxies, api.ProxyHold{ID: id, DataCenter: string(dc)})
	return &r.view.Proxies[len(r.view.Proxies)-1]
}
