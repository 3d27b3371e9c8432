package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
)

// maxAttempts is how often an order is planned anew because the log moved on;
// catchUp is how long the own log is waited for meanwhile.
const (
	maxAttempts = 3
	catchUp     = 300 * time.Millisecond
)

// heardWait is how fresh an instance's last word has to be before a switch
// starts; freshWait bounds how long it is waited for.
const (
	heardWait = 4 * tickIdle
	freshWait = 700 * time.Millisecond
)

// Plan implements api.Conductor.
func (c *Coordinator) Plan(ctx context.Context, o api.Order) (api.Plan, error) {
	var p api.Plan
	s, err := c.target(o)
	if err != nil {
		return p, err
	}
	c.listen(ctx, s)
	var fault error
	err = c.ask(ctx, func() { p, fault = c.plan(s, o) })
	if err != nil {
		return p, err
	}
	return p, fault
}

// target checks an order's names.
func (c *Coordinator) target(o api.Order) (*service, error) {
	s := c.services[signalbox.Service(o.Service)]
	if s == nil {
		return nil, fmt.Errorf("%w: service %q is not in the gateways' configuration", signalbox.ErrUnknown, o.Service)
	}
	for _, dc := range s.conf.DataCenters {
		if string(dc) == o.To {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: data center %q of service %s; it has %v", signalbox.ErrUnknown, o.To, o.Service, s.conf.DataCenters)
}

// listen asks the local agents for their status and gives everybody a moment to
// be heard from; peers' statuses come by themselves.
func (c *Coordinator) listen(ctx context.Context, s *service) {
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	ping := time.NewTicker(20 * time.Millisecond)
	defer ping.Stop()
	asked := false
	for {
		fresh := true
		err := c.ask(ctx, func() {
			now := c.opt.Now()
			if !asked {
				c.opt.Links.SendAll(pingFrame(now))
			}
			for _, i := range s.instances {
				n := i.newest()
				if i.reachable() && n != nil && now.Sub(n.at) > heardWait {
					fresh = false
				}
			}
			asked = true
		})
		if err != nil || fresh {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ping.C:
		}
	}
}

func (c *Coordinator) plan(s *service, o api.Order) (api.Plan, error) {
	cert := s.machine.Certificate()
	p := api.Plan{Service: o.Service, To: o.To, HoldBudgetMS: c.budget(s, o).Milliseconds(), Allowed: signalbox.AckOnly.String()}
	if cert != nil {
		p.From = string(cert.DataCenter())
		p.Current = signalbox.Expectation{DataCenter: cert.DataCenter(), Term: cert.Term}.String()
	}
	if o.Expect != "" && o.Expect != p.Current {
		return p, &api.Fault{Err: fmt.Errorf("%w: %s was expected, certified is %s", signalbox.ErrExpectation, o.Expect, p.Current), Current: p.Current}
	}
	proxies := c.allProxies()
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(s.conf.Name); st != nil {
			p.Term, p.FallbackTerm = uint64(st.Last)+1, uint64(st.Last)+2
		}
		for _, e := range l.Roster(s.conf.Name, signalbox.DataCenter(o.To)) {
			p.Roster = append(p.Roster, c.member(s, e.Identity, e.Name, string(e.DataCenter), e.Admission))
		}
	})
	for _, id := range c.incoming(s, signalbox.DataCenter(o.To)) {
		p.Incoming = append(p.Incoming, c.member(s, id, s.instances[id].Name, o.To, 0))
	}
	for _, px := range proxies {
		for _, ps := range px.state.GetServices() {
			if ps.GetService() == o.Service {
				p.Proxies++
			}
		}
	}
	p.Checks, p.Ready = c.looked(s, o, proxies), true
	for _, check := range p.Checks {
		if check.Blocking && !check.OK {
			p.Ready = false
			p.Blocks = append(p.Blocks, check.Detail+"; "+check.Do)
		}
	}
	p.PredictedHoldMS, p.PredictedFrom = s.predicted()
	return p, nil
}

func (c *Coordinator) budget(s *service, o api.Order) time.Duration {
	if o.HoldBudget > 0 {
		return o.HoldBudget
	}
	return s.conf.HoldBudget
}

func (c *Coordinator) member(s *service, id signalbox.Identity, name, dc string, admission uint64) api.Member {
	m := api.Member{Instance: name, DataCenter: dc, Identity: string(id), Admission: admission, State: stateSilent}
	if i := s.instances[id]; i != nil {
		if n := i.newest(); n != nil && i.reachable() {
			m.State, m.InFlight, m.Problem = n.status.GetState(), n.status.GetInFlight(), n.status.GetProblem()
			m.LagBytes, m.LagMS = n.status.GetLagBytes(), n.status.GetLagNano()/int64(time.Millisecond)
			m.Problems = problemViews(n.status)
		}
	}
	return m
}

