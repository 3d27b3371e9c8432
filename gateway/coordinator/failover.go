package coordinator

import (
	"context"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// fill completes a handover from the configuration and the log: leases, a
// singleton's one incoming instance and previous master, and the roster.
func (c *Coordinator) fill(s *service, h *signalbox.Handover) {
	h.Leases, h.Singleton, h.Streams = s.conf.Leases, s.conf.Singleton, s.conf.Streams
	if h.Singleton && len(h.Incoming) > 1 {
		h.Incoming = h.Incoming[:1]
	}
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		if st != nil && st.Certificate != nil && h.Fallback != 0 {
			h.FallbackLeases = st.Certificate.Leases()
			if h.Singleton {
				h.Previous, _ = st.Previous()
			}
		}
		h.Roster = l.RosterOf(h)
	})
}

// incoming lists who would become master in a data center: all candidates, or for
// a singleton the best one: who serves already (at an adoption), then who is
// ready, then who lags least.
func (c *Coordinator) incoming(s *service, dc signalbox.DataCenter) []signalbox.Identity {
	ids := c.candidates(s, dc)
	if !s.conf.Singleton || len(ids) < 2 {
		return ids
	}
	status := func(i int) *wire.InstanceStatus { return s.instances[ids[i]].newest().status }
	sort.SliceStable(ids, func(i, j int) bool {
		a, b := status(i), status(j)
		if serves := a.GetState() == stateServing; serves != (b.GetState() == stateServing) {
			return serves
		}
		if a.GetReady() != b.GetReady() {
			return a.GetReady()
		}
		return a.GetLagBytes() < b.GetLagBytes()
	})
	return ids[:1]
}

// allowed is what a failover counts: the order's kinds, or the service's.
func (c *Coordinator) allowed(s *service, o api.FailoverOrder) (signalbox.EvidenceKinds, error) {
	kinds := s.conf.Evidence
	if o.Evidence != "" {
		var err error
		if kinds, err = signalbox.ParseEvidenceKinds(o.Evidence); err != nil {
			return 0, err
		}
	}
	kinds &^= signalbox.AckOnly
	switch {
	case kinds&^signalbox.ByOthers != 0:
		return 0, fmt.Errorf("%w: evidence %s", signalbox.ErrInvalid, kinds)
	case kinds&^s.conf.Evidence != 0:
		return 0, &api.Fault{
			Err: fmt.Errorf("%w: a failover of %s may count %s, not %s", signalbox.ErrNotConfigured, s.conf.Name, orNothing(s.conf.Evidence), kinds&^s.conf.Evidence),
			Do:  "Ask with --evidence for what is configured, or add it to the service's evidence in every gateway's configuration.",
		}
	case kinds == 0:
		return 0, &api.Fault{
			Err: fmt.Errorf("%w: service %s has no evidence configured for a failover", signalbox.ErrNotConfigured, s.conf.Name),
			Do:  "Set the service's evidence (attest, fence, lapse) in every gateway's configuration.",
		}
	}
	return signalbox.AckOnly | kinds, nil
}

func orNothing(k signalbox.EvidenceKinds) string {
	if k == 0 {
		return "nothing"
	}
	return k.String()
}

// FailoverPlan implements api.Rescuer.
func (c *Coordinator) FailoverPlan(ctx context.Context, o api.FailoverOrder) (p api.FailoverPlan, err error) {
	s, err := c.target(o.Order)
	if err != nil {
		return p, err
	}
	allowed, err := c.allowed(s, o)
	if err != nil {
		return p, err
	}
	c.listen(ctx, s)
	var fault error
	if err = c.ask(ctx, func() { p, _, fault = c.failover(s, o, allowed) }); err != nil {
		return p, err
	}
	return p, fault
}

