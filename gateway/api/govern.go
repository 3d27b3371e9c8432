package api

import (
	"context"
	"time"
)

// A Governor keeps what people decide about a service beside moving it. Errors
// wrap the root package's sentinels; a *Fault adds what to do. What changes
// something returns when it is durable on a quorum.
type Governor interface {
	// Rules says which safety rules a service has and what they say now.
	// ErrUnknown for a service.
	Rules(ctx context.Context, service string) (ServiceRules, error)
	// Pause keeps a service where it is until a time; the zero time ends the
	// pause that holds. ErrInvalid for a time that is over or too far, ErrConflict
	// when there is no pause to end, ErrUnsigned without the operator's signature.
	Pause(ctx context.Context, service string, until time.Time, word Word) (ServiceRules, error)
	// Approve approves the order that waits under the id, and begins it when
	// nobody else is needed. ErrUnknown when none waits, ErrRefused when who
	// approves asked for it, ErrUnsigned without the operator's signature.
	Approve(ctx context.Context, id string, word Word) (ApproveReply, error)
	// Revert takes a handover back: gives it up while that is possible, else
	// switches back by the order (its Service, To and Expect are filled in).
	Revert(ctx context.Context, id string, order Order) (RevertReply, error)
}

// A Word is what a person says of a service: who, why, and the signature.
type Word struct {
	By, Reason string
	// Mandate is the word as the operator signed it, see rpc.SealMandate.
	Mandate []byte
}

// A Surveyor looks at many services at once.
type Surveyor interface {
	// Readiness says whether services could be moved now; all when service is
	// empty. ErrUnknown for a service.
	Readiness(ctx context.Context, service string) (Readiness, error)
	// Evacuation plans to move all services out of a data center; to is empty
	// for the best one of each. ErrUnknown for a data center.
	Evacuation(ctx context.Context, dc, to string) (Evacuation, error)
	// Home returns the data center that a service was in before its last move.
	// ErrRefused when it never moved.
	Home(ctx context.Context, service string) (string, error)
}

// A Pause keeps a service where it is.
type Pause struct {
	Until  time.Time `json:"until" doc:"When it ends by itself"`
	Since  time.Time `json:"since"`
	By     string    `json:"by" doc:"Who paused"`
	Reason string    `json:"reason"`
}

// A BrokenGlass is a handover that overrode safety rules.
type BrokenGlass struct {
	Handover  string     `json:"handover,omitempty" doc:"The handover's id"`
	Term      uint64     `json:"term,omitempty"`
	By        string     `json:"by" doc:"Who took responsibility"`
	Reason    string     `json:"reason"`
	Overrides []string   `json:"overrides" nullable:"false" doc:"The rules that it overrode"`
	At        *time.Time `json:"at,omitempty"`
}

