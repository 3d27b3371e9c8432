package coordinator

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// maxRecent bounds how many statements are remembered as seen.
const maxRecent = 65536

func (c *Coordinator) learnKey(id signalbox.Identity, key []byte) {
	c.mu.Lock()
	c.keys[id] = key
	c.mu.Unlock()
}

func (c *Coordinator) key(id signalbox.Identity) ed25519.PublicKey {
	c.mu.Lock()
	key := c.keys[id]
	c.mu.Unlock()
	if key != nil {
		return key
	}
	c.opt.Journal.View(func(l *handover.Ledger) {
		if in, ok := l.Enrolled(id); ok {
			key = in.PublicKey
		}
	})
	return key
}

// AgentHello implements session.Handler.
func (c *Coordinator) AgentHello(in signalbox.Instance, hello *wire.Hello) error {
	s := c.services[in.Service]
	if s == nil {
		return fmt.Errorf("%w: service %q is not in the gateways' configuration", signalbox.ErrUnknown, in.Service)
	}
	if err := c.checkIncarnation(in, start{hello.GetIncarnation(), string(hello.GetStart())}); err != nil {
		return err
	}
	c.learnKey(in.Identity, in.PublicKey)
	c.post(func() {
		i := c.instanceOf(s, in)
		i.local, i.address = true, hello.GetAddress()
		v := i.view(c.opt.Gateway)
		v.silent, v.at = noTime, c.opt.Now()
		v.status.Address, v.status.Driver, v.status.Version = hello.GetAddress(), hello.GetDriver(), hello.GetVersion()
		v.status.Name, v.status.Incarnation, v.status.Start = in.Name, hello.GetIncarnation(), hello.GetStart()
		i.proof = hello.GetEnrollment()
		c.keepIncarnation(in.Identity)
		c.admit(s, i, hello.GetEnrollment(), false)
		c.grant(s, in.Identity)
		c.step(s, handover.AgentChanged{Identity: in.Identity, Up: true})
		c.event(s, eventInstance, in.Name, "agent connected")
	})
	return nil
}

// AgentGone implements session.Handler.
func (c *Coordinator) AgentGone(id signalbox.Identity) {
	c.post(func() {
		for _, s := range c.services {
			i := s.instances[id]
			if i == nil {
				continue
			}
			i.local = false
			v := i.view(c.opt.Gateway)
			v.silent = c.opt.Now()
			c.tellViews([]*instance{i})
			c.step(s, handover.AgentChanged{Identity: id, Up: i.reachable()})
			c.refresh(s)
			c.event(s, eventInstance, i.Name, "agent cannot be reached")
			c.forget(s, id)
		}
	})
}

// AgentFrame implements session.Handler.
func (c *Coordinator) AgentFrame(id signalbox.Identity, frame *wire.AgentFrame) {
	switch k := frame.Kind.(type) {
	case *wire.AgentFrame_Statement:
		c.Statement(k.Statement)
	case *wire.AgentFrame_Status:
		c.post(func() { c.agentStatus(id, k.Status) })
	case *wire.AgentFrame_AttestedStart:
		c.post(func() { c.attestedStart(k.AttestedStart) })
	case *wire.AgentFrame_Want:
		c.post(func() { c.agentWant(id, k.Want) })
	}
}

func (c *Coordinator) agentStatus(id signalbox.Identity, st *wire.InstanceStatus) {
	s := c.services[signalbox.Service(st.GetService())]
	if s == nil || s.instances[id] == nil || !bounded(st) {
		return
	}
	i := s.instances[id]
	v := i.view(c.opt.Gateway)
	st.Name, st.Driver, st.Incarnation, st.Version = i.Name, v.status.GetDriver(), v.status.GetIncarnation(), v.status.GetVersion()
	st.Start = v.status.GetStart()
	changed := v.status.GetState() != st.GetState() || v.status.GetTerm() != st.GetTerm() || v.status.GetReady() != st.GetReady() ||
		v.status.GetAddress() != st.GetAddress() || v.status.GetProblem() != st.GetProblem() ||
		v.status.GetPrepared() != st.GetPrepared() || string(v.status.GetChallenge()) != string(st.GetChallenge()) || len(v.status.GetProblems()) != len(st.GetProblems())
	v.status, v.at = st, c.opt.Now()
	c.heardStatus(s, i, v)
	if changed {
		c.tellView(s, i)
		c.refresh(s)
	}
}