// Failover implements api.Rescuer.
func (c *Coordinator) Failover(ctx context.Context, o api.FailoverOrder) (api.Handover, error) {
	if v, err := c.Handover(ctx, o.ID); err == nil {
		return v, nil
	}
	started := c.opt.Now()
	s, err := c.target(o.Order)
	if err != nil {
		return api.Handover{}, err
	}
	allowed, err := c.allowed(s, o)
	if err != nil {
		return api.Handover{}, err
	}
	c.listen(ctx, s)
	var p api.FailoverPlan
	var h *signalbox.Handover
	var fault error
	err = c.ask(ctx, func() { p, h, fault = c.failover(s, o, allowed) })
	switch {
	case err != nil:
		return api.Handover{}, err
	case fault != nil:
		return api.Handover{}, fault
	case !p.Ready:
		return api.Handover{}, c.notReady(p.Plan)
	}
	if h.Mandate, err = mandateOf(o.Order); err != nil {
		return api.Handover{}, err
	}
	if h.BreakGlass, err = c.consent(ctx, s, o.Order, h); err != nil {
		return api.Handover{}, err
	}
	return c.decide(ctx, s, h, started)
}

// failover plans a failover, and makes its block.
func (c *Coordinator) failover(s *service, o api.FailoverOrder, allowed signalbox.EvidenceKinds) (api.FailoverPlan, *signalbox.Handover, error) {
	to, now := signalbox.DataCenter(o.To), c.opt.Now()
	h := &signalbox.Handover{
		ID: o.ID, Service: s.conf.Name, To: to, Allowed: allowed, HoldBudget: c.budget(s, o.Order), AllowLateProxies: true, By: o.By, Reason: o.Reason,
	}
	p := api.FailoverPlan{Plan: api.Plan{
		Service: o.Service, To: o.To, HoldBudgetMS: h.HoldBudget.Milliseconds(), Allowed: allowed.String(),
	}}
	cert := s.machine.Certificate()
	if cert == nil || s.conf.Observe {
		bad, do := c.unmanaged(s, to)
		return p, h, &api.Fault{Err: fmt.Errorf("%w: %s", signalbox.ErrRefused, strings.Join(bad, "; ")), Do: do}
	}
	p.Current = signalbox.Expectation{DataCenter: cert.DataCenter(), Term: cert.Term}.String()
	if o.Expect != "" && o.Expect != p.Current {
		return p, h, &api.Fault{Err: fmt.Errorf("%w: %s was expected, certified is %s", signalbox.ErrExpectation, o.Expect, p.Current), Current: p.Current}
	}
	h.From = cert.DataCenter()
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		if st == nil {
			return
		}
		h.Term = st.Last + 1
		if n := len(st.Open); n > 0 {
			// What is open is superseded: on the same way, or back.
			open := st.Open[n-1].Handover(s.conf.Name)
			p.Supersedes = open.ID
			if h.From = open.From; open.From == to {
				h.From = open.To
			}
		}
	})
	h.Incoming = c.incoming(s, to)
	c.fill(s, h)
	p.From, p.Term = string(h.From), uint64(h.Term)
	for _, id := range h.Incoming {
		p.Incoming = append(p.Incoming, c.member(s, id, s.instances[id].Name, o.To, 0))
	}
	for _, e := range h.Roster {
		p.Roster = append(p.Roster, c.member(s, e.Identity, e.Name, string(e.DataCenter), e.Admission))
		p.Waits = append(p.Waits, c.waitFor(s, h, e, now))
	}
	p.ExpectedLoss = c.expectedLoss(s, h)
	p.Checks = append(c.failoverChecks(s, o, h, p.Waits), lossChecks(p.ExpectedLoss, p.Waits)...)
	p.Ready = true
	for _, check := range p.Checks {
		if check.Blocking && !check.OK {
			p.Ready = false
			p.Blocks = append(p.Blocks, check.Detail+"; "+check.Do)
		}
	}
	return p, h, nil
}

