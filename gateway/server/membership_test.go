package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/journal"
	"github.com/signalbox-io/signalbox/membership/signature"
)

// outstanding names who has to give evidence by a gateway's log.
func (n *node) outstanding() (names []string) {
	n.journal.View(func(l *handover.Ledger) {
		for _, h := range l.Service(orders).Outstanding {
			names = append(names, h.Name)
		}
	})
	return names
}

func count(names []string, name string) (n int) {
	for _, have := range names {
		if have == name {
			n++
		}
	}
	return n
}

// TestNewInstance: an instance started later in the master's data center is
// enrolled, admitted to the term and serves; it is in the next roster. One in
// the other data center is only enrolled (rules 2 and 3).
func TestNewInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	s.startAgent("e3")
	s.startAgent("w3")
	s.awaitServing(east, 1)
	s.awaitReady(map[signalbox.DataCenter]int{east: 3, west: 3})
	if names := s.gateways["east-1"].outstanding(); count(names, "e3") != 1 || count(names, "w3") != 0 {
		t.Fatalf("outstanding: %v", names)
	}
	o := s.order(west)
	s.begin("west-2", o)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if len(h.Acks) != 3 || len(h.Promotions) != 3 {
		t.Errorf("%d acks, %d promotions, want 3 each", len(h.Acks), len(h.Promotions))
	}
	s.awaitServing(west, 2)
}

// TestLeave: an orderly stop takes the identity out of the outstanding; the next
// handover needs nothing of it. Started again, it is admitted again.
func TestLeave(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	e2 := s.agents["e2"]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, e2.agent.Stop(ctx))
	for _, g := range s.gateways {
		eventually(t, g.name+" to log the removal", func() bool { return count(g.outstanding(), "e2") == 0 })
	}
	o := s.order(west)
	s.begin("east-1", o)
	h := s.wantOutcome(o.ID, api.OutcomeForward, 2)
	if len(h.Acks) != 1 || h.Acks[0].Instance != "e1" {
		t.Errorf("acks: %+v", h.Acks)
	}
	back := s.order(east)
	s.startAgent("e2")
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	s.begin("west-1", back)
	s.wantOutcome(back.ID, api.OutcomeForward, 4)
	s.awaitServing(east, 4)
}

// TestAgentRestart: an agent started again has the identity that it had, and
// its instance is not disturbed.
func TestAgentRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	before := s.identity("e1")
	s.agents["e1"].kill()
	s.startAgent("e1")
	eventually(t, "the second incarnation to be heard", func() bool {
		in := s.seen("east-2", "e1")
		return len(in) == 1 && in[0].Incarnation == 2 && in[0].State == "serving"
	})
	if after := s.identity("e1"); after != before {
		t.Fatalf("identity %s became %s", before, after)
	}
}

// seen lists what a gateway knows under an instance's name.
func (s *site) seen(gateway, name string) (out []api.Instance) {
	s.t.Helper()
	all, err := s.gateways[gateway].coordinator.Instances(context.Background(), string(orders))
	must(s.t, err)
	for _, in := range all {
		if in.Name == name {
			out = append(out, in)
		}
	}
	return out
}

func (s *site) identity(name string) string {
	s.t.Helper()
	in := s.seen("east-1", name)
	if len(in) != 1 {
		s.t.Fatalf("%d instances are named %s", len(in), name)
	}
	return in[0].Identity
}

// TestRolledBackState: a state directory from a backup is refused, also by
// gateways that were all started again since; the agent makes a new key, and the
// old identity stays outstanding (rule 8).
func TestRolledBackState(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	old := s.identity("e1")
	s.agents["e1"].kill()
	dir := s.agentState("e1")
	saved := filepath.Join(s.dir, "backup")
	must(t, os.CopyFS(saved, os.DirFS(dir)))
	for incarnation := uint64(2); incarnation <= 3; incarnation++ {
		s.startAgent("e1")
		s.awaitIncarnation("e1", incarnation)
		s.agents["e1"].kill()
	}
	s.restart(gatewayNames...)
	must(t, os.RemoveAll(dir))
	must(t, os.CopyFS(dir, os.DirFS(saved)))
	s.agents["e1"].in.crash()
	s.startAgent("e1") // incarnation 2 once more
	s.awaitNewIdentity("e1", old)
}

