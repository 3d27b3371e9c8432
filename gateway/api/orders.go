package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
)

// A SwitchRequest asks to move a service's mastership.
type SwitchRequest struct {
	Service          string `json:"service" maxLength:"40" doc:"The service to move" example:"orders"`
	To               string `json:"to" maxLength:"40" doc:"The data center that is to become master" example:"west"`
	Expect           string `json:"expect,omitempty" maxLength:"64" doc:"What has to be certified now, or nothing is moved; the same as If-Match" example:"east@7"`
	Reason           string `json:"reason,omitempty" maxLength:"512" doc:"Why; it is shown in the record"`
	HoldBudgetMS     int64  `json:"hold_budget_ms,omitempty" minimum:"0" maximum:"15000" doc:"The longest interruption, in milliseconds; 0 for the service's own"`
	AllowLateProxies bool   `json:"allow_late_proxies,omitempty" doc:"Go on although a connected proxy does not acknowledge the hold in time"`
	BreakGlass       string `json:"break_glass,omitempty" maxLength:"512" doc:"Override the safety rules that block, for this reason; it is shown for ever"`
	Mandate          []byte `json:"mandate,omitempty" maxLength:"11000" doc:"The order as the operator signed it, base64; orders that others have to approve, and break-glass, need it"`
	DryRun           bool   `json:"dry_run,omitempty" doc:"Answer with the plan and do nothing"`
}

// A SwitchReply has the plan of a dry run, or the handover that was started.
type SwitchReply struct {
	Plan     *Plan     `json:"plan,omitempty"`
	Handover *Handover `json:"handover,omitempty"`
}

// An AdoptRequest asks to take over a service that runs: DataCenter is master
// now and its term becomes 1. Nothing is interrupted.
type AdoptRequest struct {
	DataCenter string `json:"data_center" maxLength:"40" doc:"The data center whose instances are master now" example:"east"`
	Reason     string `json:"reason,omitempty" maxLength:"512"`
}

// A GiveUpRequest asks for a handover's fallback.
type GiveUpRequest struct {
	Reason string `json:"reason,omitempty" maxLength:"512" doc:"Why; it is shown in the record"`
}

type (
	planInput struct {
		Service          string `path:"service" maxLength:"40" doc:"The service to move" example:"orders"`
		To               string `query:"to" required:"true" maxLength:"40" doc:"The data center that is to become master" example:"west"`
		Expect           string `query:"expect" maxLength:"64" doc:"What has to be certified now" example:"east@7"`
		HoldBudgetMS     int64  `query:"hold_budget_ms" minimum:"0" maximum:"15000" doc:"0 for the service's own"`
		AllowLateProxies bool   `query:"allow_late_proxies"`
		BreakGlass       bool   `query:"break_glass" doc:"Plan as if the safety rules that block were overridden"`
		Failback         bool   `query:"failback" doc:"Look at the new side as a failback does"`
	}
	switchInput struct {
		Key     string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		IfMatch string `header:"If-Match" maxLength:"64" doc:"What has to be certified now" example:"\"east@7\""`
		Body    SwitchRequest
	}
	switchOutput struct {
		Status   int
		Location string `header:"Location" doc:"Where the handover's record is"`
		Body     SwitchReply
	}
	adoptInput struct {
		Key     string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Service string `path:"service" maxLength:"40" doc:"The service to take over" example:"orders"`
		Body    AdoptRequest
	}
	giveUpInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		ID   string `path:"id" maxLength:"80" doc:"The handover's id"`
		Body GiveUpRequest
	}
	acceptedOutput struct {
		Status   int
		Location string `header:"Location" doc:"Where the handover's record is"`
		Body     Handover
	}
)