// maxProblems is how many problems an instance's status names at most.
const maxProblems = 16

// bounded reports whether a status is of a size that is kept.
func bounded(st *wire.InstanceStatus) bool {
	for _, text := range []string{st.GetState(), st.GetName(), st.GetDriver(), st.GetVersion()} {
		if len(text) > 2*signalbox.MaxName {
			return false
		}
	}
	for _, p := range st.GetProblems() {
		if len(p.GetName())+len(p.GetWhat())+len(p.GetDo()) > 4*signalbox.MaxReason {
			return false
		}
	}
	return len(st.GetChallenge()) <= len(signalbox.Digest{}) && len(st.GetProblems()) <= maxProblems && len(st.GetLost().GetKept()) <= signalbox.MaxReason && len(st.GetProblem()) <= 4*signalbox.MaxReason && len(st.GetAddress()) <= signalbox.MaxAddress
}

// heardStatus takes from a status what matters for serving.
func (c *Coordinator) heardStatus(s *service, i *instance, v *view) {
	c.heardLost(s, i, v.status.GetLost())
	if a := v.status.GetAddress(); a != "" {
		i.address = a
	}
	if v.status.GetState() == stateServing && v.status.GetTerm() != 0 {
		v.ever = signalbox.Term(v.status.GetTerm())
		c.step(s, handover.Serves{Identity: i.Identity, Term: v.ever})
	}
}

func (c *Coordinator) agentWant(id signalbox.Identity, w *wire.Want) {
	s := c.services[signalbox.Service(w.GetService())]
	if s == nil || s.instances[id] == nil {
		return
	}
	cert := s.machine.Certificate()
	if cert != nil && uint64(cert.Term) > w.GetTerm() {
		c.grant(s, id)
		return
	}
	c.admit(s, s.instances[id], s.instances[id].proof, true)
}

// Statement takes a signed statement in, by whatever way but from a peer:
// verified, once, and passed on.
func (c *Coordinator) Statement(raw []byte) {
	e, ok := c.newStatement(raw)
	if !ok {
		return
	}
	c.post(func() {
		c.relay(e)
		c.said(e, c.opt.Now())
	})
}

// peerStatement takes in what a peer passed on. Peers reach each other
// directly: it goes no further.
func (c *Coordinator) peerStatement(raw []byte, seen time.Time) {
	if e, ok := c.newStatement(raw); ok {
		c.post(func() { c.said(e, seen) })
		c.passOn(e)
	}
}

// newStatement verifies a statement that was not seen before.
func (c *Coordinator) newStatement(raw []byte) (signalbox.Evidence, bool) {
	e, err := c.openStatement(raw)
	if err != nil {
		c.opt.Metrics.refusedStatement()
		if !errors.Is(err, signalbox.ErrUnknown) {
			c.opt.Logger.Warn().Err(err).Msg("refused statement")
		}
		return e, false
	}
	return e, c.firstTime(rpc.StatementKey(e.Statement))
}

func (c *Coordinator) firstTime(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recent[key] {
		return false
	}
	if len(c.seen) >= maxRecent {
		delete(c.recent, c.seen[0])
		c.seen = c.seen[1:]
	}
	c.recent[key] = true
	c.seen = append(c.seen, key)
	return true
}

// said feeds a statement to its service's machine; seen is when a gateway first
// saw it, for the record.
func (c *Coordinator) said(e signalbox.Evidence, seen time.Time) {
	s := c.services[e.Service]
	if s == nil {
		return
	}
	i := c.instanceByID(s, e.Identity)
	switch e.Kind {
	case signalbox.SaysServing:
		if i != nil {
			i.said = max(i.said, e.Term)
			i.address = e.Address
			if e.Term > i.served.Term || e.Term == i.served.Term && e.Incarnation >= i.served.Incarnation {
				i.served = e
			}
		}
	case signalbox.SaysLeave:
		if e.Admission >= s.leaves[e.Identity].Admission { // one of before may be repeated late
			s.leaves[e.Identity] = e
		}
		c.keepStatement(e)
	case signalbox.SaysAck, signalbox.SaysRefuse:
		c.keepStatement(e)
	case signalbox.SaysLapse, signalbox.SaysFence, signalbox.SaysAttest:
		c.keepStatement(e)
		c.removeBy(s, e)
	}
	c.recordStatement(s, e, seen)
	c.step(s, handover.Said{Evidence: e})
	if e.Kind == signalbox.SaysServing || e.Kind == signalbox.SaysLeave {
		c.refresh(s)
	}
	if e.Kind == signalbox.SaysServing {
		c.tellFollowers(s)
	}
}

