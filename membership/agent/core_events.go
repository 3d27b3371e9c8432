package agent

import (
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// An event is one thing that happened to an instance's core.
type event interface{ isEvent() }

// The events.
type (
	// connected: a session with a gateway was established.
	connected struct{ gateway string }
	// learned: the voters were changed.
	learned struct{}
	// ordered: a gateway gave an order. The bytes are unverified. Without a
	// gateway the block came by gossip, which carries it once it is to be drained.
	ordered struct {
		gateway string
		kind    wire.OrderKind
		decided []byte
	}
	// overheard: another instance's statement came by gossip, unverified.
	overheard struct{ raw []byte }
	// granted: a certificate, perhaps with the block that admits an identity.
	granted struct {
		gateway                string // that brought it
		certificate, admission []byte
		serving                []*wire.Serving
	}
	// preparing: a handover is about to be proposed.
	preparing struct{ prepare *wire.Prepare }
	// answered: a voter's reply to the nonce question.
	answered struct{ raw []byte }
	// startAttested: an operator's mandate to start without a quorum, unverified.
	startAttested struct{ raw []byte }
	// pinged: a gateway wants to know how the instance is.
	pinged struct {
		gateway string
		ping    uint64
	}
	// disowned: a gateway refuses the identity.
	disowned struct {
		gateway, problem string
		newKey           bool
	}
	// overtaken: a request from above the instance's term came.
	overtaken struct{ term signalbox.Term }
	// drove: the driver finished the operation op.
	drove struct {
		op       uint64
		position driver.Position // of a step-down
		err      error
	}
	// helped: the driver finished the preparation or the follow op.
	helped struct {
		op  uint64
		err error
	}
	// reported: what the driver says of the instance. op is the last operation
	// that was finished before the driver was asked.
	reported struct {
		op        uint64
		status    driver.Status
		readiness driver.Readiness
		err       error
	}
	// quieted: no new work comes any more, or the wait for that was too long.
	quieted struct{}
	// stopping: the agent is to leave in an orderly way.
	stopping struct{}
	// leaseReplied: what a voter said to a request for a lease. Unverified.
	leaseReplied struct{ reply *wire.LeaseReply }
	// leaseGiven: the driver took the deadline of the order op, or did not.
	leaseGiven struct {
		op  uint64
		err error
	}
	// ticked: time passed.
	ticked struct{}
)

func (connected) isEvent()     {}
func (ordered) isEvent()       {}
func (overheard) isEvent()     {}
func (granted) isEvent()       {}
func (preparing) isEvent()     {}
func (helped) isEvent()        {}
func (answered) isEvent()      {}
func (startAttested) isEvent() {}
func (pinged) isEvent()        {}
func (disowned) isEvent()      {}
func (overtaken) isEvent()     {}
func (drove) isEvent()         {}
func (reported) isEvent()      {}
func (quieted) isEvent()       {}
func (stopping) isEvent()      {}
func (leaseReplied) isEvent()  {}
func (leaseGiven) isEvent()    {}
func (learned) isEvent()       {}
func (ticked) isEvent()        {}

// An effect is one thing to do about an event. Effects are done in the order in
// which Step returned them; when a persist fails, none after it is.
type effect interface{ isEffect() }

// The effects. An empty gateway means all of them.
type (
	// persist appends a record; with sync it is durable before the next effect.
	persist struct {
		record record
		sync   bool
	}
	// say delivers a signed statement: to the gateway alone, or with an empty
	// one to all of them and to gossip.
	say struct {
		gateway  string
		evidence signalbox.Evidence
		handover string
	}
	// tell sends the instance's status.
	tell struct {
		gateway string
		status  *wire.InstanceStatus
	}
	// ask sends the nonce question.
	ask struct {
		gateway  string
		question *wire.Question
	}
	// attested tells by whose word the instance was started.
	attested struct {
		gateway string
		proof   []byte
	}
	// want asks one gateway (any, when empty) for the current certificate and
	// for admission.
	want struct {
		gateway string
		want    *wire.Want
	}
	// stepDown and promote are the driver's orders. A new one takes the place of
	// one that is still being carried out.
	stepDown struct {
		op    uint64
		order driver.StepDown
	}
	promote struct {
		op    uint64
		order driver.Promotion
	}
	// prepare and follow ask the driver for help; a stepDown or promote ends
	// them, and nobody hears how.
	prepare struct {
		op    uint64
		order driver.Preparation
	}
	follow struct {
		op    uint64
		order driver.Follow
	}
	// askLease asks the voters for a lease, by all gateways.
	askLease struct{ request []byte }
	// giveLease tells the driver until when the instance may serve.
	giveLease struct {
		op    uint64
		order driver.LeaseOrder
	}
	// hold says what becomes of requests that come while closed.
	hold struct {
		park  time.Duration
		known signalbox.Term
	}
	// awaitQuiet asks for a quieted event.
	awaitQuiet struct{ idle, most time.Duration }
	// newKey: the identity must not be used again.
	newKey struct{ why string }
	// exit: the orderly stop is complete.
	exit struct{ left bool }
	// note is a line for the log.
	note struct {
		warn     bool
		what     string
		handover string
		term     signalbox.Term
		detail   string
		refused  bool // something from outside was refused: count it
	}
)

func (persist) isEffect()    {}
func (say) isEffect()        {}
func (tell) isEffect()       {}
func (ask) isEffect()        {}
func (attested) isEffect()   {}
func (want) isEffect()       {}
func (stepDown) isEffect()   {}
func (promote) isEffect()    {}
func (prepare) isEffect()    {}
func (follow) isEffect()     {}
func (askLease) isEffect()   {}
func (giveLease) isEffect()  {}
func (hold) isEffect()       {}
func (awaitQuiet) isEffect() {}
func (newKey) isEffect()     {}
func (exit) isEffect()       {}
func (note) isEffect()       {}
