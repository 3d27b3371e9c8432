package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// operated gives a site of its own keys the operator ada.
func operated(s *site) {
	p := rpc.Principal{Cluster: testCluster, Role: rpc.RoleOperator, Name: "ada"}
	must(s.t, s.own.Issue(p, s.own.BundleDir(p), identity.IssueOptions{Now: time.Now()}))
	s.cluster.Operators = s.own.Cluster().Operators
}

// change has a gateway change the voters to those named: who votes already keeps
// its key unless renew names it, the others come with the keys that they offer.
func (s *site) change(gateway string, u, r int, names []string, renew ...string) error {
	s.t.Helper()
	e := electorate{s.gateways[gateway].Server}
	return s.changeBy(e, s.nextVoters(e, u, r, names, renew...))
}

func (s *site) changeBy(e electorate, c *signalbox.VoterChange) error {
	s.t.Helper()
	b, err := identity.Load(s.bundle(rpc.Principal{Role: rpc.RoleOperator, Name: "ada"}))
	must(s.t, err)
	must(s.t, rpc.SignVoters(testCluster, c, b.Operator))
	raw, err := rpc.EncodeRequest(&signalbox.Request{Voters: c})
	must(s.t, err)
	_, err = e.ChangeVoters(s.t.Context(), raw)
	return err
}

func (s *site) nextVoters(e electorate, u, r int, names []string, renew ...string) *signalbox.VoterChange {
	s.t.Helper()
	set := e.s.office.Voters()
	c := &signalbox.VoterChange{By: "ada", Reason: "test", VoterSet: signalbox.VoterSet{
		Epoch: set.Epoch + 1, Unavailable: u, Lying: r, Scheme: set.Scheme,
	}}
	for _, name := range names {
		v, votes := set.Voter(name)
		for _, again := range renew {
			votes = votes && again != name
		}
		if !votes {
			v = s.offer(e, name)
		}
		c.Voters = append(c.Voters, v)
	}
	return c
}

// offer is the new key of a gateway that has caught up.
func (s *site) offer(e electorate, name string) (v signalbox.Voter) {
	s.t.Helper()
	eventually(s.t, name+" to offer a key", func() bool {
		now, err := e.Voters(s.t.Context())
		must(s.t, err)
		for _, g := range now.Gateways {
			if g.Name == name && g.Next != nil && g.CaughtUp {
				v = signalbox.Voter{
					Name: g.Name, DataCenter: signalbox.DataCenter(g.DataCenter), PublicKey: g.Next.PublicKey, Proof: g.Next.Proof,
					SignatureKey: g.Next.SignatureKey, SignatureProof: g.Next.SignatureProof,
				}
				return true
			}
		}
		return false
	})
	return v
}

// inEpoch waits until every gateway that runs is in an epoch.
func (s *site) inEpoch(epoch uint64) {
	s.t.Helper()
	for name, g := range s.gateways {
		if g.Server != nil {
			eventually(s.t, name+" to be in the new epoch", func() bool { return g.office.Voters().Epoch == epoch })
		}
	}
}

// TestChangeVoters: the log changes the voters, which decide on; the service goes on
// being moved, with certificates that verify from the first keys; who was removed
// follows; who starts again knows.
func TestChangeVoters(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting(three...), operated).run()
	must(t, s.change("east-1", 1, 1, []string{"east-1", "west-1", "west-2", "east-2"})) // a fourth one
	s.inEpoch(2)
	must(t, s.propose("east-1", "four"))
	must(t, s.change("west-1", 1, 0, []string{"west-1", "west-2", "east-2"})) // without east-1
	s.inEpoch(3)
	must(t, s.propose("east-1", "three"))
	if s.gateways["east-1"].office.Votes() {
		t.Error("a removed voter votes")
	}
	h := s.move(t, "west-2")
	s.verify(h)
	s.gateways["east-2"].stop()
	s.startGateway("east-2")
	s.gateways["west-1"].stop() // two of three: the one that was started again is needed
	eventually(t, "a decision with a voter that knows its epoch from its log", func() bool { return s.propose("west-2", "again") == nil })
	s.startGateway("west-1")
	s.sameLog()
}

// TestVoterKeyLost: a voter whose disk and key are gone comes back with a new key by
// a change that replaces it; then it is needed, and decides (rule 8).
func TestVoterKeyLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting(three...), operated).run()
	s.gateways["west-2"].stop()
	must(t, os.RemoveAll(filepath.Join(s.dir, "gateways", "west-2")))
	b := s.bundle(rpc.Principal{Role: rpc.RoleGateway, DataCenter: west, Name: "west-2"})
	must(t, os.Remove(filepath.Join(b, identity.FileVoter)))
	must(t, os.WriteFile(filepath.Join(b, identity.FileVoterLost), nil, 0o644))
	s.startGateway("west-2")
	must(t, s.change("east-1", 1, 0, three, "west-2"))
	s.inEpoch(2)
	s.gateways["east-1"].stop()
	eventually(t, "a decision with the new key", func() bool { return s.propose("west-1", "again") == nil })
	s.startGateway("east-1")
	s.sameLog()
}

