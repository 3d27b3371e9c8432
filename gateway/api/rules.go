package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A PauseRequest asks to keep a service where it is.
type PauseRequest struct {
	ForMS  int64  `json:"for_ms" minimum:"1" maximum:"2592000000" doc:"For how long, in milliseconds; at most 30 days"`
	Reason string `json:"reason" minLength:"1" maxLength:"512" doc:"Why: whoever is stopped by it reads this"`
	// Mandate's end counts, not ForMS.
	Mandate []byte `json:"mandate,omitempty" maxLength:"11000" doc:"The pause as the operator signed it, base64, with its end; without it the pause is refused"`
}

// A ReasonRequest carries a reason, with the operator's signature.
type ReasonRequest struct {
	Reason  string `json:"reason,omitempty" maxLength:"512" doc:"Why; it is shown in the record"`
	Mandate []byte `json:"mandate,omitempty" maxLength:"11000" doc:"The word as the operator signed it, base64; without it the request is refused"`
}

// A RevertRequest asks to take a handover back.
type RevertRequest struct {
	Reason           string `json:"reason,omitempty" maxLength:"512" doc:"Why; it is shown in the record"`
	AllowLateProxies bool   `json:"allow_late_proxies,omitempty" doc:"Go on although a connected proxy does not acknowledge the hold in time"`
	BreakGlass       string `json:"break_glass,omitempty" maxLength:"512" doc:"Override the safety rules that block, for this reason; it is shown for ever"`
	Mandate          []byte `json:"mandate,omitempty" maxLength:"11000" doc:"The order as the operator signed it, base64; orders that others have to approve, and break-glass, need it"`
}

// A FailbackRequest asks to move a service back to where it was before its last
// move.
type FailbackRequest struct {
	Expect           string `json:"expect,omitempty" maxLength:"64" doc:"What has to be certified now, or nothing is moved" example:"west@8"`
	Reason           string `json:"reason,omitempty" maxLength:"512" doc:"Why; it is shown in the record"`
	HoldBudgetMS     int64  `json:"hold_budget_ms,omitempty" minimum:"0" maximum:"15000" doc:"The longest interruption, in milliseconds; 0 for the service's own"`
	AllowLateProxies bool   `json:"allow_late_proxies,omitempty" doc:"Go on although a connected proxy does not acknowledge the hold in time"`
	BreakGlass       string `json:"break_glass,omitempty" maxLength:"512" doc:"Override the safety rules that block, for this reason; it is shown for ever"`
	Mandate          []byte `json:"mandate,omitempty" maxLength:"11000" doc:"The order as the operator signed it, base64; orders that others have to approve, and break-glass, need it"`
	DryRun           bool   `json:"dry_run,omitempty" doc:"Answer with the plan and do nothing"`
}

type (
	pauseInput struct {
		Key     string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Service string `path:"service" maxLength:"40"`
		Body    PauseRequest
	}
	resumeInput struct {
		Key     string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Service string `path:"service" maxLength:"40"`
		Body    ReasonRequest
	}
	approveInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		ID   string `path:"id" maxLength:"80" doc:"The order's id"`
		Body ReasonRequest
	}
	revertInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		ID   string `path:"id" maxLength:"80" doc:"The handover's id"`
		Body RevertRequest
	}
	failbackInput struct {
		Key     string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Service string `path:"service" maxLength:"40"`
		Body    FailbackRequest
	}
	readinessInput struct {
		Service string `query:"service" maxLength:"40" doc:"Only this service's"`
	}
	evacuationInput struct {
		DataCenter string `path:"dc" maxLength:"40" doc:"The data center to leave" example:"east"`
		To         string `query:"to" maxLength:"40" doc:"Where all are to go; the best one of each service when it is left out"`
	}
)

