package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// A FailoverOrder is a wish to fail over: an Order, with what may count beside
// acks and leaves.
type FailoverOrder struct {
	Order
	// Evidence lists kinds joined by "+", at most the service's own; empty for
	// all of those.
	Evidence string
}

// A RemovalOrder is a wish to take an instance out of the outstanding by others'
// evidence. Instance is a name or an identity.
type RemovalOrder struct {
	Service, Instance, By, Reason string
}

// A Rescuer moves a service whose instances cannot answer for themselves. Errors
// are as a Conductor's.
type Rescuer interface {
	// FailoverPlan says what a failover would do and wait for.
	FailoverPlan(ctx context.Context, order FailoverOrder) (FailoverPlan, error)
	// Failover starts one. It cannot be given up.
	Failover(ctx context.Context, order FailoverOrder) (Handover, error)
	// Missing lists the roster identities of an open handover without evidence.
	// ErrUnknown when there is no such handover.
	Missing(ctx context.Context, handover string) ([]Missing, error)
	// Announce announces an instance's removal, so that others may give evidence
	// for it. ErrUnknown when nobody of that name is outstanding.
	Announce(ctx context.Context, order RemovalOrder) (Missing, error)
	// Start starts an instance that waits for a quorum of voters without one, on
	// an operator's mandate for exactly this start. ErrConflict when it waits for
	// none, ErrRefused where leases are used, ErrUntrusted, ErrUnsigned.
	Start(ctx context.Context, service, instance string, word Word) (Instance, error)
	// Submit takes others' evidence in. ErrUntrusted when it does not verify,
	// ErrConflict when nothing asks for it.
	Submit(ctx context.Context, envelope []byte) (Submitted, error)
}

// An EvidenceWait is what a failover waits for about one roster identity.
type EvidenceWait struct {
	Instance   string   `json:"instance"`
	DataCenter string   `json:"data_center"`
	Identity   string   `json:"identity"`
	Silent     bool     `json:"silent" doc:"Nobody can reach its agent"`
	Evidence   []string `json:"evidence" nullable:"false" doc:"The kinds of evidence that can come, the first that does counts"`
	AtMostMS   int64    `json:"at_most_ms,omitempty" doc:"How long at most until one of them came by itself; 0 when it takes a person or the instance"`
	Nothing    bool     `json:"nothing,omitempty" doc:"No evidence can come"`
}

// A FailoverPlan is what a failover would do. Nothing is reserved by it.
type FailoverPlan struct {
	Plan
	Waits      []EvidenceWait `json:"waits" nullable:"false" doc:"What it would wait for, one for each of the roster"`
	Supersedes string         `json:"supersedes,omitempty" doc:"The open handover that it would supersede"`
	// ExpectedLoss is nil where nothing can be lost: a service without data, or
	// one whose new master has all that the old one had.
	ExpectedLoss *ExpectedLoss `json:"expected_loss,omitempty" doc:"What would be lost of what the old master acknowledged, if its own evidence does not come"`
}

// Missing is evidence that others may give, as it has to be signed.
type Missing struct {
	Service    string `json:"service"`
	Handover   string `json:"handover,omitempty" doc:"The open handover that waits for it; absent for a removal"`
	Instance   string `json:"instance"`
	DataCenter string `json:"data_center"`
	Identity   string `json:"identity"`
	Admission  uint64 `json:"admission"`
	Block      string `json:"block" doc:"SHA-256 of the block that it is for, hex"`
	Below      uint64 `json:"below" doc:"The term below which the instance will not serve"`
	Allowed    string `json:"allowed" doc:"The kinds of evidence that count"`
	Silent     bool   `json:"silent" doc:"Nobody can reach its agent"`
}

// Submitted says what became of submitted evidence.
type Submitted struct {
	Kind     string `json:"kind"`
	Service  string `json:"service"`
	Identity string `json:"identity"`
	Handover string `json:"handover,omitempty" doc:"The handover that it counts for"`
	Removed  bool   `json:"removed,omitempty" doc:"The instance is outstanding no more"`
}

