package agent

import (
	"crypto/ed25519"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// Times that the core goes by.
const (
	// repeatAfter is how long it waits for an answer or a grant before it asks
	// again.
	repeatAfter = time.Second
	// driveBackoff and maxDriveBackoff bound the wait before a failed order to
	// the driver is repeated.
	driveBackoff    = 50 * time.Millisecond
	maxDriveBackoff = 2 * time.Second
	// leaveIdle and leaveMost bound how long a leaving instance goes on serving
	// until the proxies have been told.
	leaveIdle = 250 * time.Millisecond
	leaveMost = 3 * time.Second
	// leaveQuorum is how long a leave waits for a quorum of voters.
	leaveQuorum = 3 * time.Second
	// parkMargin is how long beyond the hold budget stragglers are parked.
	parkMargin = 5 * time.Second
)

// coreConfig is what a core knows from the start.
type coreConfig struct {
	trust    rpc.Trust
	instance signalbox.Instance
	address  string
	key      ed25519.PrivateKey
	// voting says who votes now; it only goes on to later epochs.
	voting func() voting
	// mandate verifies an operator's signature at a time.
	mandate func(proof []byte, at time.Time) (*signalbox.Mandate, error)
	// nonce draws rpc.NonceSize unpredictable bytes.
	nonce func() []byte
	// prepares and follows say what the driver can do; see driver.Preparer and
	// driver.Follower.
	prepares, follows bool
	// deadMan: the driver is a driver.Leaser.
	deadMan bool
}

// core decides for one instance: events and time in, effects out. It holds the
// interlock's rules 2, 4 and 8 (gateway/handover/INVARIANTS.md). It starts no goroutine and
// reads no clock; not safe for concurrent use.
type core struct {
	cfg coreConfig
	state

	voting voting

	cert  *signalbox.Certificate // of state.Certificate
	admit admittance             // of state.AdmittedBy
	open  []*pending             // of state.Open

	gate    gate
	fresh   bool // a quorum answered since the instance started
	started quiz
	report  reported
	met     bool   // the driver has said which run of the instance this is
	run     string // see driver.Status
	stop    stop
	help    help
	lease   leasing
	at      lease.Instant // the clocks of leases at this step
	now     time.Time     // of this step

	serving  signalbox.Evidence // the statement that it serves
	held     hold               // the last effect hold
	told     string             // the last status, to tell changes
	wantAt   time.Time          // when to want again
	problem  string             // of the driver
	rejected string             // why a gateway refuses the instance
	broken   bool               // the core asked for a new key and decides nothing more
	effects  []effect
}

// admittance is what an admission block says.
type admittance struct {
	term  signalbox.Term
	index uint64
}

// pending is an open block.
type pending struct {
	block     *signalbox.DecidedBlock
	handover  *signalbox.Handover
	entry     signalbox.RosterEntry
	first     time.Time
	ackOrder  bool
	refuse    bool
	drained   signalbox.Evidence // what was said, to be repeated
	drainedOp uint64
	// words are what others of the roster said of it by gossip, unverified; so
	// many of them were looked at.
	words   [][]byte
	weighed int
	// gossiped: the block came by gossip; orderedAt is when a gateway last
	// ordered something about it, zero when none did.
	gossiped  bool
	orderedAt time.Time
}

// newCore makes a core from what was stored; the incarnation in it is this
// start's. What cannot be verified any more (the voters' keys changed) is left
// out: a gateway will grant it again.
func newCore(cfg coreConfig, stored state) *core {
	c := &core{cfg: cfg, state: stored.clone(), voting: cfg.voting()}
	if len(c.Certificate) > 0 {
		if cert, err := rpc.OpenCertificate(cfg.trust, c.Certificate); err == nil && cert.Service == cfg.instance.Service {
			c.cert = cert
		}
	}
	if len(c.AdmittedBy) > 0 {
		if block, err := rpc.OpenBlock(cfg.trust, c.AdmittedBy); err == nil {
			c.admit = c.admittance(block)
		}
	}
	for _, o := range c.Open {
		block, err := rpc.OpenBlock(cfg.trust, o.Raw)
		if err != nil {
			continue
		}
		if h := block.Handover(cfg.instance.Service); h != nil {
			if entry, ok := h.Entry(cfg.instance.Identity); ok {
				c.open = append(c.open, &pending{block: block, handover: h, entry: entry, first: o.First})
			}
		}
	}
	c.started = c.newQuiz()
	return c
}

// Step takes one event and returns what to do about it, in order. at are the
// clocks of leases at now.
func (c *core) Step(ev event, now time.Time, at lease.Instant) []effect {
	if c.broken {
		return nil
	}
	c.effects, c.now, c.at = nil, now, at
	c.checkVoters()
	switch ev := ev.(type) {
	case connected:
		c.onConnected(ev.gateway, now)
	case ordered:
		c.onOrdered(ev, now)
	case granted:
		c.onGranted(ev, now)
	case overheard:
		c.onOverheard(ev.raw)
	case answered:
		c.onAnswered(ev.raw)
	case startAttested:
		c.onAttested(ev.raw)
	case pinged:
		c.emit(tell{gateway: ev.gateway, status: c.status(ev.ping)})
	case disowned:
		c.onDisowned(ev)
	case overtaken:
		if ev.term > c.term() {
			c.emit(note{what: "request from above the instance's term", term: ev.term})
			c.wantNow("", now)
		}
	case preparing:
		c.onPreparing(ev.prepare)
	case drove:
		c.onDrove(ev, now)
	case helped:
		c.onHelped(ev, now)
	case leaseReplied:
		c.onLeaseReply(ev.reply)
	case leaseGiven:
		c.onLeaseGiven(ev)
	case reported:
		c.onReported(ev, now)
	case quieted:
		c.onQuieted()
	case stopping:
		c.onStopping(now)
	}
	c.reconcile(now)
	return c.effects
}

func (c *core) emit(e effect) { c.effects = append(c.effects, e) }

// keep applies a record and has it persisted.
func (c *core) keep(r record, sync bool) {
	c.apply(r)
	c.emit(persist{record: r, sync: sync})
}

// term is the term of the certificate held.
func (c *core) term() signalbox.Term {
	if c.cert == nil {
		return 0
	}
	return c.cert.Term
}

// index is the newest entry of the log that the instance may serve by: the
// block of the certificate held, or its admission to that term.
func (c *core) index() uint64 {
	if c.cert == nil {
		return 0
	}
	return max(c.cert.Block.Index, c.admission())
}

// mayServe returns the term that the instance may serve, 0 for none: rule 2
// without the nonce question.
func (c *core) mayServe() signalbox.Term {
	if c.cert == nil || c.cert.Term < c.Floor || c.cert.DataCenter() != c.cfg.instance.DataCenter {
		return 0
	}
	if c.admission() > c.Left {
		return c.cert.Term
	}
	return 0
}

// admission is the log index by which the instance may serve the term of the
// certificate held: listed in its block, or admitted to it. 0: not at all.
func (c *core) admission() uint64 {
	var by uint64
	if h, id := c.cert.Handover(), c.cfg.instance.Identity; h.Lists(id, c.cert.Term) {
		by = c.cert.Block.Index
		if c.cert.IsFallback() { // a fallback keeps the admission that the roster names
			e, _ := h.Entry(id)
			by = e.Admission
		}
	}
	if c.admit.term == c.cert.Term {
		by = max(by, c.admit.index)
	}
	return by
}

// statement signs what the instance says about a handover's block.
func (c *core) statement(kind signalbox.StatementKind, term signalbox.Term, block signalbox.Digest, admission uint64) (signalbox.Evidence, bool) {
	s := signalbox.Statement{
		Kind: kind, Service: c.cfg.instance.Service, Incarnation: c.Incarnation,
		Term: term, Block: block, Admission: admission,
	}
	switch kind {
	case signalbox.SaysServing:
		s.Address = c.cfg.address
	case signalbox.SaysAck, signalbox.SaysLeave:
		s.Position = c.gate.position // both are said while drained only
	}
	e, err := rpc.SealStatement(c.cfg.trust.Cluster, s, c.cfg.key)
	if err != nil { // names and address were checked at the start
		c.emit(note{warn: true, what: "cannot sign statement", term: term, detail: err.Error()})
		return signalbox.Evidence{}, false
	}
	return e, true
}

// wants makes the request for certificate and admission.
func (c *core) wants() *wire.Want {
	return &wire.Want{
		Service: string(c.cfg.instance.Service), Identity: rpc.IdentityToBytes(c.cfg.instance.Identity), Term: uint64(c.term()),
	}
}
