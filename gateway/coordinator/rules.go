package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc"
)

// people returns what people said of a service, and what moved; a copy that
// nobody changes.
func (c *Coordinator) people(name signalbox.Service) (said policy.State, term signalbox.Term) {
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(name); st != nil {
			said, term = st.Policy, st.Term()
		}
	})
	return said, term
}

// findings are what the safety rules say now about an order that is planned, or
// a failover; nil where there is nothing to move, or a failover would supersede
// what is open.
func (c *Coordinator) findings(s *service, o api.Order, unplanned bool) []policy.Finding {
	cert := s.machine.Certificate()
	if cert == nil || string(cert.DataCenter()) == o.To || s.conf.Observe || unplanned && c.isOpen(s) {
		return nil
	}
	said, term := c.people(s.conf.Name)
	return policy.Decide(s.conf.Rules, &said, policy.Move{
		ID: o.ID, Service: s.conf.Name, From: cert.DataCenter(), To: signalbox.DataCenter(o.To), Term: term, By: o.By,
		Standing: c.standing(s, signalbox.DataCenter(o.To)), Unplanned: unplanned,
	}, c.opt.Now())
}

// standing counts the instances that stand ready in a data center.
func (c *Coordinator) standing(s *service, dc signalbox.DataCenter) (ready int) {
	for _, id := range c.candidates(s, dc) {
		if s.instances[id].newest().status.GetReady() {
			ready++
		}
	}
	return ready
}

// looked are all checks of an order: readiness, the safety rules and, for a
// failback, the side that it goes back to. Approvals block nobody who plans: the
// order is what asks for them.
func (c *Coordinator) looked(s *service, o api.Order, proxies []*proxyView) []api.Check {
	out := c.checks(s, signalbox.DataCenter(o.To), proxies)
	for _, f := range c.findings(s, o, false) {
		check := api.Check{Name: string(f.Rule), OK: !f.Blocks, Blocking: true, Detail: f.Detail}
		if f.Blocks {
			check.Do = f.Do
		}
		if f.Blocks && f.Rule == signalbox.RuleApprovals {
			check.Blocking = false
		}
		if f.Blocks && o.BreakGlass != "" {
			check.Blocking = false
			check.Detail += "; break-glass overrides it"
		}
		out = append(out, check)
	}
	if o.Failback {
		out = append(out, c.oldSide(s, signalbox.DataCenter(o.To)))
	}
	return out
}

// oldSide says what the side that a failback goes to has to do first.
func (c *Coordinator) oldSide(s *service, to signalbox.DataCenter) api.Check {
	var away []string
	back := 0
	c.opt.Journal.View(func(l *handover.Ledger) {
		for _, in := range l.Instances(s.conf.Name) {
			if in.DataCenter != to || c.replaced(s, in) {
				continue
			}
			if i := s.instances[in.Identity]; i != nil && i.reachable() && !i.leaving() {
				back++
			} else {
				away = append(away, in.Name)
			}
		}
	})
	check := api.Check{Name: "old-side-back", OK: len(away) == 0, Detail: fmt.Sprintf("all %d instances that %s had are back", back, to)}
	if len(away) > 0 {
		slices.Sort(away)
		check.Detail = fmt.Sprintf("%s had %s too, and nobody hears of it", to, strings.Join(away, ", "))
		check.Do = "start its agent there and let it catch up; what is gone for good holds nothing up"
	}
	return check
}

// replaced reports whether another identity of the same name is heard from: a
// machine that came back with a new key.
func (c *Coordinator) replaced(s *service, in signalbox.Instance) bool {
	for id, i := range s.instances {
		if id != in.Identity && i.Name == in.Name && i.DataCenter == in.DataCenter && i.reachable() {
			return true
		}
	}
	return false
}

// isOpen reports whether the log has an open handover of the service.
func (c *Coordinator) isOpen(s *service) (open bool) {
	c.opt.Journal.View(func(l *handover.Ledger) {
		st := l.Service(s.conf.Name)
		open = st != nil && len(st.Open) > 0
	})
	return open
}

// moveWanted is the handover that a plan would make, as far as rules look at it.
func (c *Coordinator) moveWanted(s *service, o api.Order, p api.Plan, signed *signalbox.Mandate) *signalbox.Handover {
	h := &signalbox.Handover{
		ID: o.ID, Service: s.conf.Name, From: signalbox.DataCenter(p.From), To: signalbox.DataCenter(p.To), Allowed: signalbox.AckOnly,
		HoldBudget: c.budget(s, o), AllowLateProxies: o.AllowLateProxies, By: o.By, Mandate: signed,
	}
	for _, m := range p.Incoming {
		h.Incoming = append(h.Incoming, signalbox.Identity(m.Identity))
	}
	return h
}