// checks are what is looked at before a switch.
func (c *Coordinator) checks(s *service, to signalbox.DataCenter, proxies []*proxyView) []api.Check {
	check := func(name string, bad []string, fine, do string) api.Check {
		if len(bad) == 0 {
			return api.Check{Name: name, OK: true, Blocking: true, Detail: fine}
		}
		sort.Strings(bad)
		return api.Check{Name: name, Blocking: true, Detail: strings.Join(bad, "; "), Do: do}
	}
	managed, manage := c.unmanaged(s, to)
	warning := func(c api.Check) api.Check {
		c.Blocking = false
		return c
	}
	heard := check("roster-heard", c.rosterSilent(s, to), "every roster instance was heard from just now", "start its agent again; its silence is no evidence. If it is off for good: signalbox instance attest; if its data center is dead: signalbox failover")
	if silent := c.silentRoster(s, to); c.lapsable(s, silent) {
		heard.Blocking, heard.Do = false, "their leases lapse and they are removed first, which takes some seconds"
	}
	problems, refuse := c.named(s, to)
	return []api.Check{
		check("managed", managed, "the service is managed", manage),
		check("no-open-handover", c.openWords(s), "no other handover is open", "follow it: signalbox watch "+string(s.conf.Name)),
		check("gateways-connected", c.gatewaysDown(), "every gateway can be reached", "start them, or look at the network between"),
		check("configured-alike", c.different(s), "every gateway that can be reached has it configured alike", makeAlike),
		heard,
		check("target-ready", c.targetProblems(s, to), "the new side is ready", "make its instances ready, or start them"),
		check("proxies-synced", c.proxiesLate(s, proxies), "every connected proxy has the certified route", "see signalbox proxy list; a proxy that cannot follow should be stopped"),
		check("step-down", refuse, "no driver would refuse to step down", "what is named in parentheses"),
		warning(check("drivers", problems, "no driver names a problem", "")),
	}
}

// unmanaged says why there is nothing to move, and what to do about it.
func (c *Coordinator) unmanaged(s *service, to signalbox.DataCenter) (bad []string, do string) {
	cert := s.machine.Certificate()
	switch {
	case s.conf.Observe:
		return []string{"the service is only observed"}, "set mode: manage in the gateways' configuration and restart them"
	case cert == nil:
		return []string{"the service has no term yet"}, "adopt it where it runs: signalbox service adopt " + string(s.conf.Name)
	case cert.DataCenter() == to:
		return []string{string(to) + " is master already"}, "nothing needs to be done"
	}
	return nil, ""
}

func (c *Coordinator) openWords(s *service) (bad []string) {
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(s.conf.Name); st != nil {
			for _, b := range st.Open {
				bad = append(bad, fmt.Sprintf("handover %s is open", b.Handover(s.conf.Name).ID))
			}
		}
	})
	return bad
}

func (c *Coordinator) gatewaysDown() (bad []string) {
	for name := range c.opt.Peers {
		if !c.peersUp[name] {
			bad = append(bad, "gateway "+name+" cannot be reached")
		}
	}
	return bad
}

func (c *Coordinator) rosterSilent(s *service, to signalbox.DataCenter) (bad []string) {
	for _, e := range c.silentRoster(s, to) {
		bad = append(bad, fmt.Sprintf("%s (%s) is silent", e.Name, e.DataCenter))
	}
	return bad
}

func (c *Coordinator) targetProblems(s *service, to signalbox.DataCenter) (bad []string) {
	ready := 0
	for _, id := range c.candidates(s, to) {
		n := s.instances[id].newest().status
		if n.GetReady() {
			ready++
		} else {
			problem := n.GetProblem()
			if problem == "" {
				problem = "it does not say why"
			}
			bad = append(bad, fmt.Sprintf("%s is not ready: %s", s.instances[id].Name, problem))
		}
	}
	if ready == 0 && len(bad) == 0 {
		bad = append(bad, fmt.Sprintf("no instance of %s in %s can be reached", s.conf.Name, to))
	}
	return bad
}