func (s *server) registerOrders(api huma.API) {
	huma.Register(api, operation("plan-switch", http.MethodGet, "/v1/services/{service}/plan", "handovers", "Plan a switch",
		"What a switch would do and what blocks it. Nothing is done or reserved.", CodeUnknown, CodeExpectation, CodeUnavailable),
		answering(s.plan))
	start := operation("switch", http.MethodPost, "/v1/handovers", "handovers", "Switch a service to another data center",
		"Starts a handover and answers when it is agreed on; follow it at Location or in /v1/events. With dry_run it answers 200 with the plan. "+
			"Repeat it with the same Idempotency-Key, at any gateway, when no answer came.",
		CodeUnknown, CodeExpectation, CodeConflict, CodeRefused, CodeUnsigned, CodeNotConfigured, CodeUnavailable, CodeTooLarge)
	start.DefaultStatus = http.StatusAccepted
	start.Responses = map[string]*huma.Response{"200": {Description: "The plan of a dry run", Content: map[string]*huma.MediaType{
		"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[SwitchReply](), true, "")}}}}
	huma.Register(api, start, answering(s.start))
	adopt := operation("adopt", http.MethodPost, "/v1/services/{service}/adopt", "services", "Take over a running service",
		"The running master becomes term 1. Nothing is interrupted.", CodeUnknown, CodeConflict, CodeRefused, CodeUnavailable, CodeTooLarge)
	adopt.DefaultStatus = http.StatusAccepted
	huma.Register(api, adopt, answering(s.adopt))
	giveUp := operation("give-up", http.MethodPost, "/v1/handovers/{id}/give-up", "handovers", "Give up an open handover",
		"Asks the old master's instances to refuse, which certifies the fallback: the old data center goes on. Too late once the handover is certified.",
		CodeUnknown, CodeRefused, CodeUnavailable, CodeTooLarge)
	giveUp.DefaultStatus = http.StatusAccepted
	huma.Register(api, giveUp, answering(s.giveUp))
}

func (s *server) plan(ctx context.Context, in *planInput) (*reply[Plan], error) {
	order := Order{
		Service: in.Service, To: in.To, Expect: in.Expect, By: callerOf(ctx),
		HoldBudget: time.Duration(in.HoldBudgetMS) * time.Millisecond, AllowLateProxies: in.AllowLateProxies, Failback: in.Failback,
	}
	if in.BreakGlass {
		order.BreakGlass = "dry run"
	}
	if err := order.check(); err != nil {
		return nil, err
	}
	plan, err := s.options.Conductor.Plan(ctx, order)
	return &reply[Plan]{complete(plan)}, err
}

func (s *server) start(ctx context.Context, in *switchInput) (*switchOutput, error) {
	expect, err := expectation(in.IfMatch, in.Body.Expect)
	if err != nil {
		return nil, err
	}
	order := Order{
		Service: in.Body.Service, To: in.Body.To, Expect: expect, Reason: in.Body.Reason, By: callerOf(ctx),
		HoldBudget:       time.Duration(in.Body.HoldBudgetMS) * time.Millisecond,
		AllowLateProxies: in.Body.AllowLateProxies, BreakGlass: in.Body.BreakGlass, Mandate: in.Body.Mandate,
	}
	return s.order(ctx, order, in.Key, in.Body.DryRun)
}

// order plans or begins what was ordered.
func (s *server) order(ctx context.Context, order Order, key string, dryRun bool) (*switchOutput, error) {
	if err := order.check(); err != nil {
		return nil, err
	}
	if dryRun {
		plan, err := s.options.Conductor.Plan(ctx, order)
		if err != nil {
			return nil, err
		}
		plan = complete(plan)
		return &switchOutput{Status: http.StatusOK, Body: SwitchReply{Plan: &plan}}, nil
	}
	order.ID = HandoverID(s.options.Cluster, order.By, order.Service, key)
	h, err := s.options.Conductor.Switch(ctx, order)
	if err != nil {
		return nil, err
	}
	if h.Service != order.Service || h.To != order.To {
		return nil, newProblem(CodeKeyReused, fmt.Sprintf("%s was used before, for handover %s of %s to %s", headerKey, h.ID, h.Service, h.To))
	}
	h = whole(h)
	return &switchOutput{Status: http.StatusAccepted, Location: locationOf(h.ID), Body: SwitchReply{Handover: &h}}, nil
}

func (s *server) adopt(ctx context.Context, in *adoptInput) (*acceptedOutput, error) {
	order := Order{Service: in.Service, To: in.Body.DataCenter, Reason: in.Body.Reason, By: callerOf(ctx)}
	if err := order.check(); err != nil {
		return nil, err
	}
	order.ID = HandoverID(s.options.Cluster, order.By, order.Service, in.Key)
	h, err := s.options.Conductor.Adopt(ctx, order)
	return &acceptedOutput{http.StatusAccepted, locationOf(h.ID), whole(h)}, err
}

func (s *server) giveUp(ctx context.Context, in *giveUpInput) (*acceptedOutput, error) {
	h, err := s.options.Conductor.GiveUp(ctx, in.ID, callerOf(ctx), in.Body.Reason)
	return &acceptedOutput{http.StatusAccepted, locationOf(in.ID), whole(h)}, err
}

// check returns nil when the order is well formed. Whether it may be is for the
// rules.
func (o *Order) check() error {
	if err := signalbox.CheckName("service", o.Service); err != nil {
		return err
	}
	if err := signalbox.CheckName("data center", o.To); err != nil {
		return err
	}
	if o.Expect != "" {
		if _, err := signalbox.ParseExpectation(o.Expect); err != nil {
			return err
		}
	}
	if o.HoldBudget < 0 || o.HoldBudget > signalbox.MaxHoldBudget {
		return fmt.Errorf("%w: hold budget %s: at most %s", signalbox.ErrInvalid, o.HoldBudget, signalbox.MaxHoldBudget)
	}
	return nil
}

// expectation joins If-Match and the body's expect.
func expectation(ifMatch, expect string) (string, error) {
	if ifMatch == "" {
		return expect, nil
	}
	inner, ok := strings.CutPrefix(ifMatch, `"`)
	inner, closed := strings.CutSuffix(inner, `"`)
	if !ok || !closed || strings.Contains(inner, `"`) {
		return "", fmt.Errorf(`%w: If-Match %.64s: write one data center and term in quotes, as in "east@7"`, signalbox.ErrInvalid, ifMatch)
	}
	if expect != "" && expect != inner {
		return "", fmt.Errorf("%w: If-Match says %.64s and expect says %.64s: give one, or the same", signalbox.ErrInvalid, inner, expect)
	}
	return inner, nil
}

func locationOf(id string) string { return "/v1/handovers/" + id }

func complete(p Plan) Plan {
	p.Roster, p.Incoming, p.Checks, p.Blocks = some(p.Roster), some(p.Incoming), some(p.Checks), some(p.Blocks)
	return p
}