// A FailoverRequest asks to fail a service over.
type FailoverRequest struct {
	Service      string `json:"service" maxLength:"40" doc:"The service to move" example:"orders"`
	To           string `json:"to" maxLength:"40" doc:"The data center that is to become master" example:"west"`
	Expect       string `json:"expect,omitempty" maxLength:"64" doc:"What has to be certified now, or nothing is moved; the same as If-Match" example:"east@7"`
	Reason       string `json:"reason,omitempty" maxLength:"512" doc:"Why; it is shown in the record"`
	HoldBudgetMS int64  `json:"hold_budget_ms,omitempty" minimum:"0" maximum:"15000" doc:"How long the instances that can be reached have for their acks, in milliseconds; 0 for the service's own"`
	Evidence     string `json:"evidence,omitempty" maxLength:"64" doc:"What counts beside acks and leaves: lapse, fence, attest, joined by +; absent for all that the service allows" example:"lapse+attest"`
	BreakGlass   string `json:"break_glass,omitempty" maxLength:"512" doc:"Override the safety rules that block, for this reason; it is shown for ever"`
	Mandate      []byte `json:"mandate,omitempty" maxLength:"11000" doc:"The order as the operator signed it, base64; orders that others have to approve, and break-glass, need it"`
	DryRun       bool   `json:"dry_run,omitempty" doc:"Answer with the plan and do nothing"`
}

// A FailoverReply has the plan of a dry run, or the handover that was started.
type FailoverReply struct {
	Plan     *FailoverPlan `json:"plan,omitempty"`
	Handover *Handover     `json:"handover,omitempty"`
}

// A RemovalRequest announces an instance's removal.
type RemovalRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"512" doc:"Why; it is in the log for ever"`
}

// A StartRequest brings an operator's mandate to start an instance.
type StartRequest struct {
	Mandate []byte `json:"mandate" minLength:"1" maxLength:"11000" doc:"The start as the operator signed it, base64: of this identity, term and challenge, with a reason"`
}

// An EvidenceRequest brings others' evidence.
type EvidenceRequest struct {
	Envelope []byte `json:"envelope" doc:"The signed envelope, base64"`
}

// MissingList is a list of Missing.
type MissingList struct {
	Missing []Missing `json:"missing" nullable:"false"`
}

type (
	failoverInput struct {
		Key     string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		IfMatch string `header:"If-Match" maxLength:"64" doc:"What has to be certified now" example:"\"east@7\""`
		Body    FailoverRequest
	}
	failoverOutput struct {
		Status   int
		Location string `header:"Location" doc:"Where the handover's record is"`
		Body     FailoverReply
	}
	missingInput struct {
		ID string `path:"id" maxLength:"80" doc:"The handover's id"`
	}
	removalInput struct {
		Key      string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Service  string `path:"service" maxLength:"40" example:"orders"`
		Instance string `path:"instance" maxLength:"40" doc:"Its name, or its identity" example:"orders-east-2"`
		Body     RemovalRequest
	}
	startInput struct {
		Key      string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Service  string `path:"service" maxLength:"40" example:"orders"`
		Instance string `path:"instance" maxLength:"40" doc:"Its name, or its identity" example:"orders-east-2"`
		Body     StartRequest
	}
	evidenceInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the request safe to repeat, also at another gateway"`
		Body EvidenceRequest
	}
)

func (s *server) registerRescue(api huma.API) {
	start := operation("failover", http.MethodPost, "/v1/failovers", "handovers", "Fail a service over",
		"Starts a handover that counts others' evidence where an instance of the old side does not ack: a lapse, a fence or a person's attest, as the service allows. "+
			"It cannot be given up. With dry_run it answers 200 with the plan: what it would wait for, and how long at most.",
		CodeUnknown, CodeExpectation, CodeConflict, CodeRefused, CodeUnsigned, CodeNotConfigured, CodeUnavailable, CodeTooLarge)
	start.DefaultStatus = http.StatusAccepted
	start.Responses = map[string]*huma.Response{"200": {Description: "The plan of a dry run", Content: map[string]*huma.MediaType{
		"application/json": {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[FailoverReply](), true, "")}}}}
	huma.Register(api, start, answering(s.failover))
	huma.Register(api, operation("missing-evidence", http.MethodGet, "/v1/handovers/{id}/missing", "handovers", "List the evidence that an open handover waits for",
		"What an operator needs to sign an attest.", CodeUnknown, CodeUnavailable), answering(s.missing))
	huma.Register(api, operation("announce-removal", http.MethodPost, "/v1/services/{service}/instances/{instance}/removal", "services", "Announce an instance's removal",
		"From then on others may give evidence that the instance serves no more; with it the instance is outstanding no more. If it starts again it stays closed until it is admitted again.",
		CodeUnknown, CodeConflict, CodeNotConfigured, CodeUnavailable, CodeTooLarge), answering(s.announce))
	huma.Register(api, operation("start-instance", http.MethodPost, "/v1/services/{service}/instances/{instance}/start", "services", "Start an instance without a quorum of voters",
		"For a restarted instance that waits for voters who do not come, on the word of an operator: if another data center became master meanwhile, two are. "+
			"It starts nothing where leases are used. The answer comes when its agent was told; the log has the word when a quorum is back.",
		CodeUnknown, CodeConflict, CodeRefused, CodeUnsigned, CodeUnavailable, CodeTooLarge), answering(s.startInstance))
	huma.Register(api, operation("submit-evidence", http.MethodPost, "/v1/evidence", "handovers", "Submit others' evidence",
		"Takes an operator's attest (or a lapse or fence) for an open handover or an announced removal.",
		CodeConflict, CodeRefused, CodeUnavailable, CodeTooLarge), answering(s.submit))
}

