package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

// Rules implements api.Governor.
func (c *Coordinator) Rules(ctx context.Context, name string) (v api.ServiceRules, err error) {
	s := c.services[signalbox.Service(name)]
	if s == nil {
		return v, c.unknown(name)
	}
	err = c.ask(ctx, func() { v = c.rulesView(s) })
	return v, err
}

func (c *Coordinator) rulesView(s *service) api.ServiceRules {
	now, rules := c.opt.Now(), s.conf.Rules
	said, term := c.people(s.conf.Name)
	v := api.ServiceRules{
		Service: string(s.conf.Name), MinStanding: rules.MinStanding, MinIntervalMS: rules.MinInterval.Milliseconds(), Approvals: rules.Approvals,
		Pause: pauseView(said.Pause, now), BreakGlassTotal: said.BrokenTotal,
	}
	for _, d := range s.conf.DependsOn {
		v.DependsOn = append(v.DependsOn, string(d))
	}
	for i := range rules.Freezes {
		f := &rules.Freezes[i]
		until, active := f.Active(now)
		v.Freezes = append(v.Freezes, api.FreezeWindow{Name: f.Name, Active: active, Until: moment(until), Next: moment(f.Next(now))})
	}
	for i := range said.Waiting {
		if said.Waiting[i].Holds(term, now) {
			v.Waiting = append(v.Waiting, orderView(s, &said.Waiting[i]))
		}
	}
	if m := said.Moved; m != nil {
		v.LastMove = &api.Move{Handover: m.ID, From: string(m.From), To: string(m.To), Term: uint64(m.Term), By: m.By, At: m.At}
	}
	for i := range said.Started {
		v.AttestedStarts = append(v.AttestedStarts, *c.startedView(s, &said.Started[i]))
	}
	for i := range said.Broken {
		v.BreakGlass = append(v.BreakGlass, *brokenView(&said.Broken[i]))
	}
	for _, dc := range s.conf.DataCenters {
		for _, f := range c.findings(s, api.Order{Service: v.Service, To: string(dc)}, false) {
			v.Now = append(v.Now, api.RuleState{Rule: string(f.Rule), To: string(dc), Blocks: f.Blocks, Detail: f.Detail, Do: f.Do, Until: moment(f.Until)})
		}
	}
	return v
}

// moment is nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func pauseView(p *policy.Paused, now time.Time) *api.Pause {
	if !p.Holds(now) {
		return nil
	}
	return &api.Pause{Until: p.Until, Since: p.Since, By: p.By, Reason: p.Reason}
}

func orderView(s *service, w *policy.Waiting) api.WaitingOrder {
	v := api.WaitingOrder{
		ID: w.ID, Service: string(w.Service), From: string(w.Order.From), To: string(w.Order.To), By: w.By, Reason: w.Reason,
		Current: signalbox.Expectation{DataCenter: w.Order.From, Term: w.Order.Term}.String(),
		Asked:   w.At, Until: w.Order.Until, Needed: s.conf.Rules.Approvals,
	}
	if w.Mandate != nil {
		v.Mandate = w.Mandate.Proof
	}
	for _, a := range w.Approved {
		v.Approved = append(v.Approved, api.Approved{By: a.By, Reason: a.Reason, At: a.At})
	}
	return v
}

func (c *Coordinator) startedView(s *service, x *policy.Started) *api.AttestedStart {
	v := &api.AttestedStart{Identity: string(x.Identity), Term: uint64(x.Term), By: x.By, Reason: x.Reason, At: x.At}
	if i := c.instanceByID(s, x.Identity); i != nil {
		v.Instance = i.Name
	}
	return v
}

func brokenView(b *policy.Broken) *api.BrokenGlass {
	v := glassView(&b.BreakGlass, b.By)
	at := b.At
	v.Handover, v.Term, v.At = b.ID, uint64(b.Term), &at
	return v
}

// glassView is nil where no glass was broken.
func glassView(b *signalbox.BreakGlass, by string) *api.BrokenGlass {
	if b == nil {
		return nil
	}
	v := &api.BrokenGlass{By: by, Reason: b.Reason, Overrides: []string{}}
	for _, r := range b.Overrides {
		v.Overrides = append(v.Overrides, string(r))
	}
	return v
}

// showPeople adds to a service's view what people said of it.
func (c *Coordinator) showPeople(s *service, v *api.Service) {
	now := c.opt.Now()
	said, term := c.people(s.conf.Name)
	v.Paused = pauseView(said.Pause, now)
	for i := range said.Waiting {
		if said.Waiting[i].Holds(term, now) {
			v.Approvals = append(v.Approvals, said.Waiting[i].ID)
		}
	}
	if n := len(said.Started); n > 0 {
		v.AttestedStart = c.startedView(s, &said.Started[n-1])
	}
	if n := len(said.Broken); n > 0 {
		v.BreakGlass = brokenView(&said.Broken[n-1])
	}
}

// heardPeople publishes what people said, as it is applied from the log.
func (c *Coordinator) heardPeople(s *service, r *signalbox.Request) {
	if !c.loaded {
		return // history: whoever watches has seen it
	}
	switch {
	case r.Started != nil:
		c.event(s, api.EventNote, "", fmt.Sprintf("%s started %s without a quorum of voters at term %d: %s", r.Started.By(), r.Started.ID, r.Started.Term, r.Started.Reason))
	case r.Pause != nil && r.Pause.Resumes():
		c.event(s, api.EventNote, "", r.Pause.By+" ended the pause"+because(r.Pause.Reason))
	case r.Pause != nil:
		c.event(s, api.EventNote, "", r.Pause.By+" paused it until "+r.Pause.Until.UTC().Format(time.RFC3339)+because(r.Pause.Reason))
	case r.Approval != nil && r.Approval.Order != nil:
		c.event(s, api.EventNote, "", r.Approval.By+" wants to move it to "+string(r.Approval.Order.To)+because(r.Approval.Reason)+
			"; it waits for approval: signalbox cutover approve "+r.Approval.ID)
	case r.Approval != nil:
		c.event(s, api.EventNote, "", r.Approval.By+" approved "+r.Approval.ID+because(r.Approval.Reason))
	case r.Handover != nil && r.Handover.BreakGlass != nil:
		c.opt.Metrics.glassBroken(string(s.conf.Name))
		line := newEvent(c.opt.Now(), api.EventNote, string(s.conf.Name), "", glassLine(r.Handover))
		line.Handover, line.Gateway, line.Term = r.Handover.ID, c.opt.Gateway, uint64(r.Handover.Term)
		if rec := s.recordOf(r.Handover.ID); rec != nil {
			rec.line(line)
		}
		c.opt.Events.Publish(line)
		c.opt.Logger.Warn().Str("handover", r.Handover.ID).Str("service", string(s.conf.Name)).Msg(line.Detail)
	}
}

func glassLine(h *signalbox.Handover) string {
	text := "BREAK-GLASS by " + h.By + ": overrides"
	for i, r := range h.BreakGlass.Overrides {
		text += map[bool]string{true: " ", false: ", "}[i == 0] + string(r)
	}
	return text + because(h.BreakGlass.Reason)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
