package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
	"github.com/signalbox-io/signalbox/membership/agent/driver/guard"
	"github.com/signalbox-io/signalbox/membership/lease"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// errRenewed ends a core whose identity was given up.
var errRenewed = errors.New("identity given up")

// startSize is how many bytes name a start.
const startSize = 16

// maxEvents is how many events wait for an instance's core; who posts more waits.
const maxEvents = 256

// runner owns one instance: its core, its store, its driver.
type runner struct {
	agent  *Agent
	in     Instance
	driver driver.Driver
	gate   *guard.Gate // of a library instance
	log    zerolog.Logger
	events chan event
	exited chan struct{} // closed when the orderly stop is complete
	once   sync.Once

	store  *store // owned by run
	core   *core  // owned by run
	outbox outbox // owned by run
	lead   string // the gateway that gave the last order; owned by run
	drawn  []byte // owned by run; tells this start from one of a copied state

	mu   sync.Mutex // guards self
	self introduction
}

// introduction is what sessions need to introduce the instance.
type introduction struct {
	instance    signalbox.Instance
	key         ed25519.PrivateKey
	incarnation uint64
	start       []byte // drawn when the store was opened
	term        signalbox.Term
}

func newRunner(a *Agent, in Instance) (*runner, error) {
	r := &runner{
		agent: a, in: in, driver: in.Driver, events: make(chan event, maxEvents), exited: make(chan struct{}),
		log: a.opts.Log.With().Str("service", string(in.Service)).Str("instance", in.Name).Logger(),
	}
	if r.driver == nil {
		r.gate = guard.New(guard.Options{MaxParked: in.MaxParked, Streams: in.Streams, Stale: func(t signalbox.Term) {
			select {
			case r.events <- overtaken{term: t}:
			default: // the next request from above tells it again
			}
		}})
		r.driver = r.gate
		if err := a.metrics.watch(in, r.gate); err != nil {
			return nil, err
		}
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	if in.Unmanaged && r.gate != nil && r.core.untouched() {
		r.gate.OpenUnmanaged()
	}
	return r, nil
}

// open opens the store and makes the core from it.
func (r *runner) open() error {
	s, err := openStore(filepath.Join(r.agent.opts.StateDir, string(r.in.Service), r.in.Name), nil)
	if err != nil {
		return err
	}
	r.start(s)
	return nil
}

func (r *runner) start(s *store) {
	opts := r.agent.opts
	r.store = s
	r.outbox = outbox{} // what the last core had to tell is told anew to every session
	self := signalbox.Instance{
		Service: r.in.Service, DataCenter: opts.DataCenter, Name: r.in.Name,
		Identity: s.identity(), PublicKey: s.key.Public().(ed25519.PublicKey),
	}
	if s.why != "" {
		r.log.Error().Str("event", "new_key").Str("identity", string(self.Identity)).Str("reason", s.why).
			Msg("the instance's state was lost or damaged: a new key was made; the old identity stays outstanding until fenced, lapsed or attested")
		s.why = ""
	}
	_, prepares := r.driver.(driver.Preparer)
	_, follows := r.driver.(driver.Follower)
	_, deadMan := r.driver.(driver.Leaser)
	r.core = newCore(coreConfig{
		prepares: prepares, follows: follows, deadMan: deadMan,
		trust: opts.Trust, instance: self, address: r.in.Address, key: s.key, voting: r.agent.voting,
		mandate: opts.Mandates,
		nonce: func() []byte {
			nonce := make([]byte, rpc.NonceSize)
			_, _ = rand.Read(nonce) // never fails
			return nonce
		},
	}, s.state)
	r.drawn = make([]byte, startSize)
	_, _ = rand.Read(r.drawn) // never fails
	r.introduce()
}

func (r *runner) introduce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.self = introduction{start: r.drawn, instance: r.core.cfg.instance, key: r.core.cfg.key, incarnation: r.core.Incarnation, term: r.core.term()}
}

// hello makes the frame that introduces the instance to a gateway.
func (r *runner) hello(now time.Time) (*wire.AgentFrame, error) {
	r.mu.Lock()
	self := r.self
	r.mu.Unlock()
	opts := r.agent.opts
	enrollment, err := rpc.SealEnrollment(opts.Cluster, self.instance, now, self.key, opts.Keeper.Certificate())
	if err != nil {
		return nil, fmt.Errorf("introduce instance %s: %w", r.in.Name, err)
	}
	return &wire.AgentFrame{Kind: &wire.AgentFrame_Hello{Hello: &wire.Hello{
		Enrollment: enrollment, Incarnation: self.incarnation, Address: r.in.Address,
		Term: uint64(self.term), Version: opts.Version, Driver: r.in.DriverName, Start: self.start,
	}}}, nil
}

// post hands an event to the core; it waits for room until ctx ends.
func (r *runner) post(ctx context.Context, ev event) {
	select {
	case r.events <- ev:
	case <-ctx.Done():
	}
}

// run runs the core until ctx ends. When the store fails, memory and disk may
// differ: the core starts again from the disk, as after a crash of the agent,
// while the instance stays as it is.
func (r *runner) run(ctx context.Context) {
	defer r.release()
	wait := driveBackoff
	for {
		err := r.serve(ctx)
		r.store.close()
		if err == nil || ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errRenewed) {
			r.log.Error().Err(err).Str("event", "restart").Msg("the instance's state could not be written: starting again from the disk; check space and permissions")
		}
		for {
			if err := r.open(); err == nil {
				break
			} else {
				r.log.Error().Err(err).Str("event", "restart").Msg("the instance's state cannot be opened")
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, maxDriveBackoff)
		}
		for _, s := range r.agent.sessions {
			s.kick("an instance was started again")
		}
	}
}