func (s *server) failover(ctx context.Context, in *failoverInput) (*failoverOutput, error) {
	expect, err := expectation(in.IfMatch, in.Body.Expect)
	if err != nil {
		return nil, err
	}
	order := FailoverOrder{Evidence: in.Body.Evidence, Order: Order{
		Service: in.Body.Service, To: in.Body.To, Expect: expect, Reason: in.Body.Reason, By: callerOf(ctx),
		HoldBudget: time.Duration(in.Body.HoldBudgetMS) * time.Millisecond, AllowLateProxies: true, BreakGlass: in.Body.BreakGlass,
		Mandate: in.Body.Mandate,
	}}
	if err := order.check(); err != nil {
		return nil, err
	}
	if in.Body.DryRun {
		plan, err := s.options.Rescuer.FailoverPlan(ctx, order)
		if err != nil {
			return nil, err
		}
		plan.Plan, plan.Waits = complete(plan.Plan), some(plan.Waits)
		for i := range plan.Waits {
			plan.Waits[i].Evidence = some(plan.Waits[i].Evidence)
		}
		return &failoverOutput{Status: http.StatusOK, Body: FailoverReply{Plan: &plan}}, nil
	}
	order.ID = HandoverID(s.options.Cluster, order.By, order.Service, in.Key)
	h, err := s.options.Rescuer.Failover(ctx, order)
	if err != nil {
		return nil, err
	}
	if h.Service != order.Service || h.To != order.To {
		return nil, newProblem(CodeKeyReused, fmt.Sprintf("%s was used before, for handover %s of %s to %s", headerKey, h.ID, h.Service, h.To))
	}
	h = whole(h)
	return &failoverOutput{Status: http.StatusAccepted, Location: locationOf(h.ID), Body: FailoverReply{Handover: &h}}, nil
}

func (s *server) missing(ctx context.Context, in *missingInput) (*reply[MissingList], error) {
	list, err := s.options.Rescuer.Missing(ctx, in.ID)
	return &reply[MissingList]{MissingList{Missing: some(list)}}, err
}

func (s *server) announce(ctx context.Context, in *removalInput) (*reply[Missing], error) {
	if err := signalbox.CheckName("service", in.Service); err != nil {
		return nil, err
	}
	m, err := s.options.Rescuer.Announce(ctx, RemovalOrder{Service: in.Service, Instance: in.Instance, By: callerOf(ctx), Reason: in.Body.Reason})
	return &reply[Missing]{m}, err
}

func (s *server) startInstance(ctx context.Context, in *startInput) (*reply[Instance], error) {
	i, err := s.options.Rescuer.Start(ctx, in.Service, in.Instance, Word{By: callerOf(ctx), Mandate: in.Body.Mandate})
	return &reply[Instance]{i}, err
}

func (s *server) submit(ctx context.Context, in *evidenceInput) (*reply[Submitted], error) {
	if n := len(in.Body.Envelope); n == 0 || n > rpc.MaxEvidence {
		return nil, fmt.Errorf("%w: evidence of %d bytes: 1 to %d", signalbox.ErrInvalid, n, rpc.MaxEvidence)
	}
	out, err := s.options.Rescuer.Submit(ctx, in.Body.Envelope)
	return &reply[Submitted]{out}, err
}
