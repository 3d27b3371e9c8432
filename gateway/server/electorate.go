package server

import (
	"context"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// behindMost is how many blocks a gateway may be behind and still count as caught
// up: it takes in what was decided just now.
const behindMost = 8

// electorate is this gateway's server as the API needs it for voters.
type electorate struct{ s *Server }

// Voters implements api.Electorate.
func (e electorate) Voters(ctx context.Context) (api.Voters, error) {
	s := e.s
	set := s.office.Voters()
	_, survives := set.Survives()
	out := api.Voters{
		Epoch: set.Epoch, Unavailable: set.Unavailable, Lying: set.Lying, Quorum: set.Quorum(), Scheme: set.Scheme, Survives: survives,
	}
	for _, v := range set.Voters {
		out.Voters = append(out.Voters, voterKeysOf(v))
	}
	own, said := s.journal.Index(), s.peers.Offers(ctx)
	said[s.opt.Bundle.Self.Name] = &wire.Ping{Ping: own, Candidate: s.offer()}
	for _, dc := range s.opt.Cluster.DataCenters {
		for _, g := range dc.Gateways {
			_, votes := set.Voter(g.Name)
			ping, reached := said[g.Name]
			offer := api.VoterOffer{Name: g.Name, DataCenter: string(dc.Name), Votes: votes, Reached: reached, LogIndex: ping.GetPing()}
			offer.CaughtUp = reached && offer.LogIndex+behindMost >= own
			offer.Next = s.offered(g.Name, dc.Name, ping.GetCandidate())
			out.Gateways = append(out.Gateways, offer)
		}
	}
	return out, nil
}

// offered is what a gateway offers to vote with: a key that it has proven, and that
// was in no voter set yet; else nil.
func (s *Server) offered(gateway string, dc signalbox.DataCenter, k *wire.VoterKey) *api.VoterKeys {
	v := rpc.VoterFromWire(k)
	_, _, had := s.trust.Epochs.Had(v.PublicKey)
	if had || v.Name != gateway || v.DataCenter != dc || v.Check() != nil || rpc.VerifyVoter(s.opt.Cluster.Name, &v) != nil {
		return nil
	}
	keys := voterKeysOf(v)
	return &keys
}

func voterKeysOf(v signalbox.Voter) api.VoterKeys {
	return api.VoterKeys{
		Name: v.Name, DataCenter: string(v.DataCenter), PublicKey: v.PublicKey, SignatureKey: v.SignatureKey,
		SignatureProof: v.SignatureProof, Proof: v.Proof,
	}
}

// CheckVoters implements api.Electorate: what every voter checks, and what this
// gateway sees of those who would vote.
func (e electorate) CheckVoters(ctx context.Context, request []byte) error {
	_, err := e.check(ctx, request)
	return err
}

func (e electorate) check(ctx context.Context, request []byte) (*signalbox.Request, error) {
	r, err := rpc.DecodeRequest(request)
	if err != nil {
		return nil, err
	}
	if r.Voters == nil {
		return nil, fmt.Errorf("%w: the request is no change of voters", signalbox.ErrInvalid)
	}
	e.s.journal.View(func(l *handover.Ledger) { err = l.CheckAt(r, time.Now()) })
	if err != nil {
		return nil, err
	}
	return r, e.standing(ctx, r.Voters)
}

// standing refuses voters that are no gateways, cannot be reached or are behind: the
// next block would wait for them. As many as may be away may be.
func (e electorate) standing(ctx context.Context, c *signalbox.VoterChange) error {
	now, err := e.Voters(ctx)
	if err != nil {
		return err
	}
	by := map[string]api.VoterOffer{}
	for _, g := range now.Gateways {
		by[g.Name] = g
	}
	stays := e.s.office.Voters()
	for _, v := range c.Voters {
		g, known := by[v.Name]
		before, _ := stays.Voter(v.Name)
		fresh := string(before.PublicKey) != string(v.PublicKey)
		switch {
		case !known || g.DataCenter != string(v.DataCenter):
			return fmt.Errorf("%w: %s in %s is no gateway of the configuration; add it to every gateway's cluster.json first: signalbox keys add-gateway, then rotate the bundles", signalbox.ErrUnknown, v.Name, v.DataCenter)
		case fresh && !g.Reached:
			return fmt.Errorf("%w: gateway %s cannot be reached; start it and wait until it has caught up", signalbox.ErrNotReady, v.Name)
		case fresh && !g.CaughtUp:
			return fmt.Errorf("%w: gateway %s has the log up to block %d, the newest is %d; wait until it has caught up", signalbox.ErrNotReady, v.Name, g.LogIndex, e.s.journal.Index())
		case fresh && (g.Next == nil || string(g.Next.PublicKey) != string(v.PublicKey)):
			return fmt.Errorf("%w: gateway %s offers another key than the change names; ask for the voters again", signalbox.ErrConflict, v.Name)
		}
	}
	return nil
}

// ChangeVoters implements api.Electorate.
func (e electorate) ChangeVoters(ctx context.Context, request []byte) (api.Voters, error) {
	r, err := e.check(ctx, request)
	if err != nil {
		return api.Voters{}, err
	}
	if err := e.s.peers.ProposeTo(ctx, *r); err != nil {
		return api.Voters{}, err
	}
	return e.Voters(ctx)
}