func (c *Coordinator) proxiesLate(s *service, proxies []*proxyView) (bad []string) {
	for _, p := range proxies {
		for _, ps := range p.state.GetServices() {
			if ps.GetService() != string(s.conf.Name) {
				continue
			}
			if ps.GetProblem() != "" {
				bad = append(bad, fmt.Sprintf("%s rejected its configuration: %s", p.state.GetId(), ps.GetProblem()))
			} else if ps.GetTerm() < uint64(s.released) {
				bad = append(bad, fmt.Sprintf("%s has term %d", p.state.GetId(), ps.GetTerm()))
			}
		}
	}
	return bad
}

// Switch implements api.Conductor.
func (c *Coordinator) Switch(ctx context.Context, o api.Order) (api.Handover, error) {
	if v, err := c.Handover(ctx, o.ID); err == nil {
		return v, nil
	}
	started := c.opt.Now()
	s, err := c.target(o)
	if err != nil {
		return api.Handover{}, err
	}
	for attempt := 1; ; attempt++ {
		v, err := c.try(ctx, s, o, started)
		var f *api.Fault
		another := errors.As(err, &f) && f.Handover != ""
		if another && f.Handover == o.ID && errors.Is(err, signalbox.ErrConflict) {
			return c.begun(ctx, o.ID)
		}
		if !errors.Is(err, signalbox.ErrConflict) || another || attempt == maxAttempts {
			return v, err
		}
		// This gateway was a little behind the log; it has caught up since.
	}
}

// try plans once and has the handover decided.
func (c *Coordinator) try(ctx context.Context, s *service, o api.Order, started time.Time) (api.Handover, error) {
	p, err := c.Plan(ctx, o)
	if err != nil {
		return api.Handover{}, err
	}
	if !p.Ready {
		return api.Handover{}, c.notReady(p)
	}
	mandate, err := mandateOf(o)
	if err != nil {
		return api.Handover{}, err
	}
	glass, err := c.consent(ctx, s, o, c.moveWanted(s, o, p, mandate))
	if err != nil {
		return api.Handover{}, err
	}
	prepared, err := c.prepare(ctx, s, p)
	if err != nil {
		return api.Handover{}, err
	}
	cleared, err := c.clearSilent(ctx, s, signalbox.DataCenter(o.To), o.By)
	if err != nil {
		return api.Handover{}, err
	}
	if prepared || cleared { // it took its time: look again
		if p, err = c.Plan(ctx, o); err != nil {
			return api.Handover{}, err
		}
		if !p.Ready {
			return api.Handover{}, c.notReady(p)
		}
	}
	h := &signalbox.Handover{
		ID: o.ID, Service: s.conf.Name, Term: signalbox.Term(p.Term), Fallback: signalbox.Term(p.FallbackTerm),
		From: signalbox.DataCenter(p.From), To: signalbox.DataCenter(p.To), Allowed: signalbox.AckOnly,
		HoldBudget: c.budget(s, o), AllowLateProxies: o.AllowLateProxies, By: o.By, Reason: o.Reason,
		BreakGlass: glass, Mandate: mandate,
	}
	for _, m := range p.Incoming {
		h.Incoming = append(h.Incoming, signalbox.Identity(m.Identity))
	}
	c.fill(s, h)
	return c.decide(ctx, s, h, started)
}

func (c *Coordinator) notReady(p api.Plan) error {
	f := &api.Fault{Current: p.Current}
	for _, check := range p.Checks {
		if !check.OK && check.Blocking {
			f.Checks = append(f.Checks, check)
		}
	}
	sentinel := signalbox.ErrNotReady
	for _, check := range f.Checks {
		switch check.Name {
		case "no-open-handover":
			f.Err = fmt.Errorf("%w: %s", signalbox.ErrConflict, check.Detail)
			f.Handover = strings.TrimSuffix(strings.TrimPrefix(check.Detail, "handover "), " is open")
			return f
		case "managed":
			sentinel = signalbox.ErrRefused
		}
		if slices.Contains(signalbox.SafetyRules(), signalbox.SafetyRule(check.Name)) {
			sentinel = signalbox.ErrRefused
			f.Do = "Wait, or do what the rule says. --break-glass REASON overrides it; the reason is shown for ever."
			c.opt.Metrics.ruleRefused(p.Service, check.Name)
		}
	}
	f.Err = fmt.Errorf("%w: %s", sentinel, strings.Join(p.Blocks, "; "))
	return f
}

