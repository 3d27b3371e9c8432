package api

import (
	"encoding/json"
	"time"
)

// The states of a service, as one word for tables and colours.
const (
	StateUnmanaged  = "unmanaged"  // configured, no master known, nothing adopted
	StateObserved   = "observed"   // watched only: Signalbox reports and moves nothing
	StateSteady     = "steady"     // one certified master, no handover open
	StatePreparing  = "preparing"  // a block is being agreed on; nothing is interrupted
	StateHolding    = "holding"    // proxies are parking new requests
	StateDraining   = "draining"   // old instances finish what is in flight
	StateSealing    = "sealing"    // drained; acks are being collected
	StatePromoting  = "promoting"  // certified; new instances become master
	StateReleasing  = "releasing"  // proxies get the new endpoints
	StateSettling   = "settling"   // requests flow; the outcome is being logged
	StateSettled    = "settled"    // the outcome is in the log: it is over
	StateGivingUp   = "giving-up"  // a refuse was asked for; the old master goes on
	StateSuperseded = "superseded" // a handover back follows the open one
)

// The outcomes of a handover.
const (
	OutcomeOpen       = "open"       // not decided yet
	OutcomeForward    = "forward"    // the new data center is master
	OutcomeFallback   = "fallback"   // given up: the old data center is master on, at the fallback term
	OutcomeSuperseded = "superseded" // another handover took over; see SupersededBy
)

// The phases of a handover in their order (design.md, section 3).
const (
	PhasePrepare = "prepare"
	PhaseHold    = "hold"
	PhaseDrain   = "drain"
	PhaseAck     = "ack"
	PhaseSeal    = "seal"
	PhasePromote = "promote"
	PhaseRelease = "release"
	PhaseSettle  = "settle"
)

// Phases returns the phases' names in their order.
func Phases() []string {
	return []string{PhasePrepare, PhaseHold, PhaseDrain, PhaseAck, PhaseSeal, PhasePromote, PhaseRelease, PhaseSettle}
}

// A Service is what has one master data center at a time.
type Service struct {
	Name     string `json:"name" doc:"The service's name"`
	Protocol string `json:"protocol" doc:"How proxies speak to it: http, grpc, tcp or xds-grpc"`
	State    string `json:"state" enum:"unmanaged,observed,steady,preparing,holding,draining,sealing,promoting,releasing,settling,giving-up,superseded" doc:"Where the service is now"`
	// Master is empty while the service is unmanaged.
	Master string `json:"master,omitempty" doc:"The data center that is master"`
	Term   uint64 `json:"term" doc:"The certified term; 0 when there is none"`
	// Since is when the master's term was certified, as this gateway saw it.
	Since        *time.Time `json:"since,omitempty" doc:"Since when the master is master"`
	Handover     string     `json:"handover,omitempty" doc:"The id of the open handover"`
	HoldBudgetMS int64      `json:"hold_budget_ms" doc:"The longest interruption that a switch may cause, in milliseconds"`
	// Paused says that nothing begins: until when, by whom and why.
	Paused *Pause `json:"paused,omitempty" doc:"Present while the service is paused"`
	// Approvals are the orders that wait for approval.
	Approvals []string `json:"approvals,omitempty" doc:"Ids of orders that wait for approval"`
	// BreakGlass is the newest handover that overrode safety rules.
	BreakGlass *BrokenGlass `json:"break_glass,omitempty" doc:"The newest handover that overrode safety rules; shown for ever"`
	// AttestedStart is the newest start without a quorum of voters.
	AttestedStart *AttestedStart `json:"attested_start,omitempty" doc:"The newest instance that an operator started without a quorum of voters; shown for ever"`
	// Waiting says for whom the open handover waits, "orders-east-2: draining 14 requests".
	Waiting     []string      `json:"waiting,omitempty" doc:"Whom the open handover waits for"`
	DataCenters []ServiceSite `json:"data_centers" nullable:"false" doc:"The service in each data center"`
}

// A ServiceSite is a service in one data center.
type ServiceSite struct {
	DataCenter string `json:"data_center"`
	Master     bool   `json:"master" doc:"Whether this data center is master"`
	Instances  int    `json:"instances" doc:"Instances known here"`
	Serving    int    `json:"serving" doc:"Instances that serve as master"`
	Ready      int    `json:"ready" doc:"Instances that say they are ready"`
	InFlight   uint64 `json:"in_flight" doc:"Requests in flight"`
	Proxies    int    `json:"proxies" doc:"Connected proxies"`
	Synced     int    `json:"proxies_synced" doc:"Proxies that acknowledged the certified term"`
	// Target says whether a switch to here would pass the readiness checks
	// now; of the master's own data center it is false without problems.
	Target   bool     `json:"target" doc:"Whether a switch to here would pass the checks"`
	Problems []string `json:"problems,omitempty" doc:"What blocks a switch to here, and what to do"`
}

