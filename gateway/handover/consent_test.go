package handover_test

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/handover"
	"github.com/signalbox-io/signalbox/gateway/policy"
	"github.com/signalbox-io/signalbox/rpc"
)

const ada, bob = "operator/ada", "operator/bob"

// said signs an order's or a word's request as the operator who it says gave it;
// what it approves is the order that waits.
func (b *book) said(r signalbox.Request, at time.Time) signalbox.Request {
	m := signalbox.Mandate{Service: orders, At: at}
	switch {
	case r.Pause != nil:
		m.Verb, m.Until, m.Reason, m.Operator = signalbox.VerbPause, r.Pause.Until, r.Pause.Reason, r.Pause.By
		if r.Pause.Resumes() {
			m.Verb = signalbox.VerbResume
		}
	case r.Approval.Order != nil:
		a := r.Approval
		m.Verb, m.ID, m.From, m.To, m.Term, m.Reason, m.Operator = signalbox.VerbSwitch, a.ID, a.Order.From, a.Order.To, a.Order.Term, a.Reason, a.By
	default:
		m.Verb, m.ID, m.Of, m.Reason, m.Operator = signalbox.VerbApprove, r.Approval.ID, b.Service(orders).Policy.Order(r.Approval.ID).Signed, r.Approval.Reason, r.Approval.By
	}
	m.Operator = strings.TrimPrefix(m.Operator, "operator/")
	signed := sealed(m)
	if r.Pause != nil {
		r.Pause.Mandate = signed
	} else {
		r.Approval.Mandate = signed
	}
	return r
}

func sealed(m signalbox.Mandate) *signalbox.Mandate {
	proof, err := rpc.SealMandate(cluster, m, keyOf(m.Operator), tls.Certificate{PrivateKey: agentKey(), Certificate: [][]byte{{1}}})
	if err != nil {
		panic(err)
	}
	signed, err := rpc.InspectMandate(proof)
	if err != nil {
		panic(err)
	}
	return signed
}

