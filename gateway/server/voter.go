package server

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// voterLog is the journal with the voter, where this gateway is one.
type voterLog struct {
	*journal.Journal
	voter voter
}

// voter decides and answers: the cluster's only one, or one of several.
type voter interface {
	Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error)
	Answer(s signalbox.Service, id signalbox.Identity, nonce []byte) ([]byte, error)
}

var errNoVoter = fmt.Errorf("%w: this gateway is no voter", signalbox.ErrNotConfigured)

// Propose implements session.Log.
func (l *voterLog) Propose(ctx context.Context, r signalbox.Request) (*signalbox.DecidedBlock, error) {
	if l.voter == nil {
		return nil, errNoVoter
	}
	return l.voter.Propose(ctx, r)
}

// Answer implements session.Log.
func (l *voterLog) Answer(s signalbox.Service, id signalbox.Identity, nonce []byte) ([]byte, error) {
	if l.voter == nil {
		return nil, errNoVoter
	}
	return l.voter.Answer(s, id, nonce)
}

// buildVoter makes this gateway's voter, if it is one.
func (s *Server) buildVoter(scheme signature.Scheme, peers int) (*voterLog, error) {
	log := &voterLog{Journal: s.journal}
	self, key, cluster := s.opt.Bundle.Self, s.opt.Bundle.Voter, s.opt.Cluster
	switch {
	case key == nil:
		return log, nil
	case len(cluster.Voters) == 1:
		log.voter = journal.NewVoter(s.journal, scheme, cluster.Epoch, self.Name, key, time.Now)
		if s.journal.Index() == 0 && peers > 0 {
			// A voter that lost its disk looks like a new one: before it decides
			// anything every other gateway says that it has no log either (rule 8).
			s.journal.Doubt()
		}
		return log, nil
	}
	var err error
	s.member, err = journal.NewMember(journal.MemberOptions{
		Journal: s.journal, Scheme: scheme, Key: key, Epoch: cluster.Epoch, Name: self.Name, Voters: voterNames(cluster),
		Unavailable: cluster.Unavailable, Timeout: s.opt.agreementTimeout, Send: s.tellVoter, Standings: s.standings,
		Logger: s.opt.Logger, Refused: s.refusals.of("gateway"),
	})
	log.voter = s.member
	return log, err
}

// council is nil, not an interface around nil, where there is no member.
func (s *Server) council() session.Council {
	switch {
	case s.member == nil:
		return nil
	case s.opt.wrapCouncil != nil:
		return s.opt.wrapCouncil(s.member)
	}
	return s.member
}

// tellVoter queues a message of the agreement for another voter.
func (s *Server) tellVoter(name string, raw []byte) {
	s.peers.Tell([]string{name}, &wire.PeerFrame{Kind: &wire.PeerFrame_Agreement{Agreement: raw}})
}

// standings asks the other voters what they know of their votes.
func (s *Server) standings(ctx context.Context) map[string]journal.Standing {
	out := map[string]journal.Standing{}
	for name, p := range s.peers.Standings(ctx) {
		out[name] = journal.Standing{Index: p.GetPing(), Voted: p.GetVoted(), Begun: p.GetBegun()}
	}
	return out
}
