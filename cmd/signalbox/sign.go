package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// signer signs orders with the operator's own keys, which stay here. The zero
// value signs nothing: a bundle without an operator's key gives orders that the
// gateways name by its certificate.
type signer struct {
	bundle *identity.Bundle
	tls    tls.Certificate
}

func newSigner(cmd *cobra.Command) (*signer, error) {
	b, err := bundleOf(cmd)
	if err != nil || b.Operator == nil {
		return &signer{}, err
	}
	pair, err := tls.LoadX509KeyPair(b.Files().Certificate, b.Files().Key)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return &signer{bundle: b, tls: pair}, nil
}

func (s *signer) by() string { return "operator/" + s.bundle.Self.Name }

// seal signs one order.
func (s *signer) seal(m signalbox.Mandate) ([]byte, error) {
	m.Operator, m.At = s.bundle.Self.Name, time.Now()
	return rpc.SealMandate(s.bundle.Cluster.Name, m, s.bundle.Operator, s.tls)
}

// move is a switch or a failover that is to be signed.
type move struct {
	verb               signalbox.Verb
	service, to, id    string
	evidence           string
	holdBudgetMS       int64
	allowLate          bool
	reason, breakGlass string
	checks             []api.Check // of the plan, which says what break-glass overrides
	current            signalbox.Expectation
}

// sign signs a move of what is certified now.
func (s *signer) sign(ctx context.Context, c *client.Client, m move) ([]byte, error) {
	if s.bundle == nil {
		return nil, nil
	}
	if m.current.Term == 0 {
		v, err := c.Service(ctx, m.service)
		if err != nil {
			return nil, err
		}
		m.current = signalbox.Expectation{DataCenter: signalbox.DataCenter(v.Master), Term: signalbox.Term(v.Term)}
	}
	if m.current.Term == 0 || string(m.current.DataCenter) == m.to && m.verb == signalbox.VerbSwitch {
		return nil, nil // there is nothing to move: the gateway says why
	}
	glass, err := m.glass(ctx, c)
	if err != nil {
		return nil, err
	}
	kinds, err := signalbox.ParseEvidenceKinds(m.evidence)
	if err != nil {
		return nil, err
	}
	return s.seal(signalbox.Mandate{
		Verb: m.verb, Service: signalbox.Service(m.service), ID: m.id, From: m.current.DataCenter, To: signalbox.DataCenter(m.to), Term: m.current.Term,
		HoldBudget: time.Duration(m.holdBudgetMS) * time.Millisecond, AllowLateProxies: m.allowLate,
		Allowed: kinds &^ signalbox.AckOnly, BreakGlass: glass, Reason: m.reason,
	})
}

// glass names the rules that block now: these are overridden, and no others.
func (m *move) glass(ctx context.Context, c *client.Client) (*signalbox.BreakGlass, error) {
	if m.breakGlass == "" {
		return nil, nil
	}
	if m.checks == nil {
		plan, err := c.Plan(ctx, api.SwitchRequest{Service: m.service, To: m.to, HoldBudgetMS: m.holdBudgetMS, AllowLateProxies: m.allowLate, BreakGlass: m.breakGlass})
		if err != nil {
			return nil, err
		}
		m.checks = plan.Checks
	}
	glass := &signalbox.BreakGlass{Reason: m.breakGlass}
	for _, check := range m.checks {
		if rule := signalbox.SafetyRule(check.Name); !check.OK && slices.Contains(signalbox.SafetyRules(), rule) {
			glass.Overrides = append(glass.Overrides, rule)
		}
	}
	if len(glass.Overrides) == 0 {
		return nil, nil // nothing blocks: no glass is broken
	}
	return glass, nil
}

// switching signs a switch into its request.
func (s *signer) switching(ctx context.Context, c *client.Client, key string, r *api.SwitchRequest) (err error) {
	if s.bundle == nil || r.Mandate != nil {
		return nil
	}
	r.Mandate, err = s.sign(ctx, c, move{
		verb: signalbox.VerbSwitch, service: r.Service, to: r.To, id: api.HandoverID(s.bundle.Cluster.Name, s.by(), r.Service, key),
		holdBudgetMS: r.HoldBudgetMS, allowLate: r.AllowLateProxies, reason: r.Reason, breakGlass: r.BreakGlass,
	})
	return err
}

// failover signs a failover into its request.
func (s *signer) failover(ctx context.Context, c *client.Client, key string, r *api.FailoverRequest, plan *api.FailoverPlan) (err error) {
	if s.bundle == nil || r.Mandate != nil {
		return nil
	}
	r.Mandate, err = s.sign(ctx, c, move{
		verb: signalbox.VerbFailover, service: r.Service, to: r.To, id: api.HandoverID(s.bundle.Cluster.Name, s.by(), r.Service, key),
		evidence: r.Evidence, holdBudgetMS: r.HoldBudgetMS, allowLate: true, reason: r.Reason, breakGlass: r.BreakGlass, checks: plan.Checks,
	})
	return err
}

