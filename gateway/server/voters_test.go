package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/gateway/session"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// voting gives a site an authority of its own, with these voters.
func voting(voters ...string) func(*site) {
	return func(s *site) {
		spec := identity.Spec{Cluster: testCluster, Voters: voters, DataCenters: keys.Cluster().DataCenters}
		var err error
		s.own, err = identity.Init(filepath.Join(s.dir, "keys"), spec, time.Now())
		must(s.t, err)
		cluster := *s.own.Cluster()
		cluster.DataCenters = s.cluster.DataCenters
		s.cluster = &cluster
		s.viewTimeout = 500 * time.Millisecond
	}
}

// bundle returns a principal's bundle, of the site's authority.
func (s *site) bundle(p rpc.Principal) string {
	s.t.Helper()
	if s.own == nil {
		return bundle(s.t, p)
	}
	p.Cluster = testCluster
	dir := s.own.BundleDir(p)
	if _, err := os.Stat(dir); err != nil {
		must(s.t, s.own.Issue(p, dir, identity.IssueOptions{Now: time.Now()}))
	}
	return dir
}

// cut loses everything that a gateway says of the agreement, or hears of it,
// while it is in the set.
type cut struct {
	set atomic.Pointer[map[string]bool]
}

type cutCouncil struct {
	session.Council
	cut  *cut
	self string
}

func (c cutCouncil) Receive(from string, raw []byte) {
	if set := *c.cut.set.Load(); !set[from] && !set[c.self] {
		c.Council.Receive(from, raw)
	}
}

func (c *cut) wrap(self string, inner session.Council) session.Council {
	return cutCouncil{inner, c, self}
}

func (c *cut) only(names ...string) {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	c.set.Store(&set)
}

var three, four = []string{"east-1", "west-1", "west-2"}, []string{"east-1", "east-2", "west-1", "west-2"}

// TestVotersSwitch: with three and with four voters a service moves there and
// back, asked for at a voter and at a gateway that follows; every gateway has the
// same log, and the certificate verifies with public data alone.
func TestVotersSwitch(t *testing.T) {
	for _, voters := range [][]string{three, four} {
		t.Run(fmt.Sprint(len(voters)), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, voting(voters...)).run()
			there, back := s.order(west), s.order(east)
			s.begin("west-2", there)
			cert := s.verify(s.wantOutcome(there.ID, api.OutcomeForward, 2))
			s.awaitServing(west, 2)
			s.begin("east-2", back)
			s.wantOutcome(back.ID, api.OutcomeForward, 4)
			s.awaitServing(east, 4)
			s.sameLog()
			if got := signersOf(t, s, cert.Block); got < s.cluster.Quorum() {
				t.Errorf("%d voters signed block %d", got, cert.Block.Index)
			}
		})
	}
}

func signersOf(t *testing.T, s *site, b *signalbox.DecidedBlock) int {
	t.Helper()
	trust, err := signature.Trust(s.cluster)
	must(t, err)
	_, err = rpc.OpenBlock(trust, b.Raw)
	must(t, err)
	var m wire.QuorumEnvelope
	must(t, proto.Unmarshal(b.Raw, &m))
	if m.View == 0 {
		t.Error("a decision of several voters names no view")
	}
	return len(signature.Signers(len(s.cluster.Voters), m.Signature))
}

// sameLog waits until all running gateways have the same log.
func (s *site) sameLog() {
	s.t.Helper()
	eventually(s.t, "all gateways to have the same log", func() bool {
		var first string
		for _, g := range s.gateways {
			select {
			case <-g.done:
				continue
			default:
			}
			var now string
			g.journal.View(func(l *handover.Ledger) { now = fmt.Sprint(l.Index(), l.Digest()) })
			if first == "" {
				first = now
			}
			if now != first {
				return false
			}
		}
		return true
	})
}

// leader is who led the agreement on the newest block that a gateway has.
func (s *site) leader(gateway string) string {
	j := s.gateways[gateway].journal
	b, err := j.Block(j.Index())
	must(s.t, err)
	return s.cluster.Voters[b.Proposer].Name
}

// propose has an instance that nobody knows enrolled: a decision that no
// handover waits for.
func (s *site) propose(gateway, name string) error {
	return s.gateways[gateway].peers.ProposeTo(s.t.Context(), s.enrolment(name))
}

// enrolment is a request that any voter can check.
func (s *site) enrolment(name string) signalbox.Request {
	s.t.Helper()
	b, err := identity.Load(s.bundle(rpc.Principal{Role: rpc.RoleAgent, DataCenter: east, Name: name}))
	must(s.t, err)
	keeper, err := b.Keeper()
	must(s.t, err)
	public, private, err := ed25519.GenerateKey(nil)
	must(s.t, err)
	in := signalbox.Instance{Service: orders, DataCenter: east, Name: name, Identity: rpc.IdentityOf(public), PublicKey: public}
	proof, err := rpc.SealEnrollment(testCluster, in, time.Now(), private, keeper.Certificate())
	must(s.t, err)
	return signalbox.Request{Admit: &signalbox.Admission{Instance: in, Enrollment: proof}}
}