// An AttestedStart is an instance that an operator started without a quorum of
// voters.
type AttestedStart struct {
	Instance string    `json:"instance,omitempty"`
	Identity string    `json:"identity"`
	Term     uint64    `json:"term" doc:"The term that it served from then on"`
	By       string    `json:"by" doc:"Who took responsibility"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// A WaitingOrder waits for approval.
type WaitingOrder struct {
	ID       string     `json:"id" doc:"The id that the handover is to have"`
	Service  string     `json:"service"`
	From     string     `json:"from"`
	To       string     `json:"to"`
	Current  string     `json:"current" doc:"What was certified when it was asked for; when that changes the order is void"`
	By       string     `json:"by" doc:"Who asked, and so may not approve"`
	Reason   string     `json:"reason,omitempty"`
	Asked    time.Time  `json:"asked"`
	Until    time.Time  `json:"until" doc:"When it stops waiting"`
	Needed   int        `json:"needed" doc:"How many people have to approve"`
	Mandate  []byte     `json:"mandate,omitempty" doc:"The order as its asker signed it, base64: what an approval names by its SHA-256"`
	Approved []Approved `json:"approved" nullable:"false"`
}

// Approved is one person's approval.
type Approved struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// A FreezeWindow is a time in which no planned handover begins.
type FreezeWindow struct {
	Name   string     `json:"name"`
	Active bool       `json:"active"`
	Until  *time.Time `json:"until,omitempty" doc:"When the window that is open closes"`
	Next   *time.Time `json:"next,omitempty" doc:"When it opens next"`
}

// A Move is a handover that made another data center master.
type Move struct {
	Handover string    `json:"handover"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	Term     uint64    `json:"term"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// A RuleState is what one safety rule says now about a move to a data center.
type RuleState struct {
	Rule   string     `json:"rule" enum:"pause,freeze,min-interval,approvals,min-standing"`
	To     string     `json:"to" doc:"The data center that a move would go to"`
	Blocks bool       `json:"blocks"`
	Detail string     `json:"detail"`
	Do     string     `json:"do,omitempty" doc:"What to do when it blocks"`
	Until  *time.Time `json:"until,omitempty" doc:"When it blocks no longer by itself"`
}

// ServiceRules are a service's safety rules: what is configured, what people
// said, and what that means now.
type ServiceRules struct {
	Service       string         `json:"service"`
	MinStanding   int            `json:"min_standing" doc:"How many instances must stand ready on the new side; 0 none"`
	MinIntervalMS int64          `json:"min_interval_ms" doc:"What must lie between two moves, in milliseconds; 0 nothing"`
	Approvals     int            `json:"approvals" doc:"How many other people have to approve a move; 0 none"`
	Freezes       []FreezeWindow `json:"freezes" nullable:"false"`
	DependsOn     []string       `json:"depends_on" nullable:"false" doc:"Services that are moved before this one in an evacuation"`
	Pause         *Pause         `json:"pause,omitempty"`
	Waiting       []WaitingOrder `json:"waiting" nullable:"false" doc:"Orders that wait for approval"`
	LastMove      *Move          `json:"last_move,omitempty"`
	// BreakGlass holds the newest broken glasses; BreakGlassTotal counts all.
	AttestedStarts  []AttestedStart `json:"attested_starts,omitempty" doc:"The newest starts of instances without a quorum of voters, oldest first; in the log for ever"`
	BreakGlass      []BrokenGlass   `json:"break_glass" nullable:"false" doc:"The newest handovers that overrode rules, oldest first"`
	BreakGlassTotal int             `json:"break_glass_total" doc:"How many handovers overrode rules since the service was adopted"`
	Now             []RuleState     `json:"now" nullable:"false" doc:"What each rule says now, by data center that a move would go to"`
}

// An ApproveReply has the order as it stands, and the handover when it began.
type ApproveReply struct {
	Order    WaitingOrder `json:"order"`
	Handover *Handover    `json:"handover,omitempty" doc:"Absent while others have to approve too"`
}

// A RevertReply has the handover that takes another one back.
type RevertReply struct {
	// How is given-up or switched-back.
	How      string   `json:"how" enum:"given-up,switched-back" doc:"given-up: the handover itself falls back; switched-back: another handover goes back"`
	Handover Handover `json:"handover"`
}

// How a revert takes a handover back.
const (
	RevertGivenUp  = "given-up"
	RevertSwitched = "switched-back"
)

// Readiness says whether services could be moved now, as one gateway sees it.
type Readiness struct {
	Ready    bool               `json:"ready" doc:"Whether nothing that is looked at here stands in the way"`
	Gateway  string             `json:"gateway"`
	At       time.Time          `json:"at"`
	Checks   []Check            `json:"checks" nullable:"false" doc:"What concerns all services: gateways, voters, certificates, the journal"`
	Services []ServiceReadiness `json:"services" nullable:"false"`
}

// ServiceReadiness is one service's.
type ServiceReadiness struct {
	Service string `json:"service"`
	State   string `json:"state"`
	Master  string `json:"master,omitempty"`
	Term    uint64 `json:"term"`
	// Ready: it could be moved to one data center at least.
	Ready bool `json:"ready" doc:"Whether it could be moved somewhere"`
	// Capacity is that of the master's data center.
	Serving   int               `json:"serving" doc:"Instances that serve"`
	Instances int               `json:"instances" doc:"Instances in the master's data center"`
	Targets   []TargetReadiness `json:"targets" nullable:"false"`
}

// TargetReadiness is whether a service could be moved to one data center.
type TargetReadiness struct {
	DataCenter string  `json:"data_center"`
	Ready      bool    `json:"ready"`
	Standing   int     `json:"standing" doc:"Instances that stand ready there"`
	Instances  int     `json:"instances" doc:"Instances known there"`
	LagBytes   uint64  `json:"lag_bytes,omitempty" doc:"The largest lag that a driver there says"`
	LagMS      int64   `json:"lag_ms,omitempty"`
	Checks     []Check `json:"checks" nullable:"false"`
}

// An Evacuation is the plan to move all services out of a data center. Nothing
// is reserved by it; whoever carries it out gives one order for each leg.
type Evacuation struct {
	DataCenter string `json:"data_center"`
	// Ready: every leg could begin, dependencies aside.
	Ready bool  `json:"ready"`
	Legs  []Leg `json:"legs" nullable:"false" doc:"In an order in which each comes after those that it depends on"`
}

// A Leg is one service's part of an evacuation.
type Leg struct {
	Service string   `json:"service"`
	From    string   `json:"from"`
	To      string   `json:"to,omitempty" doc:"Empty when there is nowhere to go"`
	Current string   `json:"current" doc:"What is certified now, as expect takes it"`
	After   []string `json:"after" nullable:"false" doc:"Services of this evacuation that it depends on, directly or not"`
	Ready   bool     `json:"ready"`
	Blocks  []string `json:"blocks" nullable:"false" doc:"What blocks it, and what to do"`
	// PredictedHoldMS is 0 when nothing is known to predict it from.
	PredictedHoldMS float64 `json:"predicted_hold_ms,omitempty"`
}
