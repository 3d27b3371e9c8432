package handover_test

import (
	"errors"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

const ada, bob = "operator/ada", "operator/bob"

// at decides a request at a time, as voters do.
func (b *book) at(r signalbox.Request, at time.Time) error {
	if err := b.CheckAt(&r, at); err != nil {
		return err
	}
	block := b.sealAt(r, at)
	if err := b.Apply(block); err != nil {
		return err
	}
	b.log = append(b.log, block)
	return nil
}

// TestVotersHoldTheRules guards that pauses, approvals and the interval are
// every voter's to check, from the log: whoever proposes a handover against them
// gets no vote, whatever its own configuration says.
func TestVotersHoldTheRules(t *testing.T) {
	b := adopted(t)
	b.SetRules(map[signalbox.Service]policy.Rules{orders: {MinInterval: time.Minute, Approvals: 1, MinStanding: 2}})
	now := epoch
	plan := func(to signalbox.DataCenter, incoming ...string) *signalbox.Handover {
		h := b.plan("h1", to, incoming...)
		h.By = ada
		return h
	}
	refused := func(what string, r signalbox.Request) {
		t.Helper()
		if err := b.at(r, now); !errors.Is(err, signalbox.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	decided := func(what string, r signalbox.Request) {
		t.Helper()
		if err := b.at(r, now); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	refused("nobody asked", signalbox.Request{Handover: plan(west, "w1", "w2")})
	h := plan(west, "w1", "w2")
	order := &signalbox.Order{From: east, To: west, Term: 1, HoldBudget: h.HoldBudget, Allowed: h.Allowed, Until: now.Add(time.Hour)}
	decided("the order", signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: ada, Order: order}})
	refused("one's own approval", signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: ada}})
	refused("without an approval", signalbox.Request{Handover: plan(west, "w1", "w2")})
	decided("the approval", signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: bob}})
	refused("too few incoming", signalbox.Request{Handover: plan(west, "w1")})

	decided("a pause", signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: now.Add(time.Minute), By: bob, Reason: "r"}})
	refused("paused", signalbox.Request{Handover: plan(west, "w1", "w2")})
	unplanned := plan(west, "w1", "w2")
	unplanned.Fallback, unplanned.Allowed = 0, signalbox.AnyEvidence
	refused("a failover while paused", signalbox.Request{Handover: unplanned})
	now = now.Add(time.Minute)
	decided("after the pause", signalbox.Request{Handover: plan(west, "w1", "w2")})
	moved := now
	b.forward(t, b.log[len(b.log)-1])
	if m := b.Service(orders).Policy.Moved; m == nil || m.From != east || m.To != west || !m.At.Equal(moved) {
		t.Fatalf("moved: %+v", m)
	}
	b.SetRules(map[signalbox.Service]policy.Rules{orders: {MinInterval: time.Minute}})
	decided("the way back, once", signalbox.Request{Handover: b.plan("h2", east, "e1")})
	b.forward(t, b.log[len(b.log)-1])
	refused("there again too soon", signalbox.Request{Handover: plan(west, "w1", "w2")})
}

// TestRulesNeverHoldTheWayBack guards that no rule keeps an open handover from
// ending: the way back, outcomes and give-ups go on while the service is paused.
func TestRulesNeverHoldTheWayBack(t *testing.T) {
	b := opened(t)
	b.SetRules(map[signalbox.Service]policy.Rules{orders: {Approvals: 2, MinStanding: 9, MinInterval: time.Hour}})
	if err := b.at(signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: epoch.Add(time.Hour), By: bob, Reason: "r"}}, epoch); err != nil {
		t.Fatal(err)
	}
	back := b.plan("h1-back", east, "e1", "e2")
	if err := b.at(signalbox.Request{Handover: back}, epoch); err != nil {
		t.Errorf("the way back: %v", err)
	}
}

// TestBlocksFromTheFuture guards that a proposer cannot make a pause end by
// dating its block ahead.
func TestBlocksFromTheFuture(t *testing.T) {
	b := adopted(t)
	if err := b.at(signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: epoch.Add(time.Hour), By: bob, Reason: "r"}}, epoch); err != nil {
		t.Fatal(err)
	}
	block := signalbox.Block{At: epoch.Add(time.Hour), Requests: []signalbox.Request{{Handover: b.plan("h1", west, "w1")}}}
	if err := b.CheckBlock(&block, epoch); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("a block an hour ahead: %v", err)
	}
	block.At = epoch.Add(handover.MaxAhead)
	if err := b.CheckBlock(&block, epoch); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("a block within the pause: %v", err)
	}
	if err := b.CheckBlock(&block, epoch.Add(time.Hour)); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("a late voter looks at the block's time: %v", err)
	}
	block.At = epoch.Add(time.Hour)
	if err := b.CheckBlock(&block, epoch.Add(time.Hour)); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// TestCheckWithoutTime guards that a voter which does not know of the rules
// takes no pause and no approval into the log.
func TestCheckWithoutTime(t *testing.T) {
	b := adopted(t)
	for _, r := range []signalbox.Request{
		{Pause: &signalbox.Pause{Service: orders, Until: epoch.Add(time.Hour), By: bob, Reason: "r"}},
		{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: ada}},
	} {
		if err := b.Check(&r); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