// waitFor says what a failover waits for about one roster identity, and how long
// at most.
func (c *Coordinator) waitFor(s *service, h *signalbox.Handover, e signalbox.RosterEntry, now time.Time) api.EvidenceWait {
	w := api.EvidenceWait{Instance: e.Name, DataCenter: string(e.DataCenter), Identity: string(e.Identity)}
	if leave, ok := s.leaves[e.Identity]; ok && leave.Admission == e.Admission {
		w.Evidence = []string{"leave"}
		return w
	}
	most := func(kind signalbox.EvidenceKind, d time.Duration) {
		w.Evidence = append(w.Evidence, kind.String())
		if ms := d.Milliseconds(); w.AtMostMS == 0 || ms < w.AtMostMS {
			w.AtMostMS = ms
		}
	}
	start := time.Duration(0)
	if i := s.instances[e.Identity]; i != nil && i.reachable() {
		start = h.HoldBudget
		w.Evidence = append(w.Evidence, signalbox.Ack.String())
	} else {
		w.Silent = true
	}
	if h.Allowed.Has(signalbox.Lapse) && e.Leased {
		leases := s.conf.Leases
		if cert := s.machine.Certificate(); cert != nil && cert.Leases().LapseWait() > leases.LapseWait() {
			leases = cert.Leases()
		}
		most(signalbox.Lapse, start+leases.LapseWait())
	}
	if fencer := s.conf.Fences[e.DataCenter]; h.Allowed.Has(signalbox.Fence) && fencer != nil {
		most(signalbox.Fence, max(start, handover.HoldWait)+fencer.Longest())
	}
	if h.Allowed.Has(signalbox.Attest) {
		w.Evidence = append(w.Evidence, signalbox.Attest.String())
	}
	w.Nothing = w.Silent && len(w.Evidence) == 0
	return w
}

// failoverChecks are what is looked at before a failover: that the new side can
// serve, and that evidence can come for everybody.
func (c *Coordinator) failoverChecks(s *service, o api.FailoverOrder, h *signalbox.Handover, waits []api.EvidenceWait) []api.Check {
	var out []api.Check
	add := func(name string, blocking bool, bad []string, fine, do string) {
		check := api.Check{Name: name, OK: len(bad) == 0, Blocking: blocking, Detail: fine}
		if len(bad) > 0 {
			check.Detail, check.Do = strings.Join(bad, "; "), do
		}
		out = append(out, check)
	}
	var same, nothing, alive []string
	if h.From == h.To {
		same = []string{string(h.To) + " is master already"}
	}
	add("managed", true, same, "the service is managed", "nothing needs to be done")
	add("target-ready", true, c.targetProblems(s, h.To), "the new side is ready", "make its instances ready, or start them")
	for _, w := range waits {
		if w.Nothing {
			nothing = append(nothing, fmt.Sprintf("%s (%s) is silent, and no evidence of the kinds %s can be given for it", w.Instance, w.DataCenter, h.Allowed))
		}
		if !w.Silent {
			alive = append(alive, fmt.Sprintf("%s (%s) can be reached", w.Instance, w.DataCenter))
		}
	}
	add("evidence", true, nothing, "evidence can come for every roster identity", "allow attest (--evidence), or configure a fencing plugin for that data center")
	add("old-side-dead", false, alive, "nobody of the old side can be reached", "a switch would do, and could be given up; a failover cannot")
	add("gateways-connected", false, c.gatewaysDown(), "every gateway can be reached", "")
	for _, f := range c.findings(s, o.Order, true) {
		check := api.Check{Name: string(f.Rule), OK: !f.Blocks, Blocking: o.BreakGlass == "" && f.Rule != signalbox.RuleApprovals, Detail: f.Detail}
		if f.Blocks {
			check.Do = f.Do
		}
		out = append(out, check)
	}
	return out
}