// signatures takes every mandate as verified: that is tested in rpc.
func signatures(proof []byte, _ time.Time) (*signalbox.Mandate, error) {
	return rpc.InspectMandate(proof)
}

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
	b.SetMandates(signatures)
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
	ask := signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: ada, Order: order}}
	if err := b.at(ask, now); !errors.Is(err, signalbox.ErrUnsigned) {
		t.Errorf("an order that ada did not sign: %v", err)
	}
	decided("the order", b.said(ask, now))
	now = now.Add(time.Second)
	refused("one's own approval", b.said(signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: ada}}, now))
	unsigned := signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: bob}}
	if err := b.at(unsigned, now); !errors.Is(err, signalbox.ErrUnsigned) || !strings.Contains(err.Error(), "signalbox keys issue operator") {
		t.Errorf("an approval that bob did not sign: %v", err)
	}
	refused("without an approval", signalbox.Request{Handover: plan(west, "w1", "w2")})
	decided("the approval", b.said(unsigned, now))
	refused("too few incoming", signalbox.Request{Handover: plan(west, "w1")})

	now = now.Add(time.Second)
	decided("a pause", b.said(signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: now.Add(time.Minute), By: bob, Reason: "r"}}, now))
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
	b.SetMandates(signatures)
	b.SetRules(map[signalbox.Service]policy.Rules{orders: {Approvals: 2, MinStanding: 9, MinInterval: time.Hour}})
	if err := b.at(b.said(signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: epoch.Add(time.Hour), By: bob, Reason: "r"}}, epoch), epoch); err != nil {
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
	b.SetMandates(signatures)
	if err := b.at(b.said(signalbox.Request{Pause: &signalbox.Pause{Service: orders, Until: epoch.Add(time.Hour), By: bob, Reason: "r"}}, epoch), epoch); err != nil {
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

// TestSignedOrders guards that voters take broken glass only with the operator's
// signature, refuse what is signed for something else, and let an approved order
// begin under the signature that it was asked for with, however long ago.
func TestSignedOrders(t *testing.T) {
	b := adopted(t)
	b.SetRules(map[signalbox.Service]policy.Rules{orders: {Approvals: 1}})
	now := epoch
	h := b.plan("h1", west, "w1", "w2")
	h.By, h.Reason = ada, "r"
	h.BreakGlass = &signalbox.BreakGlass{Reason: "east burns", Overrides: []signalbox.SafetyRule{signalbox.RuleApprovals}}
	refused := func(what string, kind error) {
		t.Helper()
		if err := b.CheckAt(&signalbox.Request{Handover: h}, now); !errors.Is(err, kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("broken glass that nobody signed", signalbox.ErrUnsigned)
	m := signalbox.Mandate{Verb: signalbox.VerbSwitch, Operator: "ada", Service: orders, ID: "h1", From: east, To: west, Term: 1, BreakGlass: h.BreakGlass, Reason: "r", At: now}
	h.Mandate = sealed(m)
	refused("a voter that cannot verify", signalbox.ErrNotConfigured)
	b.SetMandates(func([]byte, time.Time) (*signalbox.Mandate, error) { return nil, signalbox.ErrUntrusted })
	refused("a signature that does not fit", signalbox.ErrUntrusted)
	b.SetMandates(signatures)
	if err := b.CheckAt(&signalbox.Request{Handover: h}, now); err != nil {
		t.Errorf("broken glass: %v", err)
	}
	m.BreakGlass = nil
	h.Mandate = sealed(m)
	refused("glass that the operator did not break", signalbox.ErrUntrusted)

	h.BreakGlass = nil
	ask := &signalbox.Approval{Service: orders, ID: "h1", By: ada, Reason: "r", Mandate: h.Mandate, Order: &signalbox.Order{
		From: east, To: west, Term: 1, HoldBudget: h.HoldBudget, Allowed: h.Allowed, Until: now.Add(time.Hour),
	}}
	if err := b.at(signalbox.Request{Approval: ask}, now); err != nil {
		t.Fatal(err)
	}
	if err := b.at(b.said(signalbox.Request{Approval: &signalbox.Approval{Service: orders, ID: "h1", By: bob}}, now), now); err != nil {
		t.Fatal(err)
	}
	now = now.Add(30 * time.Minute)
	if err := b.at(signalbox.Request{Handover: h}, now); err != nil {
		t.Errorf("the approved order, half an hour later: %v", err)
	}
	b.forward(t, b.log[len(b.log)-1])
	b.SetRules(nil)
	back := b.plan("h2", east, "e1", "e2")
	back.By, back.Reason = ada, "r"
	back.Mandate = h.Mandate
	if err := b.CheckAt(&signalbox.Request{Handover: back}, now); !errors.Is(err, signalbox.ErrUntrusted) {
		t.Errorf("the signature of another order: %v", err)
	}
	back.Mandate = nil
	if err := b.CheckAt(&signalbox.Request{Handover: back}, now); err != nil {
		t.Errorf("an order that no rule restricts, without a signature: %v", err)
	}
}

// TestStartedIsRemembered guards that the log takes an operator's word by which an
// instance was started without a quorum, however long ago, once, of an instance
// that it knows, and with a signature that fits.
func TestStartedIsRemembered(t *testing.T) {
	b := adopted(t)
	started := func(change ...func(*signalbox.Mandate)) signalbox.Request {
		m := signalbox.Mandate{
			Verb: signalbox.VerbStart, Operator: "ada", Service: orders, ID: string(ids("e1")[0]), Term: 1, Of: signalbox.Digest{7}, Reason: "west is dark", At: epoch,
		}
		for _, c := range change {
			c(&m)
		}
		return signalbox.Request{Started: sealed(m)}
	}
	later := epoch.Add(48 * time.Hour)
	if err := b.at(started(), later); !errors.Is(err, signalbox.ErrNotConfigured) {
		t.Errorf("by a voter that cannot verify: %v", err)
	}
	b.SetMandates(signatures)
	if err := b.at(started(), later); err != nil {
		t.Fatal(err)
	}
	if err := b.at(started(), later); !errors.Is(err, signalbox.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	if err := b.at(started(func(m *signalbox.Mandate) { m.ID = "nobody" }), later); !errors.Is(err, signalbox.ErrUnknown) {
		t.Errorf("of nobody: %v", err)
	}
	for n := range byte(policy.MaxStarted) {
		if err := b.at(started(func(m *signalbox.Mandate) { m.Of[0], m.At = 8+n, epoch.Add(time.Duration(n+1)*time.Hour) }), later); err != nil {
			t.Fatal(err)
		}
	}
	said := b.Service(orders).Policy
	if len(said.Started) != policy.MaxStarted || said.StartedTotal != policy.MaxStarted+1 || said.Started[0].Of != (signalbox.Digest{8}) {
		t.Errorf("%d of %d, the oldest %v", len(said.Started), said.StartedTotal, said.Started[0].Of)
	}
	if kept := again(t, b.Ledger).Service(orders).Policy; kept.StartedTotal != said.StartedTotal || !slices.EqualFunc(kept.Started, said.Started, func(a, b policy.Started) bool {
		return a.Of == b.Of && a.At.Equal(b.At) && a.Logged.Equal(b.Logged) && a.By == b.By && a.Reason == b.Reason && a.Identity == b.Identity && a.Term == b.Term
	}) {
		t.Errorf("a snapshot keeps %+v", kept.Started)
	}
	if err := b.at(started(), later); !errors.Is(err, signalbox.ErrConflict) {
		t.Errorf("one that is forgotten, again: %v", err)
	}
}