// failback signs the way back to where the service was before.
func (s *signer) failback(ctx context.Context, c *client.Client, key, service string, r *api.FailbackRequest) error {
	if s.bundle == nil || r.Mandate != nil {
		return nil
	}
	dry := *r
	dry.DryRun = true
	reply, err := c.Failback(ctx, key+"-plan", service, dry)
	if err != nil {
		return err
	}
	r.Mandate, err = s.sign(ctx, c, move{
		verb: signalbox.VerbSwitch, service: service, to: reply.Plan.To, id: api.HandoverID(s.bundle.Cluster.Name, s.by(), service, key),
		holdBudgetMS: r.HoldBudgetMS, allowLate: r.AllowLateProxies, reason: r.Reason, breakGlass: r.BreakGlass, checks: reply.Plan.Checks,
	})
	return err
}

// revert signs the switch that takes a handover back; where it is given up
// instead, nothing has to be signed.
func (s *signer) revert(ctx context.Context, c *client.Client, key string, h *api.Handover, r *api.RevertRequest) (err error) {
	if s.bundle == nil || r.Mandate != nil || h.From == "" {
		return nil
	}
	after := signalbox.Expectation{DataCenter: signalbox.DataCenter(h.To), Term: signalbox.Term(h.Term)}
	r.Mandate, err = s.sign(ctx, c, move{
		verb: signalbox.VerbSwitch, service: h.Service, to: h.From, id: api.RevertID(s.bundle.Cluster.Name, s.by(), h.ID, key), current: after,
		allowLate: r.AllowLateProxies, reason: api.RevertReason(h.ID, r.Reason), breakGlass: r.BreakGlass,
	})
	return err
}

// say signs a pause, or its end where until is zero.
func (s *signer) say(service string, until time.Time, reason string) ([]byte, error) {
	if s.bundle == nil {
		return nil, nil
	}
	m := signalbox.Mandate{Verb: signalbox.VerbPause, Service: signalbox.Service(service), Until: until, Reason: reason}
	if until.IsZero() {
		m.Verb = signalbox.VerbResume
	}
	return s.seal(m)
}

// approve signs the approval of an order that waits, as its asker signed it: a
// gateway cannot show one order and have another approved. The order is returned
// for showing it; nil when it does not wait any more.
func (s *signer) approve(ctx context.Context, c *client.Client, id, reason string) (proof []byte, of *signalbox.Mandate, err error) {
	if s.bundle == nil {
		return nil, nil, nil
	}
	w, err := waitingOrder(ctx, c, id)
	if err != nil || w == nil || len(w.Mandate) == 0 {
		return nil, nil, err
	}
	trust := rpc.MandateTrust{Cluster: s.bundle.Cluster.Name, Roots: s.bundle.Roots(), Keys: s.bundle.Cluster.OperatorKeys}
	if of, err = rpc.OpenMandate(trust, w.Mandate, w.Asked); err != nil {
		return nil, nil, fmt.Errorf("the order %s that is to be approved: %w", id, err)
	}
	if of.ID != id || of.By() != w.By {
		return nil, nil, fmt.Errorf("%w: the gateway shows an order of %s as %s, and it is %s's %s; ask another gateway (--gateway)", signalbox.ErrUntrusted, w.By, id, of.By(), of.ID)
	}
	proof, err = s.seal(signalbox.Mandate{Verb: signalbox.VerbApprove, Service: of.Service, ID: id, Of: rpc.MandateDigest(w.Mandate), Reason: reason})
	return proof, of, err
}

func waitingOrder(ctx context.Context, c *client.Client, id string) (*api.WaitingOrder, error) {
	services, err := c.Services(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range services {
		if !slices.Contains(v.Approvals, id) {
			continue
		}
		rules, err := c.Rules(ctx, v.Name)
		if err != nil {
			return nil, err
		}
		for i := range rules.Waiting {
			if rules.Waiting[i].ID == id {
				return &rules.Waiting[i], nil
			}
		}
	}
	return nil, nil
}

// mandateText says what an approval approves, as it was signed.
func mandateText(m *signalbox.Mandate) string {
	text := fmt.Sprintf("approves what %s signed: %s %s from %s@%d to %s", m.By(), m.Verb, m.Service, m.From, m.Term, m.To)
	if m.Verb == signalbox.VerbFailover && m.Allowed != 0 {
		text += ", counting " + m.Allowed.String()
	}
	if m.AllowLateProxies && m.Verb == signalbox.VerbSwitch {
		text += ", with late proxies"
	}
	if m.Reason != "" {
		text += " (" + m.Reason + ")"
	}
	return text
}