func (s *server) registerRules(api huma.API) {
	huma.Register(api, operation("service-rules", http.MethodGet, "/v1/services/{service}/rules", "rules", "Show a service's safety rules",
		"What is configured, what people said (pauses, orders that wait for approval, broken glass), and what each rule says now.", CodeUnknown),
		answering(func(ctx context.Context, in *serviceInput) (*reply[ServiceRules], error) {
			rules, err := s.options.Governor.Rules(ctx, in.Service)
			return &reply[ServiceRules]{wholeRules(rules)}, err
		}))
	huma.Register(api, operation("pause", http.MethodPost, "/v1/services/{service}/pause", "rules", "Pause a service",
		"Keeps the service where it is: no handover begins until the pause ends, by itself or by resume, but by break-glass. What is open goes on. It needs the operator's signature (mandate).",
		CodeUnknown, CodeRefused, CodeUnsigned, CodeUnavailable, CodeTooLarge), answering(s.pause))
	huma.Register(api, operation("resume", http.MethodPost, "/v1/services/{service}/resume", "rules", "End a service's pause", "It needs the operator's signature, as a pause does.",
		CodeUnknown, CodeConflict, CodeRefused, CodeUnsigned, CodeUnavailable, CodeTooLarge),
		answering(func(ctx context.Context, in *resumeInput) (*reply[ServiceRules], error) {
			rules, err := s.options.Governor.Pause(ctx, in.Service, time.Time{}, Word{callerOf(ctx), in.Body.Reason, in.Body.Mandate})
			return &reply[ServiceRules]{wholeRules(rules)}, err
		}))
	huma.Register(api, operation("approve", http.MethodPost, "/v1/handovers/{id}/approve", "rules", "Approve an order",
		"Approves the order that waits under this id, as the operator of the client certificate, who must not be the one who asked, and who signs it (mandate). With the last approval that is needed it begins.",
		CodeUnknown, CodeConflict, CodeRefused, CodeUnsigned, CodeNotReady, CodeUnavailable, CodeTooLarge),
		answering(func(ctx context.Context, in *approveInput) (*reply[ApproveReply], error) {
			out, err := s.options.Governor.Approve(ctx, in.ID, Word{callerOf(ctx), in.Body.Reason, in.Body.Mandate})
			out.Order.Approved = some(out.Order.Approved)
			if out.Handover != nil {
				h := whole(*out.Handover)
				out.Handover = &h
			}
			return &reply[ApproveReply]{out}, err
		}))
	revert := operation("revert", http.MethodPost, "/v1/handovers/{id}/revert", "handovers", "Take a handover back",
		"While it can be given up, it is; when it is done and the newest of its service, the service is switched back, which checks what every switch checks.",
		CodeUnknown, CodeExpectation, CodeConflict, CodeRefused, CodeUnavailable, CodeTooLarge)
	revert.DefaultStatus = http.StatusAccepted
	huma.Register(api, revert, answering(s.revert))
	s.registerFailback(api)
	huma.Register(api, operation("readiness", http.MethodGet, "/v1/readiness", "readiness", "Could services be moved now",
		"Every check of every service and data center, and those that concern all: gateways, voters, the expiry of certificates and keys. Looked at continuously; also as metrics.", CodeUnknown),
		answering(func(ctx context.Context, in *readinessInput) (*reply[Readiness], error) {
			out, err := s.options.Surveyor.Readiness(ctx, in.Service)
			return &reply[Readiness]{wholeReadiness(out)}, err
		}))
	huma.Register(api, operation("plan-evacuation", http.MethodGet, "/v1/data-centers/{dc}/evacuation", "readiness", "Plan an evacuation",
		"What moving all services out of a data center would do, in dependency order. Nothing is done: give one order (POST /v1/handovers) for each leg whose dependencies have moved.", CodeUnknown),
		answering(s.evacuation))
}