// An Instance is one process of a service.
type Instance struct {
	Name        string `json:"name"`
	Service     string `json:"service"`
	DataCenter  string `json:"data_center"`
	Identity    string `json:"identity" doc:"Fingerprint of the instance's key"`
	Incarnation uint64 `json:"incarnation" doc:"Counts the starts of the instance"`
	State       string `json:"state" doc:"starting, standby, serving, draining, drained, acked, left or silent"`
	Term        uint64 `json:"term" doc:"The term of the certificate it holds"`
	Floor       uint64 `json:"floor" doc:"It will never serve below this term"`
	Admission   uint64 `json:"admission" doc:"The log index that admitted the identity"`
	InFlight    uint64 `json:"in_flight" doc:"Requests in flight"`
	Ready       bool   `json:"ready"`
	// Outstanding says whether a handover would need its evidence.
	Outstanding bool   `json:"outstanding" doc:"Whether a handover has to have its evidence"`
	Problem     string `json:"problem,omitempty" doc:"What is wrong with it, in its agent's or the gateway's words"`
	// Challenge is of its start alone.
	Challenge string `json:"challenge,omitempty" doc:"While it waits for a quorum of voters after a start: what an operator signs to start it without"`
	// Problems are what its driver wants somebody to look at.
	Problems []NamedProblem `json:"problems,omitempty" doc:"What its driver wants somebody to look at before a handover"`
	LagBytes uint64         `json:"lag_bytes,omitempty" doc:"How far its data is behind, as its driver says"`
	LagMS    int64          `json:"lag_ms,omitempty" doc:"The same in milliseconds"`
	// ExpectedLoss is nil for an instance that is no standby with data.
	ExpectedLoss *ExpectedLoss `json:"expected_loss,omitempty" doc:"What a failover to it would lose"`
	WaitsFor     string        `json:"waits_for,omitempty" doc:"What it waits for"`
	Address      string        `json:"address,omitempty" doc:"Where it takes requests, host:port"`
	Driver       string        `json:"driver,omitempty"`
	Version      string        `json:"version,omitempty" doc:"The agent's version"`
	// LastHeard is nil when this gateway never heard from it.
	LastHeard *time.Time `json:"last_heard,omitempty"`
	SilentMS  int64      `json:"silent_ms" doc:"Milliseconds since it was last heard from, -1 when never"`
}

// A NamedProblem is one thing that a driver wants somebody to look at.
type NamedProblem struct {
	Name string `json:"name" doc:"Short and stable"`
	What string `json:"what"`
	Do   string `json:"do,omitempty" doc:"What to do about it"`
	// Refuses is of a master: a switch is refused while the problem is there.
	Refuses bool `json:"refuses,omitempty" doc:"A switch away from here is refused while it is there"`
}

// ExpectedLoss is what a failover would lose of what the old master
// acknowledged, as the new one's driver says. A handover with the old master's
// own word loses nothing.
type ExpectedLoss struct {
	Instance string `json:"instance" doc:"Who would become master, and says so"`
	Known    bool   `json:"known" doc:"false: the old master was never seen, and nobody knows"`
	Bytes    uint64 `json:"bytes" doc:"How much is missing of what the old master had when it was last seen"`
	AgeMS    int64  `json:"age_ms" doc:"How long ago that was; what was acknowledged since is not counted"`
	// Limit is nil where any loss is allowed.
	Limit *uint64 `json:"limit,omitempty" doc:"It is not promoted when more bytes are missing, or when nobody knows"`
}

// Lost is what an old master had alone when it came back.
type Lost struct {
	Instance string    `json:"instance"`
	At       time.Time `json:"at" doc:"When it was known"`
	Known    bool      `json:"known" doc:"false: nobody can tell how much"`
	Bytes    uint64    `json:"bytes"`
	Writes   uint64    `json:"writes" doc:"Transactions among it, where its driver counts them"`
	Kept     string    `json:"kept,omitempty" doc:"Where it is kept, on the instance's machine"`
}

