package coordinator

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

const (
	// maxAttestedStarts is how many starts without a quorum wait here for the log.
	maxAttestedStarts = 1024
	// attestedEvery is how often they are proposed again, attestedWait for how long.
	attestedEvery = 5 * time.Second
	attestedWait  = 4 * time.Second
)

// Start implements api.Rescuer: the operator's word goes to the instance, which
// decides; the log has it once a quorum is back.
func (c *Coordinator) Start(ctx context.Context, service, name string, word api.Word) (v api.Instance, err error) {
	s := c.services[signalbox.Service(service)]
	if s == nil {
		return v, c.unknown(service)
	}
	if len(word.Mandate) == 0 {
		return v, fmt.Errorf("%w: starting an instance without a quorum counts only with the operator's own signature: signalbox instance attest --start", signalbox.ErrUnsigned)
	}
	var m *signalbox.Mandate
	if c.opt.Mandates == nil {
		return v, fmt.Errorf("%w: this gateway cannot check operators' signatures", signalbox.ErrNotConfigured)
	}
	if m, err = c.opt.Mandates(word.Mandate, c.opt.Now()); err != nil {
		return v, err
	}
	var fault error
	err = c.ask(ctx, func() {
		var i *instance
		if i, fault = c.startable(s, name, m, word); fault == nil {
			v = c.instanceView(s, i)
			c.event(s, api.EventNote, i.Name, fmt.Sprintf("%s starts it without a quorum of voters: %s", m.By(), m.Reason))
			c.passStart(i, word.Mandate)
		}
	})
	if err == nil {
		err = fault
	}
	return v, err
}

// startable finds the instance that a mandate to start is of, and says why it
// would start nothing.
func (c *Coordinator) startable(s *service, name string, m *signalbox.Mandate, word api.Word) (*instance, error) {
	i := s.instances[signalbox.Identity(m.ID)]
	if m.Verb != signalbox.VerbStart || m.Service != s.conf.Name || m.By() != word.By || i == nil || i.Name != name && string(i.Identity) != name {
		return nil, fmt.Errorf("%w: what operator %s signed is not the start of %s; attest again", signalbox.ErrUntrusted, m.Operator, name)
	}
	if !i.reachable() {
		return nil, &api.Fault{Err: fmt.Errorf("%w: nobody has a session with the agent of %s", signalbox.ErrNotReady, i.Name), Do: "Start its agent; it has to reach a gateway of its data center."}
	}
	challenge := i.newest().status.GetChallenge()
	switch cert := s.machine.Certificate(); {
	case len(challenge) == 0:
		return nil, fmt.Errorf("%w: %s waits for no quorum, or may serve no term: there is nothing to start", signalbox.ErrConflict, i.Name)
	case string(challenge) != string(m.Of[:]):
		return nil, fmt.Errorf("%w: %s was started again since, or holds another term now; attest again", signalbox.ErrConflict, i.Name)
	case cert != nil && cert.Term > m.Term:
		return nil, fmt.Errorf("%w: %s holds term %d, and %s@%d is certified: it may not serve", signalbox.ErrConflict, i.Name, m.Term, cert.DataCenter(), cert.Term)
	case cert != nil && cert.Leases().Used():
		return nil, &api.Fault{
			Err: fmt.Errorf("%w: term %d of %s uses leases: a person's word gives none, only a quorum of voters does", signalbox.ErrRefused, cert.Term, s.conf.Name),
			Do:  "Bring a quorum of voters back (signalbox readiness names who is missing). Until then nobody may serve.",
		}
	}
	return i, nil
}

// passStart gives a mandate to the instance's agent, or to the peers, of whom one
// may have its session.
func (c *Coordinator) passStart(i *instance, proof []byte) {
	if i.local {
		c.opt.Links.Send(i.Identity, &wire.GatewayFrame{Kind: &wire.GatewayFrame_AttestedStart{AttestedStart: proof}})
		return
	}
	c.opt.Links.Broadcast(&wire.PeerFrame{Kind: &wire.PeerFrame_AttestedStart{AttestedStart: proof}})
}

// peerStart passes on what a peer has no session for; the agent verifies it.
func (c *Coordinator) peerStart(proof []byte) {
	m, err := rpc.InspectMandate(proof)
	if err != nil {
		return
	}
	if s := c.services[m.Service]; s != nil {
		if i := s.instances[signalbox.Identity(m.ID)]; i != nil && i.local {
			c.passStart(i, proof)
		}
	}
}

// attestedStart takes an agent's word by whose mandate its instance was started:
// the log has to have it for ever.
func (c *Coordinator) attestedStart(proof []byte) {
	m, err := rpc.InspectMandate(proof)
	if err != nil || c.services[m.Service] == nil || m.Verb != signalbox.VerbStart {
		return
	}
	key := rpc.MandateDigest(proof)
	if _, have := c.attested[key]; have || len(c.attested) >= maxAttestedStarts || c.hasStart(m) {
		return
	}
	c.attested[key] = m
	c.attestedAt = time.Time{}
}

func (c *Coordinator) hasStart(m *signalbox.Mandate) (done bool) {
	c.opt.Journal.View(func(l *handover.Ledger) {
		if st := l.Service(m.Service); st != nil {
			done = st.Policy.HasStarted(m)
		}
	})
	return done
}

// logAttested proposes what the log has not yet, while there is anything.
func (c *Coordinator) logAttested() {
	now := c.opt.Now()
	if len(c.attested) == 0 || now.Sub(c.attestedAt) < attestedEvery {
		return
	}
	c.attestedAt = now
	for key, m := range c.attested {
		if c.hasStart(m) {
			delete(c.attested, key)
			continue
		}
		c.background(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, attestedWait)
			defer cancel()
			if err := c.opt.Links.ProposeTo(ctx, signalbox.Request{Started: m}); err != nil {
				c.opt.Logger.Debug().Err(err).Str("service", string(m.Service)).Msg("the log does not have a start without a quorum yet")
			}
		})
	}
}

// challengeOf is what an operator would sign to start an instance.
func challengeOf(st *wire.InstanceStatus) string { return hex.EncodeToString(st.GetChallenge()) }