func (s *server) registerFailback(api huma.API) {
	failback := operation("failback", http.MethodPost, "/v1/services/{service}/failback", "handovers", "Move a service back",
		"Switches to the data center that the service was in before its last move, and checks first what that side has to do. With dry_run it answers 200 with the plan.",
		CodeUnknown, CodeExpectation, CodeConflict, CodeRefused, CodeUnavailable, CodeTooLarge)
	failback.DefaultStatus = http.StatusAccepted
	failback.Responses = map[string]*huma.Response{"200": {Description: "The plan of a dry run", Content: map[string]*huma.MediaType{
		"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[SwitchReply](), true, "")}}}}
	huma.Register(api, failback, answering(s.failback))
}

func (s *server) pause(ctx context.Context, in *pauseInput) (*reply[ServiceRules], error) {
	if err := signalbox.CheckName("service", in.Service); err != nil {
		return nil, err
	}
	until := time.Now().Add(time.Duration(in.Body.ForMS) * time.Millisecond)
	if len(in.Body.Mandate) > 0 {
		m, err := rpc.InspectMandate(in.Body.Mandate)
		if err != nil {
			return nil, err
		}
		until = m.Until
	}
	rules, err := s.options.Governor.Pause(ctx, in.Service, until, Word{callerOf(ctx), in.Body.Reason, in.Body.Mandate})
	return &reply[ServiceRules]{wholeRules(rules)}, err
}

func (s *server) revert(ctx context.Context, in *revertInput) (*switchedOutput[RevertReply], error) {
	order := Order{
		By: callerOf(ctx), Reason: in.Body.Reason, AllowLateProxies: in.Body.AllowLateProxies, BreakGlass: in.Body.BreakGlass, Mandate: in.Body.Mandate,
		ID: RevertID(s.options.Cluster, callerOf(ctx), in.ID, in.Key),
	}
	out, err := s.options.Governor.Revert(ctx, in.ID, order)
	if err != nil {
		return nil, err
	}
	out.Handover = whole(out.Handover)
	return &switchedOutput[RevertReply]{http.StatusAccepted, locationOf(out.Handover.ID), out}, nil
}

func (s *server) failback(ctx context.Context, in *failbackInput) (*switchOutput, error) {
	to, err := s.options.Surveyor.Home(ctx, in.Service)
	if err != nil {
		return nil, err
	}
	order := Order{
		Service: in.Service, To: to, Expect: in.Body.Expect, Reason: in.Body.Reason, By: callerOf(ctx), Failback: true,
		HoldBudget:       time.Duration(in.Body.HoldBudgetMS) * time.Millisecond,
		AllowLateProxies: in.Body.AllowLateProxies, BreakGlass: in.Body.BreakGlass, Mandate: in.Body.Mandate,
	}
	return s.order(ctx, order, in.Key, in.Body.DryRun)
}

func (s *server) evacuation(ctx context.Context, in *evacuationInput) (*reply[Evacuation], error) {
	out, err := s.options.Surveyor.Evacuation(ctx, in.DataCenter, in.To)
	out.Legs = some(out.Legs)
	for i := range out.Legs {
		out.Legs[i].After, out.Legs[i].Blocks = some(out.Legs[i].After), some(out.Legs[i].Blocks)
	}
	return &reply[Evacuation]{out}, err
}

type switchedOutput[T any] struct {
	Status   int
	Location string `header:"Location" doc:"Where the handover's record is"`
	Body     T
}

// RevertID returns the id of the handover that takes another one back, as
// HandoverID does.
func RevertID(cluster, caller, id, key string) string {
	return HandoverID(cluster, caller, serviceOf(id), key)
}

// RevertReason is the reason of the handover that takes another one back: what a
// signed order to revert says.
func RevertReason(id, reason string) string {
	text := "reverts " + id
	if reason != "" {
		text += ": " + reason
	}
	return strings.ToValidUTF8(text[:min(len(text), signalbox.MaxReason)], "")
}

// serviceOf is the part of a handover's id that names its service, for making
// an id that people recognise; it decides nothing.
func serviceOf(id string) string {
	if i := strings.LastIndex(id, "-"); i > 0 && signalbox.CheckName("service", id[:i]) == nil {
		return id[:i]
	}
	return "revert"
}

func wholeRules(r ServiceRules) ServiceRules {
	r.Freezes, r.Waiting, r.BreakGlass, r.Now, r.DependsOn = some(r.Freezes), some(r.Waiting), some(r.BreakGlass), some(r.Now), some(r.DependsOn)
	for i := range r.Waiting {
		r.Waiting[i].Approved = some(r.Waiting[i].Approved)
	}
	return r
}

func wholeReadiness(r Readiness) Readiness {
	r.Checks, r.Services = some(r.Checks), some(r.Services)
	for i := range r.Services {
		r.Services[i].Targets = some(r.Services[i].Targets)
		for j := range r.Services[i].Targets {
			r.Services[i].Targets[j].Checks = some(r.Services[i].Targets[j].Checks)
		}
	}
	return r
}