// decide has a handover decided and returns it as far as it is.
func (c *Coordinator) decide(ctx context.Context, s *service, h *signalbox.Handover, started time.Time) (api.Handover, error) {
	c.remember(h.ID, started)
	if err := c.opt.Links.ProposeTo(ctx, signalbox.Request{Handover: h}); err != nil {
		if errors.Is(err, signalbox.ErrConflict) {
			f := &api.Fault{Err: err, Handover: c.winner(ctx, s, h.Term)}
			if f.Handover != "" {
				f.Err = fmt.Errorf("%w: handover %s came first", signalbox.ErrConflict, f.Handover)
			}
			return api.Handover{}, f
		}
		return api.Handover{}, err
	}
	return c.begun(ctx, h.ID)
}

// winner names the handover that took the term; empty when what the own log
// lacked was something else, or does not come soon.
func (c *Coordinator) winner(ctx context.Context, s *service, term signalbox.Term) (id string) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	changed := c.opt.Journal.Changed()
	look := func() {
		c.applyLog()
		if newest, open := s.machine.Open(); open {
			id = newest.Handover(s.conf.Name).ID
		} else if cert := s.machine.Certificate(); cert != nil && cert.Term >= term {
			id = cert.Handover().ID
		}
	}
	if c.ask(ctx, look) != nil || id != "" {
		return id
	}
	select {
	case <-changed:
		_ = c.ask(ctx, look) // without an answer nobody is named
	case <-ctx.Done():
	}
	return id
}

// remember keeps when a handover was asked for: its record begins there.
func (c *Coordinator) remember(id string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requested) > 1000 {
		c.requested = map[string]time.Time{}
	}
	c.requested[id] = at
}

func (c *Coordinator) asked(id string) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.requested[id]
	return at, ok
}

// Adopt implements api.Conductor.
func (c *Coordinator) Adopt(ctx context.Context, o api.Order) (api.Handover, error) {
	if v, err := c.Handover(ctx, o.ID); err == nil {
		return v, nil
	}
	s, err := c.target(o)
	if err != nil {
		return api.Handover{}, err
	}
	if s.conf.Observe {
		return api.Handover{}, fmt.Errorf("%w: service %s is only observed; set mode: manage in the gateways' configuration first", signalbox.ErrRefused, o.Service)
	}
	h := &signalbox.Handover{
		ID: o.ID, Service: s.conf.Name, Term: 1, To: signalbox.DataCenter(o.To), Allowed: signalbox.AckOnly,
		HoldBudget: c.budget(s, o), By: o.By, Reason: o.Reason,
	}
	var elsewhere []string
	err = c.ask(ctx, func() { h.Incoming, elsewhere = c.incoming(s, h.To), c.servingElsewhere(s, h.To) })
	switch {
	case err != nil:
		return api.Handover{}, err
	case len(elsewhere) > 0:
		return api.Handover{}, fmt.Errorf("%w: %s says that it serves %s; adopt it there, and switch afterwards",
			signalbox.ErrRefused, strings.Join(elsewhere, ", "), s.conf.Name)
	}
	c.fill(s, h)
	return c.decide(ctx, s, h, c.opt.Now())
}

// servingElsewhere names the instances outside dc that say, or last said, that
// they serve. An adoption takes no evidence from anybody, so it must not make a
// second master of a data center beside the one that runs.
func (c *Coordinator) servingElsewhere(s *service, dc signalbox.DataCenter) (names []string) {
	if s.machine.Certificate() != nil {
		return nil // adopted already: the log says so better
	}
	for _, i := range s.instances {
		if v := i.newest(); i.DataCenter != dc && v != nil && v.status.GetState() == stateServing {
			names = append(names, fmt.Sprintf("%s (%s)", i.Name, i.DataCenter))
		}
	}
	sort.Strings(names)
	return names
}

// GiveUp implements api.Conductor.
func (c *Coordinator) GiveUp(ctx context.Context, id, by, reason string) (v api.Handover, err error) {
	var fault error
	err = c.ask(ctx, func() {
		for _, s := range c.services {
			for _, st := range s.machine.Status(c.opt.Now()) {
				if st.Handover.ID != id {
					continue
				}
				switch {
				case !st.Handover.Voidable():
					fault = fmt.Errorf("%w: handover %s cannot be voided", signalbox.ErrRefused, id)
				case st.Certified != 0:
					fault = fmt.Errorf("%w: handover %s is certified (term %d); switch back instead", signalbox.ErrRefused, id, st.Certified)
				default:
					c.step(s, handover.GiveUp{Block: st.Block.Digest, Problem: fmt.Sprintf("given up by %s: %s", by, reason)})
				}
				return
			}
		}
		fault = fmt.Errorf("%w: no open handover %q", signalbox.ErrUnknown, id)
	})
	if err == nil {
		err = fault
	}
	if err != nil {
		return v, err
	}
	return c.Handover(ctx, id)
}