// release lets go of what the driver holds.
func (r *runner) release() {
	if err := r.driver.Stop(context.Background()); err != nil {
		r.log.Warn().Err(err).Str("event", "release").Msg("the driver could not be released")
	}
}

// serve owns core and store until ctx ends (nil) or the store fails.
func (r *runner) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	c := newConductor(r)
	all.Go(func() { c.carryOut(ctx) })
	all.Go(func() { c.poll(ctx) })
	all.Go(func() { c.giveLeases(ctx) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ev event = ticked{}
		select {
		case ev = <-r.events:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		r.leadOf(ev)
		at := lease.Instant{Boot: driver.BootTime(), Wall: time.Duration(now.UnixNano())}
		for _, e := range r.core.Step(ev, now, at) {
			if err := r.do(ctx, c, e); err != nil {
				return err
			}
		}
		r.flush(now)
		if err := r.store.tidy(); err != nil {
			return err
		}
		next := r.core.Next(now)
		if due := r.outbox.next(); next.IsZero() || !due.IsZero() && due.Before(next) {
			next = due
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(next), 0))
		}
	}
}

// do carries one effect out.
func (r *runner) do(ctx context.Context, c *conductor, e effect) error {
	switch e := e.(type) {
	case persist:
		return r.persist(e)
	case say:
		r.say(e)
	case tell:
		r.agent.metrics.status(r.in, e.status)
		if e.gateway == "" {
			r.tellAll(e.status, time.Now())
		} else {
			r.send(e.gateway, &wire.AgentFrame{Kind: &wire.AgentFrame_Status{Status: e.status}})
		}
	case ask:
		r.send(e.gateway, &wire.AgentFrame{Kind: &wire.AgentFrame_Question{Question: e.question}})
	case attested:
		r.send(e.gateway, &wire.AgentFrame{Kind: &wire.AgentFrame_AttestedStart{AttestedStart: e.proof}})
	case want:
		r.sendOne(e.gateway, &wire.AgentFrame{Kind: &wire.AgentFrame_Want{Want: e.want}})
	case stepDown:
		c.order(order{op: e.op, stepDown: &e.order})
	case promote:
		c.order(order{op: e.op, promote: &e.order})
	case prepare:
		c.order(order{op: e.op, prepare: &e.order})
	case follow:
		c.order(order{op: e.op, follow: &e.order})
	case askLease:
		r.send("", &wire.AgentFrame{Kind: &wire.AgentFrame_LeaseRequest{LeaseRequest: e.request}})
	case giveLease:
		c.lease(e)
	case hold:
		if h, ok := r.driver.(driver.Holder); ok {
			h.Hold(e.park, e.known)
		}
	case awaitQuiet:
		c.quiet(ctx, e)
	case newKey:
		if err := r.store.renew(e.why); err != nil {
			return err
		}
		return errRenewed
	case exit:
		r.flush(time.Now().Add(gossipAfter)) // everything
		r.once.Do(func() { close(r.exited) })
	case note:
		r.note(e)
	}
	return nil
}

func (r *runner) persist(e persist) error {
	began := time.Now()
	if err := r.store.append(e.record, e.sync); err != nil {
		return err
	}
	if e.sync {
		r.agent.metrics.persisted.Observe(time.Since(began).Seconds())
		return nil
	}
	if e.record.Certificate != nil {
		r.introduce()
	}
	return nil
}

func (r *runner) say(e say) {
	if e.gateway != "" {
		r.send(e.gateway, statementFrame(e.evidence.Envelope))
		return
	}
	r.sayAll(e.evidence.Envelope, e.evidence.Kind, time.Now())
	r.agent.metrics.said.WithLabelValues(string(r.in.Service), e.evidence.Kind.String()).Inc()
	r.log.Info().Str("event", "said").Str("kind", e.evidence.Kind.String()).Str("handover", e.handover).
		Uint64("term", uint64(e.evidence.Term)).Msg("statement signed")
}

// send hands a frame to a gateway's session, or to all of them.
func (r *runner) send(gateway string, frame *wire.AgentFrame) {
	for _, s := range r.agent.sessions {
		if gateway == "" || s.address == gateway {
			s.send(frame)
		}
	}
}

// sendOne hands a frame to the gateway named, or to one that is connected: the
// next one at each call, so that a gateway that cannot help is not the only one
// asked.
func (r *runner) sendOne(gateway string, frame *wire.AgentFrame) {
	if gateway != "" {
		r.send(gateway, frame)
		return
	}
	first := int(time.Now().UnixNano() % int64(len(r.agent.sessions)))
	for i := range r.agent.sessions {
		if s := r.agent.sessions[(first+i)%len(r.agent.sessions)]; s.send(frame) {
			return
		}
	}
}

func (r *runner) note(e note) {
	if e.refused {
		r.agent.metrics.rejected.WithLabelValues(string(r.in.Service)).Inc()
	}
	line := r.log.Info()
	if e.warn {
		line = r.log.Warn()
	}
	if e.handover != "" {
		line = line.Str("handover", e.handover)
	}
	if e.term != 0 {
		line = line.Uint64("term", uint64(e.term))
	}
	if e.detail != "" {
		line = line.Str("detail", e.detail)
	}
	line.Msg(e.what)
}
