package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// step feeds an event into a service's machine and carries out its effects, and
// those of the events that come of them.
func (c *Coordinator) step(s *service, first handover.Event) {
	events := []handover.Event{first}
	for len(events) > 0 {
		e := events[0]
		events = events[1:]
		for _, effect := range s.machine.Step(e, c.opt.Now()) {
			events = append(events, c.do(s, effect)...)
		}
	}
	if s.machine.Owes() {
		c.busy[s] = true
	} else {
		delete(c.busy, s)
	}
	_, open := s.machine.Open()
	if term := certifiedTerm(s); open != s.shown.open || term != s.shown.term {
		s.shown.open, s.shown.term = open, term
		c.opt.Metrics.service(s, open)
	}
	if len(s.records) > 0 {
		c.watchRecords(s)
	}
}

func certifiedTerm(s *service) signalbox.Term {
	if cert := s.machine.Certificate(); cert != nil {
		return cert.Term
	}
	return 0
}

// do carries out one effect; what it learns comes back as events.
func (c *Coordinator) do(s *service, effect handover.Effect) []handover.Event {
	switch e := effect.(type) {
	case handover.Route:
		s.routeTerm = max(s.routeTerm, e.Term)
		c.publish(s)
		return c.ownHold(s, e.Block, false)
	case handover.TellPrepared:
		c.opt.Links.Broadcast(preparedFrame(s.conf.Name, e.Block))
	case handover.TellHeld:
		if r := s.records[e.Held.Block]; r != nil {
			r.heldBy(e.Held, c.opt.DataCenter, c.opt.Now())
		}
		c.tellHeld(s, e)
	case handover.Order:
		c.order(s, e)
	case handover.TellGiveUp:
		c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_GiveUp{GiveUp: &wire.GiveUp{
			Service: string(s.conf.Name), Block: e.Block[:], Problem: clip(e.Problem, signalbox.MaxReason),
		}}})
	case handover.Collect:
		c.collect(s, e)
	case handover.Certify:
		cert, err := rpc.BuildCertificate(c.opt.Trust, e.Block, s.conf.Name, e.Term, e.Evidence)
		if err != nil {
			c.opt.Logger.Error().Err(err).Str("service", string(s.conf.Name)).Msg("evidence does not make a certificate")
			return nil
		}
		c.certificates.put(cert.Raw, struct{}{})
		return []handover.Event{handover.Certified{Certificate: cert, Built: true}}
	case handover.Spread:
		c.spread(s, e)
	case handover.Release:
		c.release(s, e.Certificate)
	case handover.ProposeOutcome:
		c.proposeOutcome(s, e.Certificate)
	case handover.ProposeReturn:
		c.proposeReturn(s, e)
	case handover.Record:
		c.recordLine(s, e)
	}
	return nil
}

// clip shortens a text to at most that many bytes. What it returns is valid
// UTF-8, as everything that goes into a message has to be.
func clip(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

func (c *Coordinator) order(s *service, e handover.Order) {
	kind := map[handover.OrderKind]wire.OrderKind{
		handover.OrderDrain: wire.OrderKind_ORDER_DRAIN, handover.OrderAck: wire.OrderKind_ORDER_ACK,
		handover.OrderRefuse: wire.OrderKind_ORDER_REFUSE,
	}[e.Kind]
	frame := &wire.GatewayFrame{Kind: &wire.GatewayFrame_Order{Order: &wire.Order{
		Kind: kind, Service: string(s.conf.Name), Decided: e.Block.Raw,
	}}}
	for _, id := range e.To {
		c.opt.Links.Send(id, frame)
	}
	if e.Kind == handover.OrderDrain {
		c.notice(rpc.Notice{Block: e.Block})
	}
}

// spread hands a certificate on. Losing it in a crash here loses nothing: the
// agents keep their answers and the peers the certificate, so it need not be on
// disk first.
func (c *Coordinator) spread(s *service, e handover.Spread) {
	cert := e.Certificate
	if e.To&handover.ToPeers != 0 {
		c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_Certificate{Certificate: cert.Raw}})
	}
	if e.To&handover.ToAgents == 0 {
		return
	}
	for id, in := range s.instances {
		if in.local && !in.serves(cert.Term) {
			c.grant(s, id)
		}
	}
	if s.machine.Runs(cert.Block.Digest) { // else it is no news: read from the own disk
		c.notice(rpc.Notice{Certificate: cert})
	}
	name := string(s.conf.Name)
	c.later(func() error { return c.opt.Journal.PutNote(journal.KindCertificate, name, cert.Raw) })
}