// A Proxy is an Envoy or a proxyless gRPC client that takes configuration from
// a gateway.
type Proxy struct {
	ID             string       `json:"id" doc:"The proxy's node id"`
	DataCenter     string       `json:"data_center"`
	Gateway        string       `json:"gateway" doc:"The gateway that it is connected to"`
	Kind           string       `json:"kind,omitempty" doc:"envoy or grpc, with its version where it says so"`
	Connected      bool         `json:"connected"`
	ConnectedSince *time.Time   `json:"connected_since,omitempty"`
	Routes         []ProxyRoute `json:"routes" nullable:"false" doc:"What it has of each service"`
}

// A ProxyRoute is what a proxy has of one service.
type ProxyRoute struct {
	Service string `json:"service"`
	Term    uint64 `json:"term" doc:"The newest route's term that the proxy acknowledged"`
	Pending uint64 `json:"pending,omitempty" doc:"The term that it was sent and has not answered"`
	// Problem is the proxy's own words after it rejected a configuration.
	Problem string `json:"problem,omitempty" doc:"Why it rejected its configuration, in its own words"`
	// Older is the number of requests still in flight on older terms, from
	// load reports; nil when the proxy reports none.
	Older *uint64 `json:"older_requests,omitempty" doc:"Requests in flight on older terms"`
}

// A Check is one thing that is looked at before a switch.
type Check struct {
	Name string `json:"name" doc:"Stable name, for example roster-heard or target-ready"`
	OK   bool   `json:"ok"`
	// Blocking is false for a warning: the switch would go on.
	Blocking bool   `json:"blocking" doc:"Whether a switch is refused when it is not ok"`
	Detail   string `json:"detail" doc:"What was found"`
	Do       string `json:"do,omitempty" doc:"What to do when it is not ok"`
}

// A Member is an instance's part in a plan.
type Member struct {
	Instance   string `json:"instance"`
	DataCenter string `json:"data_center"`
	Identity   string `json:"identity"`
	Admission  uint64 `json:"admission,omitempty"`
	State      string `json:"state"`
	InFlight   uint64 `json:"in_flight"`
	Problem    string `json:"problem,omitempty"`
	LagBytes   uint64 `json:"lag_bytes,omitempty" doc:"How far its data is behind, as its driver says"`
	LagMS      int64  `json:"lag_ms,omitempty" doc:"The same in milliseconds"`
	// Problems are what its driver wants somebody to look at, long transactions among it.
	Problems []NamedProblem `json:"problems,omitempty" doc:"What its driver wants somebody to look at before a handover"`
}

// A Plan is what a switch would do. Nothing is reserved by it.
type Plan struct {
	Service      string `json:"service"`
	From         string `json:"from,omitempty"`
	To           string `json:"to"`
	Current      string `json:"current" doc:"What is certified now, as --expect and If-Match take it: east@7"`
	Term         uint64 `json:"term" doc:"The term that the switch would certify"`
	FallbackTerm uint64 `json:"fallback_term" doc:"The term at which the old master goes on when it is given up"`
	HoldBudgetMS int64  `json:"hold_budget_ms"`
	Allowed      string `json:"allowed" doc:"The kinds of evidence that count, for example ack+leave"`
	// Ready says that no blocking check fails.
	Ready    bool     `json:"ready" doc:"Whether the switch would start"`
	Roster   []Member `json:"roster" nullable:"false" doc:"Who must give evidence"`
	Incoming []Member `json:"incoming" nullable:"false" doc:"Who would become master"`
	Proxies  int      `json:"proxies" doc:"Connected proxies that would park requests"`
	Checks   []Check  `json:"checks" nullable:"false"`
	Blocks   []string `json:"blocks" nullable:"false" doc:"What blocks it, and what to do"`
	// PredictedHoldMS is 0 when nothing is known to predict it from.
	PredictedHoldMS float64 `json:"predicted_hold_ms,omitempty" doc:"How long requests would be parked, in milliseconds"`
	PredictedFrom   string  `json:"predicted_from,omitempty" doc:"What the prediction stands on"`
}

// A Phase is one part of a handover. Times are milliseconds since the
// handover's start, with microseconds after the point.
type Phase struct {
	Name    string   `json:"name" enum:"prepare,hold,drain,ack,seal,promote,release,settle"`
	BeginMS float64  `json:"begin_ms" doc:"Milliseconds since the handover's start"`
	EndMS   *float64 `json:"end_ms,omitempty" doc:"Milliseconds since the handover's start; absent while it lasts"`
}