// TestVotersOneToThreeAndBack: a cluster that began with one voter gets three, and
// one again.
func TestVotersOneToThreeAndBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting("east-1"), operated).run()
	must(t, s.change("west-1", 1, 0, []string{"east-1", "east-2", "west-1"}))
	s.inEpoch(2)
	must(t, s.propose("west-2", "three"))
	must(t, s.change("west-1", 0, 0, []string{"west-1"}))
	s.inEpoch(3)
	must(t, s.propose("east-1", "one"))
	s.gateways["west-1"].stop()
	s.startGateway("west-1")
	eventually(t, "a decision of the only voter", func() bool { return s.propose("east-2", "again") == nil })
	s.sameLog()
}

// TestVotersInSnapshots: who comes with an empty disk after the voters were changed
// and the old blocks are gone learns from the snapshot who votes; and then votes.
func TestVotersInSnapshots(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting(three...), operated, func(s *site) { s.snapshotBlocks = 6 }).run()
	s.gateways["west-2"].stop()
	must(t, os.RemoveAll(filepath.Join(s.dir, "gateways", "west-2")))
	b := s.bundle(rpc.Principal{Role: rpc.RoleGateway, DataCenter: west, Name: "west-2"})
	must(t, os.Remove(filepath.Join(b, identity.FileVoter)))
	must(t, os.WriteFile(filepath.Join(b, identity.FileVoterLost), nil, 0o644))
	must(t, s.change("west-1", 1, 0, []string{"east-1", "west-1", "east-2"}))
	for _, name := range []string{"east-1", "west-1"} {
		s.grow(name, s.gateways["west-1"].journal.Index())
	}
	s.startGateway("west-2")
	eventually(t, "west-2 to take a snapshot", func() bool { return s.gateways["west-2"].journal.First() > 1 })
	s.inEpoch(2)
	must(t, s.change("east-1", 1, 1, []string{"east-1", "west-1", "east-2", "west-2"}))
	s.inEpoch(3)
	s.gateways["east-1"].stop()
	eventually(t, "a decision with the voter that came by a snapshot", func() bool { return s.propose("west-1", "again") == nil })
	s.startGateway("east-1")
	s.sameLog()
}

// TestVotersRefused: what no voter may vote for.
func TestVotersRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting(three...), operated).run()
	e := electorate{s.gateways["west-1"].Server}
	four := []string{"east-1", "west-1", "west-2", "east-2"}
	next := func(f func(*signalbox.VoterChange)) *signalbox.VoterChange {
		c := s.nextVoters(e, 1, 1, four)
		f(c)
		return c
	}
	for name, broken := range map[string]struct {
		want error
		c    *signalbox.VoterChange
	}{
		"numbers that do not fit": {signalbox.ErrInvalid, next(func(c *signalbox.VoterChange) { c.Lying = 0 })},
		"an epoch further on":     {signalbox.ErrConflict, next(func(c *signalbox.VoterChange) { c.Epoch++ })},
		"a scheme nobody knows":   {signalbox.ErrInvalid, next(func(c *signalbox.VoterChange) { c.Scheme = "rot13" })},
		"a key without proof":     {signalbox.ErrUntrusted, next(func(c *signalbox.VoterChange) { c.Voters[3].Proof = nil })},
		"a key of another voter": {signalbox.ErrRefused, next(func(c *signalbox.VoterChange) {
			a, b := &c.Voters[0], &c.Voters[1]
			a.Name, a.DataCenter, b.Name, b.DataCenter = b.Name, b.DataCenter, a.Name, a.DataCenter
		})},
		"a key twice":                  {signalbox.ErrInvalid, next(func(c *signalbox.VoterChange) { c.Voters[3].PublicKey = c.Voters[0].PublicKey })},
		"no reason":                    {signalbox.ErrInvalid, next(func(c *signalbox.VoterChange) { c.Reason = "" })},
		"an operator without a key":    {signalbox.ErrUntrusted, next(func(c *signalbox.VoterChange) { c.By = "eve" })},
		"a key that nobody offers now": {signalbox.ErrUntrusted, next(func(c *signalbox.VoterChange) { c.Voters[3].Name = "nobody" })},
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.changeBy(e, broken.c); !errors.Is(err, broken.want) {
				t.Errorf("%v, want %v", err, broken.want)
			}
		})
	}
	c := next(func(*signalbox.VoterChange) {})
	b, err := identity.Load(s.bundle(rpc.Principal{Role: rpc.RoleOperator, Name: "ada"}))
	must(t, err)
	must(t, rpc.SignVoters(testCluster, c, b.Operator))
	c.Reason = "another"
	if err := s.gateways["west-1"].peers.ProposeTo(context.Background(), signalbox.Request{Voters: c}); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("a change that its operator did not sign: %v", err)
	}
	if now := e.s.office.Voters().Epoch; now != 1 {
		t.Errorf("epoch %d", now)
	}
}

// move switches the service over and returns the record.
func (s *site) move(t *testing.T, gateway string) api.Handover {
	t.Helper()
	o := s.order(west)
	s.begin(gateway, o)
	return s.wantOutcome(o.ID, api.OutcomeForward, 2)
}