// grant sends an instance the newest certificate and, where that does not list
// it, its admission.
func (c *Coordinator) grant(s *service, id signalbox.Identity) {
	cert := s.machine.Certificate()
	if cert == nil {
		return
	}
	g := &wire.Grant{Service: string(s.conf.Name), Certificate: cert.Raw, Identity: rpc.IdentityToBytes(id), Serving: c.servings(s, cert)}
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(s.conf.Name); st != nil && st.Term() == cert.Term {
			if b := st.Admissions[id]; b != nil {
				g.Admission = b.Raw
			}
		}
	})
	c.opt.Links.Send(id, &wire.GatewayFrame{Kind: &wire.GatewayFrame_Grant{Grant: g}})
}

func (c *Coordinator) release(s *service, cert *signalbox.Certificate) {
	s.released = max(s.released, cert.Term)
	s.since = c.opt.Now()
	s.routeTerm = max(s.routeTerm, cert.Term)
	if newest, open := s.machine.Open(); open && newest.Digest != cert.Block.Digest {
		s.routeTerm = max(s.routeTerm, newest.Handover(s.conf.Name).Term)
	}
	c.publish(s)
}

func (c *Coordinator) proposeOutcome(s *service, cert *signalbox.Certificate) {
	var evidence [][]byte
	for _, e := range cert.Evidence {
		evidence = append(evidence, e.Envelope)
	}
	c.propose(s, "outcome", signalbox.Request{Outcome: &signalbox.Outcome{
		Service: s.conf.Name, Block: cert.Block.Digest, Certified: cert.Term, Evidence: evidence,
	}})
}

// propose has a request decided without waiting. Conflicts are expected: the
// gateways propose the same things, and one is first.
func (c *Coordinator) propose(s *service, what string, r signalbox.Request) {
	c.background(func(ctx context.Context) {
		err := c.opt.Links.ProposeTo(ctx, r)
		if err != nil && ctx.Err() == nil {
			level := zerolog.WarnLevel
			if errors.Is(err, signalbox.ErrConflict) {
				level = zerolog.DebugLevel
			}
			c.opt.Logger.WithLevel(level).Err(err).Str("service", string(s.conf.Name)).Str("request", what).Msg("proposal was not decided")
		}
	})
}

// proposeReturn builds the superseding handover back.
func (c *Coordinator) proposeReturn(s *service, e handover.ProposeReturn) {
	before := e.Block.Handover(s.conf.Name)
	h := &signalbox.Handover{
		ID: returnID(before.ID), Service: s.conf.Name, From: before.To, To: before.From,
		Allowed: signalbox.AckOnly, HoldBudget: before.HoldBudget, AllowLateProxies: true,
		By: "signalbox", Reason: clip(fmt.Sprintf("supersedes %s: %s", before.ID, e.Reason), signalbox.MaxReason),
	}
	h.Incoming = c.incoming(s, h.To)
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(s.conf.Name); st != nil {
			h.Term = st.Last + 1
		}
	})
	c.fill(s, h)
	if len(h.Incoming) == 0 {
		c.opt.Logger.Error().Str("handover", before.ID).Str("service", string(s.conf.Name)).
			Msgf("no instance of %s in %s can be reached for the handover back; waiting for one", s.conf.Name, h.To)
		return
	}
	c.propose(s, "handover back", signalbox.Request{Handover: h})
}

// returnID names the way back of a handover, the same for every gateway.
func returnID(id string) string {
	const suffix = "-back"
	return clip(id, 2*signalbox.MaxName-len(suffix)) + suffix
}

// candidates lists the enrolled instances of a data center that were heard
// from, for a list of incoming identities.
func (c *Coordinator) candidates(s *service, dc signalbox.DataCenter) []signalbox.Identity {
	var out []signalbox.Identity
	c.opt.Journal.View(func(l *handover.Ledger) {
		for _, in := range l.Instances(s.conf.Name) {
			if v := s.instances[in.Identity]; in.DataCenter == dc && v != nil && v.reachable() && !v.leaving() {
				out = append(out, in.Identity)
			}
		}
	})
	return out
}