func (c *Coordinator) keepStatement(e signalbox.Evidence) {
	key := rpc.StatementKey(e.Statement)
	c.later(func() error { return c.opt.Journal.PutNote(journal.KindStatement, key, e.Envelope) })
}

// housekeeping does what is not urgent: asking the agents how they are,
// admissions that have to be tried again, leaves that take an identity out of
// the outstanding, endpoints gone quiet.
func (c *Coordinator) housekeeping() {
	c.heartbeat()
	c.logAttested()
	for _, s := range c.services {
		for _, i := range s.instances {
			if i.local {
				c.admit(s, i, i.proof, false)
			}
		}
		c.removeLeft(s)
		c.refresh(s)
		c.retire(s)
		c.watchSilence(s)
	}
	c.tellProxies()
	c.survey()
}

// heartbeat asks every local agent for its status and tells the peers of all
// local instances, so that a switch knows who was heard from just now.
func (c *Coordinator) heartbeat() {
	view := &wire.SiteView{DataCenter: string(c.opt.DataCenter)}
	c.opt.Links.SendAll(pingFrame(c.opt.Now()))
	for _, s := range c.services {
		for _, i := range s.instances {
			if i.local {
				view.Instances = append(view.Instances, c.wireStatus(i))
			}
		}
	}
	for _, part := range split(view) {
		c.opt.Links.Broadcast(part)
	}
}

func pingFrame(now time.Time) *wire.GatewayFrame {
	return &wire.GatewayFrame{Kind: &wire.GatewayFrame_Ping{Ping: &wire.Ping{Ping: uint64(now.UnixNano())}}}
}

// removeLeft proposes to take identities that left out of the outstanding, so
// that rolling restarts leave no debts. A leave is kept until the log has its
// removal or a newer admission: it is evidence meanwhile.
func (c *Coordinator) removeLeft(s *service) {
	if _, open := s.machine.Open(); open {
		return
	}
	now := c.opt.Now()
	for id, e := range s.leaves {
		counts, over := c.counts(s, id, e)
		if over {
			delete(s.leaves, id)
		}
		if !counts || len(e.Position) > 0 {
			continue // the next certificate needs a position: it says what the data had reached
		}
		i := s.instances[id]
		if c.turn() > 0 || i != nil && i.DataCenter != c.opt.DataCenter || now.Before(s.removing[id]) {
			continue
		}
		s.removing[id] = now.Add(removeAgain)
		c.propose(s, "removal", signalbox.Request{Remove: &signalbox.Removal{Service: s.conf.Name, Identity: id, Evidence: e.Envelope}})
	}
	for id, t := range s.removing {
		if now.After(t.Add(removeAgain)) {
			delete(s.removing, id)
		}
	}
}

// counts reports whether evidence that takes an instance out is of the admission that
// is outstanding by the own log, and whether it is over: the log has its removal or a
// newer admission. One of an admission that this log does not have yet is neither.
func (c *Coordinator) counts(s *service, id signalbox.Identity, e signalbox.Evidence) (counts, over bool) {
	c.opt.Journal.View(func(l *handover.Ledger) {
		over = e.Admission <= l.Index()
		if st := l.Service(s.conf.Name); st != nil {
			holder, outstanding := st.Outstanding[id]
			counts = outstanding && holder.Admission == e.Admission
			over = over && !counts || outstanding && holder.Admission > e.Admission
		}
	})
	return counts, over
}

// removeAgain is how long a removal that was proposed is waited for.
const removeAgain = 2 * session.ProposeWait