// Missing implements api.Rescuer.
func (c *Coordinator) Missing(ctx context.Context, id string) (out []api.Missing, err error) {
	found := false
	err = c.ask(ctx, func() {
		for _, s := range c.services {
			for _, st := range s.machine.Status(c.opt.Now()) {
				if st.Handover.ID == id {
					found = true
					out = c.missing(s, st)
				}
			}
		}
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: no open handover %q", signalbox.ErrUnknown, id)
	}
	return out, err
}

func (c *Coordinator) missing(s *service, st handover.Status) (out []api.Missing) {
	if st.Certified != 0 {
		return nil
	}
	proven := map[signalbox.Identity]bool{}
	for _, a := range st.Acks {
		proven[a.Identity] = a.Evidence != ""
	}
	for _, e := range st.Handover.Roster {
		if proven[e.Identity] {
			continue
		}
		i := s.instances[e.Identity]
		out = append(out, api.Missing{
			Service: string(s.conf.Name), Handover: st.Handover.ID, Instance: e.Name, DataCenter: string(e.DataCenter), Identity: string(e.Identity),
			Admission: e.Admission, Block: hex.EncodeToString(st.Block.Digest[:]), Below: uint64(st.Handover.Term),
			Allowed: st.Handover.Allowed.String(), Silent: i == nil || !i.reachable(),
		})
	}
	return out
}

// Announce implements api.Rescuer.
func (c *Coordinator) Announce(ctx context.Context, o api.RemovalOrder) (m api.Missing, err error) {
	s := c.services[signalbox.Service(o.Service)]
	if s == nil {
		return m, c.unknown(o.Service)
	}
	allowed := s.conf.Evidence & signalbox.ByOthers
	if allowed == 0 {
		return m, &api.Fault{
			Err: fmt.Errorf("%w: service %s has no evidence configured beside acks and leaves", signalbox.ErrNotConfigured, o.Service),
			Do:  "Set the service's evidence (attest, fence, lapse) in every gateway's configuration.",
		}
	}
	r := &signalbox.Removal{Service: s.conf.Name, Allowed: allowed, By: o.By, Reason: o.Reason}
	var entry signalbox.RosterEntry
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		if entry, err = outstandingNamed(st, o.Instance); err == nil {
			r.Identity, r.Admission, r.Below = entry.Identity, entry.Admission, st.Last+1
			if a := st.Announced[r.Identity]; a != nil && a.Allowed&allowed == allowed {
				m = missingRemoval(a, entry)
			}
		}
	})
	if err != nil || m.Block != "" {
		return m, err
	}
	if err := c.opt.Links.ProposeTo(ctx, signalbox.Request{Remove: r}); err != nil {
		return m, err
	}
	c.opt.Journal.View(func(l *handover.Ledger) {
		if a := l.Service(s.conf.Name).Announced[r.Identity]; a != nil {
			m = missingRemoval(a, entry)
		}
	})
	if m.Block == "" {
		err = fmt.Errorf("%w: a handover or an admission came at the same time; ask again", signalbox.ErrConflict)
	}
	return m, err
}

// outstandingNamed finds an outstanding identity by its name or itself.
func outstandingNamed(st *handover.ServiceState, name string) (signalbox.RosterEntry, error) {
	var found []signalbox.RosterEntry
	if st != nil {
		for id, h := range st.Outstanding {
			if string(id) == name || h.Name == name {
				e, _ := st.Entry(id)
				found = append(found, e)
			}
		}
	}
	switch {
	case len(found) == 0:
		return signalbox.RosterEntry{}, fmt.Errorf("%w: no outstanding instance %q: nobody waits for its evidence", signalbox.ErrUnknown, name)
	case len(found) > 1:
		return signalbox.RosterEntry{}, fmt.Errorf("%w: %d outstanding identities are named %q: give the identity (signalbox instance list -o wide)", signalbox.ErrInvalid, len(found), name)
	}
	return found[0], nil
}

func missingRemoval(a *handover.Announcement, e signalbox.RosterEntry) api.Missing {
	return api.Missing{
		Service: string(a.Service), Instance: e.Name, DataCenter: string(e.DataCenter), Identity: string(e.Identity), Admission: a.Admission,
		Block: hex.EncodeToString(a.Digest[:]), Below: uint64(a.Below), Allowed: a.Allowed.String(), Silent: true,
	}
}

// Submit implements api.Rescuer.
func (c *Coordinator) Submit(ctx context.Context, envelope []byte) (api.Submitted, error) {
	e, id, err := c.SubmitEvidence(ctx, envelope)
	return api.Submitted{Kind: e.Kind.String(), Service: string(e.Service), Identity: string(e.Identity), Handover: id, Removed: err == nil && id == ""}, err
}