// consent asks the safety rules about a handover that could begin otherwise. What
// break-glass overrides is returned; without it, an order that only lacks
// approval is put into the log, where it waits.
func (c *Coordinator) consent(ctx context.Context, s *service, o api.Order, h *signalbox.Handover) (*signalbox.BreakGlass, error) {
	if c.isOpen(s) {
		return nil, nil // it ends what is open: no rule holds that up
	}
	said, term := c.people(s.conf.Name)
	findings := policy.Decide(s.conf.Rules, &said, policy.MoveOf(h, term), c.opt.Now())
	blocking := policy.Blocking(findings)
	switch {
	case len(blocking) == 0:
		return nil, nil
	case o.BreakGlass != "":
		return c.breakGlass(o, h, blocking)
	case !slices.Equal(blocking, []signalbox.SafetyRule{signalbox.RuleApprovals}):
		return nil, c.refusedBy(s, findings)
	}
	return nil, c.askFor(ctx, s, o, h, term)
}

// breakGlass overrides the rules that block; who signed named them, and no others
// are.
func (c *Coordinator) breakGlass(o api.Order, h *signalbox.Handover, blocking []signalbox.SafetyRule) (*signalbox.BreakGlass, error) {
	glass := &signalbox.BreakGlass{Reason: o.BreakGlass, Overrides: blocking}
	if m := h.Mandate; m != nil {
		for _, r := range blocking {
			if m.BreakGlass == nil || !slices.Contains(m.BreakGlass.Overrides, r) {
				return nil, &api.Fault{
					Err: fmt.Errorf("%w: %s blocks too, and what %s signed does not override it", signalbox.ErrRefused, r, m.By()),
					Do:  "Look at the rules (signalbox service rules " + string(h.Service) + ") and give the order again: it is signed anew, for the rules that block then.",
				}
			}
		}
	}
	return glass, glass.Check()
}

// mandateOf reads the signature of an order. It is verified by voters, with the
// order.
func mandateOf(o api.Order) (*signalbox.Mandate, error) { return inspect(o.Mandate) }

func inspect(proof []byte) (*signalbox.Mandate, error) {
	if len(proof) == 0 {
		return nil, nil
	}
	m, err := rpc.InspectMandate(proof)
	if err != nil {
		return nil, fmt.Errorf("read signed order: %w", err)
	}
	return m, nil
}

// refusedBy counts a refusal and says why.
func (c *Coordinator) refusedBy(s *service, findings []policy.Finding) error {
	f := &api.Fault{Err: policy.Refuse(findings, nil), Do: "Wait, or do what the rule says. --break-glass REASON overrides it; the reason is shown for ever."}
	for _, finding := range findings {
		if finding.Blocks {
			c.opt.Metrics.ruleRefused(string(s.conf.Name), string(finding.Rule))
			f.Checks = append(f.Checks, api.Check{Name: string(finding.Rule), Blocking: true, Detail: finding.Detail, Do: finding.Do})
		}
	}
	return f
}

// askFor has an order wait for approval; a repeated one waits on.
func (c *Coordinator) askFor(ctx context.Context, s *service, o api.Order, h *signalbox.Handover, term signalbox.Term) error {
	said, _ := c.people(s.conf.Name)
	if w := said.Order(o.ID); w == nil {
		wait := s.conf.Rules.ApprovalWait
		if wait <= 0 {
			wait = policy.DefaultApprovalWait
		}
		order := &signalbox.Order{
			From: h.From, To: h.To, Term: term, HoldBudget: h.HoldBudget, AllowLateProxies: h.AllowLateProxies, Allowed: h.Allowed,
			Until: c.opt.Now().Add(wait),
		}
		request := signalbox.Request{Approval: &signalbox.Approval{Service: s.conf.Name, ID: o.ID, By: o.By, Reason: o.Reason, Order: order, Mandate: h.Mandate}}
		if err := c.opt.Links.ProposeTo(ctx, request); err != nil && !errors.Is(err, signalbox.ErrConflict) {
			return err
		}
	}
	said, term = c.people(s.conf.Name)
	move := policy.MoveOf(h, term)
	for _, f := range policy.Decide(s.conf.Rules, &said, move, c.opt.Now()) {
		if f.Rule == signalbox.RuleApprovals && f.Blocks {
			c.opt.Metrics.ruleRefused(string(s.conf.Name), string(f.Rule))
			return &api.Fault{
				Err: fmt.Errorf("%w %s: %s", signalbox.ErrRefused, f.Rule, f.Detail), Code: api.CodeApproval, Handover: o.ID,
				Do: f.Do + ". The order begins with the last approval that is needed.",
			}
		}
	}
	return fmt.Errorf("%w: the order was approved meanwhile; ask again", signalbox.ErrConflict)
}