// load brings the journal's state in: the log, and the notes beside it.
func (c *Coordinator) load() error {
	c.applyLog()
	endpoints, err := c.opt.Journal.Notes(journal.KindEndpoints)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	certificates, err := c.opt.Journal.Notes(journal.KindCertificate)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	statements, err := c.opt.Journal.Notes(journal.KindStatement)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	for _, raw := range statements {
		if e, ok := c.newStatement(raw); ok {
			c.said(e, c.opt.Now())
		}
	}
	c.loaded = true
	c.loadHolds()
	for name, raw := range certificates {
		if cert, err := rpc.OpenCertificate(c.opt.Trust, raw); err == nil {
			if s := c.services[signalbox.Service(name)]; s != nil {
				c.step(s, handover.Certified{Certificate: cert})
			}
		}
	}
	for _, s := range c.services {
		s.endpoints, s.endpointsTerm = decodeEndpoints(endpoints[string(s.conf.Name)])
		c.dropSettled(s)
		c.refresh(s)
	}
	c.keepMissing(c.applied)
	return nil
}

// applyLog takes new blocks in, in order.
func (c *Coordinator) applyLog() {
	for c.applied < c.opt.Journal.Index() {
		if first := c.opt.Journal.First(); c.applied+1 < first {
			c.skip(first - 1)
			continue
		}
		b, err := c.opt.Journal.Block(c.applied + 1)
		if err != nil {
			c.opt.Logger.Error().Err(err).Uint64("index", c.applied+1).Msg("cannot read the own log")
			return
		}
		c.applied = b.Index
		for i := range b.Requests {
			c.logged(b, &b.Requests[i])
		}
	}
}

func (c *Coordinator) logged(b *signalbox.DecidedBlock, r *signalbox.Request) {
	s := c.services[r.Service()]
	if s == nil {
		return
	}
	switch {
	case r.Handover != nil && r.Handover.From == "":
		c.certifiedByLog(s)
		c.adopted(r.Handover.ID)
	case r.Handover != nil:
		c.openRecord(s, b, r.Handover)
		c.heardPeople(s, r)
		c.step(s, handover.Decided{Block: b, Resumed: !c.loaded})
	case r.Outcome != nil:
		c.settled(s, r.Outcome)
		c.certifiedByLog(s)
		c.step(s, handover.Logged{Block: r.Outcome.Block, Certified: r.Outcome.Certified})
	case r.Remove != nil && r.Remove.Announces():
		// The instance stays outstanding: what it said before still counts.
	case r.Remove != nil:
		if s.leaves[r.Remove.Identity].Admission < b.Index {
			delete(s.leaves, r.Remove.Identity)
		}
		c.step(s, handover.Removed{Identity: r.Remove.Identity, Index: b.Index})
	case r.Pause != nil, r.Approval != nil, r.Started != nil:
		c.heardPeople(s, r)
	case r.Admit != nil:
		delete(s.admitting, r.Admit.Identity)
		c.learnKey(r.Admit.Identity, r.Admit.PublicKey)
		c.keepIncarnation(r.Admit.Identity)
		c.grant(s, r.Admit.Identity)
	}
	c.refresh(s)
}

// dropSettled forgets the notes of statements that count no more. The queue of
// writes keeps the order: a statement kept after this is written after it.
func (c *Coordinator) dropSettled(s *service) {
	if !c.loaded {
		return // the statements are not with the machine yet
	}
	counts := map[string]bool{}
	for _, e := range s.machine.Statements() {
		counts[rpc.StatementKey(e.Statement)] = true
	}
	service := string(s.conf.Name) + "/"
	c.later(func() error {
		return c.opt.Journal.DropNotes(journal.KindStatement, func(key string) bool {
			return strings.HasPrefix(key, service) && !counts[key]
		})
	})
}

// certifiedByLog tells the machine of the newest certificate that the log has.
func (c *Coordinator) certifiedByLog(s *service) {
	var cert *signalbox.Certificate
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(s.conf.Name); st != nil {
			cert = st.Certificate
		}
	})
	if cert != nil {
		c.step(s, handover.Certified{Certificate: cert})
	}
}