// TestLeaderDies: the leader of the agreement dies in the middle of a switch,
// between the block and the outcome. The others go on within one timeout, and
// the handover ends with one outcome; the leader follows when it is back (rule 9,
// section 3).
func TestLeaderDies(t *testing.T) {
	for _, voters := range [][]string{three, four} {
		t.Run(fmt.Sprint(len(voters)), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, voting(voters...)).run()
			dead := s.leader("west-2")
			asks := "west-2"
			if dead == asks {
				asks = "west-1"
			}
			s.refusePromotions(west, true) // it cannot end before the leader is dead
			there := s.order(west)
			s.begin(asks, there)
			eventually(t, asks+" to promote", func() bool {
				h, err := s.gateways[asks].coordinator.Handover(t.Context(), there.ID)
				return err == nil && h.State == api.StatePromoting
			})
			s.gateways[dead].stop()
			s.refusePromotions(west, false)
			h := s.finished(asks, there.ID)
			if h.Outcome != api.OutcomeForward || h.CertifiedTerm != 2 {
				t.Fatalf("outcome %s, term %d (%s)", h.Outcome, h.CertifiedTerm, h.GivenUp)
			}
			s.verify(h)
			began := time.Now()
			must(t, s.propose(asks, "later"))
			t.Logf("the next decision took %v", time.Since(began))
			eventually(t, "another voter to lead", func() bool { return s.leader(asks) != dead })
			s.startGateway(dead)
			s.wantOutcome(there.ID, api.OutcomeForward, 2)
			s.sameLog()
		})
	}
}

// TestMinority: a voter that others do not hear decides nothing, and nobody is
// told that it did (rule 9); the others go on; when it is heard again it takes in
// what it missed, with certificates that it verifies itself, and votes.
func TestMinority(t *testing.T) {
	t.Parallel()
	var c cut
	c.only()
	s := newSite(t, voting(four...), func(s *site) { s.council = c.wrap }).run()
	c.only("east-2")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.gateways["east-2"].office.Propose(ctx, s.enrolment("lonely")); !errors.Is(err, signalbox.ErrUnavailable) {
		t.Fatalf("a voter alone says: %v", err)
	}
	for i := range 3 {
		must(t, s.propose("west-1", fmt.Sprintf("more%d", i)))
	}
	c.only("west-1") // now the other one is needed
	must(t, s.propose("east-2", "together"))
	c.only()
	s.sameLog()
}

// TestVoterWasAway: a voter that was stopped catches up by the others' logs, and
// its vote counts again.
func TestVoterWasAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting(three...)).run()
	s.gateways["west-2"].stop()
	for i := range 5 {
		must(t, s.propose("west-1", fmt.Sprintf("more%d", i)))
	}
	s.startGateway("west-2")
	s.sameLog()
	s.gateways["east-1"].stop() // two of three: it is needed
	eventually(t, "a decision with the voter that was away", func() bool { return s.propose("west-2", "again") == nil })
}

// TestVoterLostItsDisk: a voter whose journal is gone, or came from a backup,
// does not vote before the others have decided everything that it may have voted
// for; then it does (rule 8).
func TestVoterLostItsDisk(t *testing.T) {
	t.Parallel()
	s := newSite(t, voting(three...)).run()
	var backup bytes.Buffer
	must(t, s.gateways["west-2"].coordinator.Backup(t.Context(), &backup))
	must(t, s.propose("west-1", "after"))
	for _, restored := range []bool{false, true} {
		s.sameLog()
		s.gateways["west-2"].stop()
		s.gateways["west-1"].stop() // without it nobody can say what was voted for
		state := filepath.Join(s.dir, "gateways", "west-2")
		must(t, os.Remove(filepath.Join(state, journal.FileName)))
		if restored {
			from := filepath.Join(s.dir, "backup")
			must(t, os.WriteFile(from, backup.Bytes(), 0o600))
			trust, err := signature.Trust(s.cluster)
			must(t, err)
			_, err = journal.Restore(from, state, trust)
			must(t, err)
		}
		before := s.gateways["east-1"].journal.Index()
		s.startGateway("west-2")
		eventually(t, "the log to be back", func() bool { return s.gateways["west-2"].journal.Index() == before })
		if err := s.propose("west-2", "soon"); !errors.Is(err, signalbox.ErrUnavailable) {
			t.Fatalf("a voter that forgot its votes says: %v", err)
		}
		s.startGateway("west-1")
		eventually(t, "the voter to vote", func() bool { return !s.gateways["west-2"].journal.Restored() })
		if now := s.gateways["west-2"].journal.Index(); now < before+2 {
			t.Errorf("it votes at block %d, the others had %d", now, before)
		}
		s.gateways["east-1"].stop()
		eventually(t, "a decision with its vote", func() bool { return s.propose("west-2", fmt.Sprintf("again-%v", restored)) == nil })
		s.startGateway("east-1")
	}
}