// Pause implements api.Governor.
func (c *Coordinator) Pause(ctx context.Context, name string, until time.Time, word api.Word) (api.ServiceRules, error) {
	s := c.services[signalbox.Service(name)]
	if s == nil {
		return api.ServiceRules{}, c.unknown(name)
	}
	mandate, err := inspect(word.Mandate)
	if err != nil {
		return api.ServiceRules{}, err
	}
	request := signalbox.Request{Pause: &signalbox.Pause{Service: s.conf.Name, Until: until, By: word.By, Reason: word.Reason, Mandate: mandate}}
	if err := c.opt.Links.ProposeTo(ctx, request); err != nil {
		if errors.Is(err, signalbox.ErrConflict) && request.Pause.Resumes() {
			return api.ServiceRules{}, &api.Fault{Err: err, Do: "Nothing holds it: signalbox service rules " + name + " says what else may."}
		}
		return api.ServiceRules{}, err
	}
	return c.Rules(ctx, name)
}

func (c *Coordinator) unknown(name string) error {
	return fmt.Errorf("%w: service %q is not in the gateways' configuration", signalbox.ErrUnknown, name)
}

// Approve implements api.Governor.
func (c *Coordinator) Approve(ctx context.Context, id string, word api.Word) (out api.ApproveReply, err error) {
	s, w := c.orderOf(id)
	if w == nil {
		h, err := c.Handover(ctx, id)
		if err != nil {
			return out, &api.Fault{
				Err: fmt.Errorf("%w: no order %q waits for approval: it ran out, or the service moved since", signalbox.ErrUnknown, id),
				Do:  "signalbox status names the orders that wait, and signalbox service rules SERVICE shows them.",
			}
		}
		out.Handover = &h // it began already
		return out, nil
	}
	before := slices.ContainsFunc(w.Approved, func(a policy.Approved) bool { return a.By == word.By })
	if !before {
		mandate, err := inspect(word.Mandate)
		if err != nil {
			return out, err
		}
		request := signalbox.Request{Approval: &signalbox.Approval{Service: s.conf.Name, ID: id, By: word.By, Reason: word.Reason, Mandate: mandate}}
		if err := c.opt.Links.ProposeTo(ctx, request); err != nil {
			return out, err
		}
	}
	if _, w = c.orderOf(id); w == nil { // the one who asked was quicker
		h, err := c.Handover(ctx, id)
		out.Handover = &h
		return out, err
	}
	out.Order = orderView(s, w)
	if len(w.Approved) < s.conf.Rules.Approvals {
		return out, nil
	}
	order := api.Order{
		ID: id, Service: string(s.conf.Name), To: string(w.Order.To), By: w.By, Reason: w.Approval.Reason,
		Expect:     signalbox.Expectation{DataCenter: w.Order.From, Term: w.Order.Term}.String(),
		HoldBudget: w.Order.HoldBudget, AllowLateProxies: w.Order.AllowLateProxies,
	}
	if w.Mandate != nil {
		order.Mandate = w.Mandate.Proof
	}
	h, err := c.beginApproved(ctx, w.Order.Allowed, order)
	if err != nil {
		return out, notBegun(id, err)
	}
	out.Handover = &h
	return out, nil
}

// beginApproved begins an order as it was approved: with others' evidence it is
// a failover.
func (c *Coordinator) beginApproved(ctx context.Context, allowed signalbox.EvidenceKinds, o api.Order) (api.Handover, error) {
	if others := allowed & signalbox.ByOthers; others != 0 {
		return c.Failover(ctx, api.FailoverOrder{Order: o, Evidence: others.String()})
	}
	return c.Switch(ctx, o)
}

// notBegun says that an approved order waits on.
func notBegun(id string, err error) error {
	f := &api.Fault{Err: fmt.Errorf("approved, and not begun: %w", err), Do: "Mend that, then begin it: signalbox cutover approve " + id}
	var known *api.Fault
	if errors.As(err, &known) {
		f.Checks, f.Current, f.Handover = known.Checks, known.Current, known.Handover
	}
	return f
}

// orderOf finds the order of an id that waits and holds.
func (c *Coordinator) orderOf(id string) (*service, *policy.Waiting) {
	for _, s := range c.services {
		said, term := c.people(s.conf.Name)
		if w := said.Order(id); w != nil && w.Holds(term, c.opt.Now()) {
			return s, w
		}
	}
	return nil, nil
}
