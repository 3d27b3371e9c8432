package agent

import (
	"fmt"
	"slices"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// maxAttested is how many attested starts are kept, to be told until the log has
// them.
const maxAttested = 4

// challenge is what an operator has to sign to start the instance without a
// quorum; zero while that would start nothing.
func (c *core) challenge() signalbox.Digest {
	if !c.asksStart() || c.mayServe() == 0 || len(c.open) > 0 || c.stop.phase != stopNone {
		return signalbox.Digest{}
	}
	return rpc.StartChallenge(c.cfg.trust.Cluster, c.cfg.instance.Identity, c.Incarnation, c.started.nonce, c.cert)
}

// onAttested takes an operator's word that the instance may serve although no
// quorum of voters has answered: for exactly this start and this term. It stands
// in the place of the answers that did not come, never against one that came.
func (c *core) onAttested(raw []byte) {
	m, err := c.startMandate(raw)
	if err != nil {
		c.emit(note{warn: true, refused: true, what: "an operator's attest does not start the instance", detail: err.Error()})
		return
	}
	c.keep(record{Attested: raw}, true)
	c.fresh = true
	c.emit(note{warn: true, what: "started without a quorum of voters, on the word of operator " + m.Operator, term: m.Term, detail: m.Reason})
	c.emit(attested{proof: raw})
}

func (c *core) startMandate(raw []byte) (*signalbox.Mandate, error) {
	want := c.challenge()
	switch {
	case c.cfg.mandate == nil:
		return nil, fmt.Errorf("%w: this agent cannot check operators' signatures", signalbox.ErrNotConfigured)
	case want.IsZero():
		return nil, fmt.Errorf("%w: it waits for no quorum, or may serve no term", signalbox.ErrConflict)
	case c.cert.Leases().Used():
		return nil, fmt.Errorf("%w: term %d uses leases, and only a quorum of voters grants one", signalbox.ErrRefused, c.cert.Term)
	}
	for _, a := range c.started.answers {
		if own := c.index(); a.Beyond > own || a.Index > own && a.Allowed&^signalbox.AckOnly != 0 {
			return nil, fmt.Errorf("%w: voter %s answered that the log has gone on without this instance: it may be another's turn", signalbox.ErrRefused, a.Voter)
		}
	}
	m, err := c.cfg.mandate(raw, c.now)
	switch {
	case err != nil:
		return nil, err
	case m.Verb != signalbox.VerbStart || m.Service != c.cfg.instance.Service || m.ID != string(c.cfg.instance.Identity) || m.Term != c.cert.Term || m.Of != want:
		return nil, fmt.Errorf("%w: it is of another instance, start or term; look again and attest again", signalbox.ErrUntrusted)
	}
	return m, nil
}

// tellAttested tells a gateway by whose word the instance was started: the log is
// to have it when a quorum is back.
func (c *core) tellAttested(gateway string) {
	for _, raw := range c.Attested {
		c.emit(attested{gateway: gateway, proof: raw})
	}
}

func (s *state) applyAttested(raw []byte) {
	s.Attested = append(slices.Clone(s.Attested), raw)
	s.Attested = s.Attested[max(0, len(s.Attested)-maxAttested):]
}
