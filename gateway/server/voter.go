package server

import (
	"context"
	"crypto/ed25519"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// voterLog is the journal with the voter, whenever this gateway is one.
type voterLog struct {
	*journal.Journal
	*journal.Office
}

// buildVoter makes this gateway's office: it votes when the log says so and its
// key is here.
func (s *Server) buildVoter(trust rpc.Trust, peers int) (*voterLog, error) {
	self := s.opt.Bundle.Self
	keys, err := openVoterKeys(s.opt.State, s.journal)
	if err != nil {
		return nil, err
	}
	s.voterKeys = keys
	s.lessor = journal.NewLessor(s.journal, nil, 0, nil, leaseClock)
	if s.journal.Index() == 0 {
		if set := trust.Epochs.First(); len(set.Voters) == 1 && set.Voters[0].Name == self.Name && peers > 0 {
			// A voter that lost its disk looks like a new one: before it decides
			// anything every other gateway says that it has no log either (rule 8).
			s.journal.Doubt()
		}
	}
	s.office, err = journal.NewOffice(journal.OfficeOptions{
		Journal: s.journal, Name: self.Name, Key: s.voterKey, Lessor: s.lessor,
		Timeout: s.opt.agreementTimeout, UnreachableTimeout: s.opt.unreachableTimeout,
		Send: s.tellVoter, Standings: s.standings, Newest: s.newest, CatchUp: s.catchUp,
		Entered: s.entered, Logger: s.opt.Logger, Refused: s.refusals.of("gateway"),
	})
	if err != nil {
		return nil, err
	}
	s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signalbox_journal_requests_waiting", Help: "Requests that were asked for at this voter and wait to be decided; those that wait together share a block.",
	}, func() float64 { return float64(s.office.Waiting()) }))
	s.tellVoters()
	return &voterLog{s.journal, s.office}, nil
}

// tellVoters says when the log has other voters than the configuration began with.
func (s *Server) tellVoters() {
	now := s.office.Voters()
	if now.Epoch == s.opt.Cluster.Epoch {
		return
	}
	s.opt.Logger.Info().Uint64("epoch", now.Epoch).Strs("voters", now.Names()).
		Msg("the log has changed the voters: these decide, not those of the configuration, with which the cluster began")
}

// voterKey has the private keys of a voter that is this gateway: from the bundle,
// or of those that it made itself.
func (s *Server) voterKey(v signalbox.Voter) (ed25519.PrivateKey, []byte, bool) {
	if key := s.opt.Bundle.Voter; key != nil && key.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(v.PublicKey)) {
		return key, s.opt.Bundle.VoterSignature, true
	}
	return s.voterKeys.find(v.PublicKey)
}

// entered follows the log into an epoch: agents are told who votes, and people when
// the configuration wants more of them.
func (s *Server) entered(set signalbox.VoterSet, _ bool) {
	if err := s.fits(set); err != nil && !s.unproven {
		s.opt.Logger.Error().Err(err).Uint64("epoch", set.Epoch).
			Msg("the voters are too few for this gateway's configuration: it will not start again with it")
	}
	if chain := s.trust.Epochs.Chain(set.Epoch); len(chain) > 0 && s.agents != nil {
		s.agents.SendAll(session.VotersFrame(chain))
	}
}

// voting is who decides now, for the coordinator.
func (s *Server) voting() coordinator.Voting {
	set := s.office.Voters()
	out := coordinator.Voting{Voters: set.Names(), Quorum: set.Quorum(), Witness: coordinator.Witness{Epoch: set.Epoch}}
	if v, votes := set.Voter(s.opt.Bundle.Self.Name); votes {
		out.Witness.Key, _, _ = s.voterKey(v)
	}
	s.schemes.Lock()
	defer s.schemes.Unlock()
	if s.schemes.epoch != set.Epoch || s.schemes.scheme == nil {
		if scheme, err := signature.ForSet(set); err == nil {
			s.schemes.epoch, s.schemes.scheme = set.Epoch, scheme
		}
	}
	out.Witness.Scheme = s.schemes.scheme
	return out
}

// schemes keeps what verifies the newest set's shares.
type schemes struct {
	sync.Mutex
	epoch  uint64
	scheme signature.Scheme
}

// votes reports whether a gateway is a voter now.
func (s *Server) votes(gateway string) bool {
	set := s.office.Voters()
	_, votes := set.Voter(gateway)
	if gateway == s.opt.Bundle.Self.Name {
		return votes && s.office.Votes()
	}
	return votes
}

// council stands between the sessions and the voter in tests.
func (s *Server) council() session.Council {
	if s.opt.wrapCouncil != nil {
		return s.opt.wrapCouncil(s.office)
	}
	return s.office
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

// newest asks all gateways for the newest block that any of them has.
func (s *Server) newest(ctx context.Context) (index uint64) {
	for _, have := range s.peers.Newest(ctx) {
		index = max(index, have)
	}
	return index
}

// candidate is this gateway's key for the next change of voters.
func (s *Server) candidate() (signalbox.Voter, error) {
	self := s.opt.Bundle.Self
	return s.voterKeys.candidate(self.Cluster, self.Name, self.DataCenter, s.trust.Epochs)
}

// offer is that key for other gateways.
func (s *Server) offer() *wire.VoterKey {
	v, err := s.candidate()
	if err != nil {
		s.opt.Logger.Error().Err(err).Msg("cannot make a voter's key")
		return nil
	}
	return rpc.VoterToWire(&v)
}