// TestCopiedState: a copy of a state directory whose next start counts itself as
// the newest that was heard of is refused as well, also by gateways that were all
// started again since (rule 8).
func TestCopiedState(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	old := s.identity("e1")
	s.agents["e1"].kill()
	dir := s.agentState("e1")
	saved := filepath.Join(s.dir, "copy")
	must(t, os.CopyFS(saved, os.DirFS(dir)))
	s.startAgent("e1")
	s.awaitIncarnation("e1", 2)
	s.restart("east-1", "east-2") // the same start comes back to both
	s.awaitIncarnation("e1", 2)
	if now := s.identity("e1"); now != old {
		t.Fatalf("identity %s became %s", old, now)
	}
	s.agents["e1"].kill()
	s.restart(gatewayNames...)
	must(t, os.RemoveAll(dir))
	must(t, os.CopyFS(dir, os.DirFS(saved)))
	s.agents["e1"].in.crash()
	s.startAgent("e1") // incarnation 2 as well
	s.awaitNewIdentity("e1", old)
}

// awaitNewIdentity waits until an instance whose old identity was refused serves
// with another; the old one stays outstanding.
func (s *site) awaitNewIdentity(name, old string) {
	s.t.Helper()
	eventually(s.t, "a new identity of "+name, func() bool {
		for _, in := range s.seen("east-1", name) {
			if in.Identity != old && in.Outstanding && in.State == "serving" {
				return true
			}
		}
		return false
	})
	for _, in := range s.seen("east-1", name) {
		if in.Identity == old && !in.Outstanding {
			s.t.Error("the old identity is not outstanding any more")
		}
	}
	eventually(s.t, "the refusal to be counted", func() bool {
		return s.counted("signalbox_refused_total", "enrollment") > 0
	})
}

// awaitIncarnation waits until both gateways have heard of it.
func (s *site) awaitIncarnation(name string, n uint64) {
	s.t.Helper()
	for _, gateway := range []string{"east-1", "east-2"} {
		eventually(s.t, fmt.Sprintf("%s to hear of incarnation %d of %s", gateway, n, name), func() bool {
			in := s.seen(gateway, name)
			return len(in) == 1 && in[0].Incarnation == n
		})
	}
}

// counted sums a counter over all gateways; reason is one of its labels' values.
func (s *site) counted(name, reason string) (sum float64) {
	s.t.Helper()
	for _, g := range s.gateways {
		families, err := g.registry.Gather()
		must(s.t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				match := reason == ""
				for _, l := range m.GetLabel() {
					match = match || l.GetValue() == reason
				}
				if f.GetName() == name && match {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// TestRestoredJournal: a voter whose journal came from a backup decides nothing
// before every other gateway has said what it has (rules 1 and 8).
func TestRestoredJournal(t *testing.T) {
	t.Parallel()
	s := newSite(t).run()
	backup := filepath.Join(s.dir, "journal.backup")
	file, err := os.Create(backup)
	must(t, err)
	must(t, s.gateways["east-1"].coordinator.Backup(t.Context(), file))
	must(t, file.Close())
	o := s.order(west)
	s.begin("east-1", o)
	s.wantOutcome(o.ID, api.OutcomeForward, 2) // after the backup
	s.converged()

	s.gateways["east-1"].stop()
	s.gateways["west-2"].stop()
	trust, err := signature.Trust(keys.Cluster())
	must(t, err)
	_, err = journal.Restore(backup, filepath.Join(s.dir, "gateways", "east-1"), trust)
	must(t, err)
	s.startGateway("east-1")
	want := s.gateways["east-2"].journal.Index()
	eventually(t, "the restored journal to follow", func() bool { return s.gateways["east-1"].journal.Index() == want })
	h := &signalbox.Handover{ID: "too-soon", Service: orders, Term: 4, Fallback: 5, From: west, To: east, Allowed: signalbox.AckOnly, HoldBudget: time.Second}
	for _, name := range []string{"east-1", "west-1"} {
		err := s.gateways[name].peers.ProposeTo(t.Context(), signalbox.Request{Handover: h})
		if !errors.Is(err, signalbox.ErrUnavailable) {
			t.Fatalf("%s: a voter that has not asked everybody says: %v", name, err)
		}
	}
	s.startGateway("west-2")
	s.awaitReady(map[signalbox.DataCenter]int{east: 2, west: 2})
	eventually(t, "the restored voter to have asked everybody", func() bool { return !s.gateways["east-1"].journal.Restored() })
	back := s.order(east)
	s.begin("west-1", back)
	s.wantOutcome(back.ID, api.OutcomeForward, 4)
	s.converged()
}