// An Ack is one roster instance's row in the ack matrix. Times are milliseconds
// since the handover's start and absent when it did not happen.
type Ack struct {
	Instance   string `json:"instance"`
	DataCenter string `json:"data_center"`
	Identity   string `json:"identity"`
	Admission  uint64 `json:"admission"`
	// Evidence is ack, leave, refuse, or empty while there is none.
	Evidence string `json:"evidence,omitempty" doc:"ack, leave, lapse, fence, attest, or refuse; absent while there is none"`
	// Witness says who signed in the instance's place.
	Witness   string   `json:"witness,omitempty" doc:"Who gave the evidence in the instance's place, and on what ground"`
	DrainedMS *float64 `json:"drained_ms,omitempty"`
	AckedMS   *float64 `json:"acked_ms,omitempty" doc:"When the evidence arrived"`
	Position  string   `json:"position,omitempty" doc:"What its data had reached when it stopped, as its driver said in the evidence"`
	InFlight  uint64   `json:"in_flight" doc:"Requests in flight when last heard"`
	Problem   string   `json:"problem,omitempty"`
}

// A Promotion is one incoming instance's row.
type Promotion struct {
	Instance   string   `json:"instance"`
	DataCenter string   `json:"data_center"`
	Identity   string   `json:"identity"`
	ServingMS  *float64 `json:"serving_ms,omitempty" doc:"When it said that it serves"`
	Address    string   `json:"address,omitempty"`
	Problem    string   `json:"problem,omitempty"`
}

// A ProxyHold is one proxy's part in a handover.
type ProxyHold struct {
	ID         string   `json:"id"`
	DataCenter string   `json:"data_center"`
	HeldMS     *float64 `json:"held_ms,omitempty" doc:"When it acknowledged the hold"`
	ReleasedMS *float64 `json:"released_ms,omitempty" doc:"When it acknowledged the release"`
	Late       bool     `json:"late" doc:"It did not acknowledge the hold in time, or was gone"`
	Problem    string   `json:"problem,omitempty" doc:"The proxy's own words"`
}

// Requests is what became of the users' requests, where somebody counted them.
// Counts are of the handover; latencies are milliseconds.
type Requests struct {
	Source      string   `json:"source" doc:"Who counted: load-generator, or proxies"`
	Total       uint64   `json:"total"`
	Held        uint64   `json:"held" doc:"Requests that were parked"`
	Failed      uint64   `json:"failed"`
	P50MS       *float64 `json:"p50_ms,omitempty"`
	P99MS       *float64 `json:"p99_ms,omitempty"`
	MaxMS       *float64 `json:"max_ms,omitempty"`
	AddedP50MS  *float64 `json:"added_p50_ms,omitempty" doc:"p50 less the median of the 5 s before"`
	AddedP99MS  *float64 `json:"added_p99_ms,omitempty" doc:"p99 less the median of the 5 s before"`
	OverlapMS   *float64 `json:"overlap_ms,omitempty" doc:"How long two data centers served writes at once, from the instances' own logs"`
	DualMasters *uint64  `json:"dual_master_requests,omitempty" doc:"Requests served by two masters at once"`
}

// A Certificate is the proof of a term.
type Certificate struct {
	Service string `json:"service"`
	Term    uint64 `json:"term"`
	Master  string `json:"master" doc:"The data center that it makes master"`
	// Fallback says that it certifies the fallback by a refuse.
	Fallback bool   `json:"fallback"`
	Block    string `json:"block" doc:"SHA-256 of the handover block, hex"`
	Scheme   string `json:"scheme,omitempty" doc:"The voters' signature scheme"`
	Evidence int    `json:"evidence" doc:"How many pieces of evidence it carries"`
	Summary  string `json:"summary,omitempty" doc:"What it proves, in words"`
	// Document is the JSON form that `signalbox verify` reads; Raw is the
	// signed bytes, base64. At least one is there.
	Document json.RawMessage `json:"document,omitempty" doc:"The certificate as signalbox verify reads it"`
	Raw      []byte          `json:"raw,omitempty" doc:"The certificate's bytes, base64"`
}

// A Handover is the cutover record: everything that happened in one handover.
// Lists leave out acks, promotions, proxies, events and certificate.
type Handover struct {
	ID            string `json:"id"`
	Service       string `json:"service"`
	From          string `json:"from,omitempty" doc:"Empty for an adoption"`
	To            string `json:"to"`
	Term          uint64 `json:"term"`
	FallbackTerm  uint64 `json:"fallback_term,omitempty" doc:"0 when it cannot be given up"`
	CertifiedTerm uint64 `json:"certified_term,omitempty" doc:"The term that was certified; 0 while open"`
	Outcome       string `json:"outcome" enum:"open,forward,fallback,superseded"`
	// State is the phase that it is in, in the words of a service's state;
	// settled when it is over.
	State            string       `json:"state" doc:"Where it is now; settled when it is over"`
	Supersedes       string       `json:"supersedes,omitempty"`
	SupersededBy     string       `json:"superseded_by,omitempty"`
	By               string       `json:"by" doc:"Who asked"`
	Reason           string       `json:"reason,omitempty" doc:"Why"`
	Signed           bool         `json:"signed,omitempty" doc:"Whether the operator signed the order; else the gateway that took it names who asked"`
	BreakGlass       *BrokenGlass `json:"break_glass,omitempty" doc:"Which safety rules it overrode, and why"`
	GivenUp          string       `json:"given_up,omitempty" doc:"Why it was given up"`
	Allowed          string       `json:"allowed" doc:"The kinds of evidence that count"`
	HoldBudgetMS     int64        `json:"hold_budget_ms"`
	AllowLateProxies bool         `json:"allow_late_proxies"`
	Started          time.Time    `json:"started"`
	Ended            *time.Time   `json:"ended,omitempty"`
	HoldMS           *float64     `json:"hold_ms,omitempty" doc:"From the first proxy's hold to the last proxy's release, in milliseconds"`
	Phases           []Phase      `json:"phases" nullable:"false"`
	Waiting          []string     `json:"waiting,omitempty" doc:"Whom it waits for now"`
	LateProxies      []string     `json:"late_proxies,omitempty" doc:"Proxies that did not acknowledge the hold in time"`
	Requests         *Requests    `json:"requests,omitempty" doc:"Absent when nobody counted"`
	Acks             []Ack        `json:"acks,omitempty"`
	Promotions       []Promotion  `json:"promotions,omitempty"`
	Proxies          []ProxyHold  `json:"proxies,omitempty"`
	Events           []Event      `json:"events,omitempty" doc:"The timeline, oldest first"`
	// EventsDropped is how many of the timeline's events were dropped to keep
	// the record within its maximum.
	EventsDropped int          `json:"events_dropped,omitempty"`
	Certificate   *Certificate `json:"certificate,omitempty"`
	// ExpectedLoss and Lost are of failovers: what was said before, and what the
	// old master had alone when it came back.
	ExpectedLoss *ExpectedLoss `json:"expected_loss,omitempty" doc:"What it was expected to lose"`
	Lost         []Lost        `json:"lost,omitempty" doc:"What was lost, as old masters that came back said"`
}

// Done reports whether the handover is over.
func (h *Handover) Done() bool { return h.Outcome != "" && h.Outcome != OutcomeOpen }

// The kinds of events.
const (
	EventPhase    = "phase"    // a phase began
	EventWaiting  = "waiting"  // the handover waits for somebody; Detail says for what
	EventDrained  = "drained"  // an instance has nothing in flight
	EventEvidence = "evidence" // an instance gave its answer: ack, leave or refuse
	EventServing  = "serving"  // an instance serves at the new term
	EventProxy    = "proxy"    // a proxy acknowledged, rejected, was late, came or went
	EventOutcome  = "outcome"  // the handover is over; Detail says how
	EventInstance = "instance" // an instance came, went or changed its state
	EventNote     = "note"     // anything else worth a line
	// EventReset is sent by the stream itself: events may have been missed, so
	// ask for the current state. It belongs to no service.
	EventReset = "reset"
)

// An Event is one line of what happens, as it happens.
type Event struct {
	// ID names the event within its gateway's stream; Events.Publish sets it.
	// A record's timeline has none.
	ID         string    `json:"id,omitempty"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind" enum:"phase,waiting,drained,evidence,serving,proxy,outcome,instance,note,reset"`
	Service    string    `json:"service,omitempty"`
	Handover   string    `json:"handover,omitempty"`
	Phase      string    `json:"phase,omitempty" doc:"The phase in which it happened"`
	Gateway    string    `json:"gateway,omitempty" doc:"The gateway that saw it"`
	DataCenter string    `json:"data_center,omitempty"`
	Instance   string    `json:"instance,omitempty" doc:"The instance or proxy that it is about"`
	Term       uint64    `json:"term,omitempty"`
	Detail     string    `json:"detail" doc:"The line for a person"`
}

// Health says whether a gateway is well.
type Health struct {
	Ready      bool    `json:"ready"`
	Cluster    string  `json:"cluster"`
	Gateway    string  `json:"gateway"`
	DataCenter string  `json:"data_center"`
	Version    string  `json:"version"`
	LogIndex   uint64  `json:"log_index" doc:"The newest log entry that it applied"`
	Checks     []Check `json:"checks" nullable:"false" doc:"What was looked at"`
}
