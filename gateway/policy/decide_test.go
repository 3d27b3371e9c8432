package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

// now is a Wednesday.
var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const (
	ada = "operator/ada"
	bob = "operator/bob"
)

// block is the switch from east to west that the tests want.
func block() *signalbox.Handover {
	return &signalbox.Handover{
		ID: "orders-1", Service: "orders", Term: 8, Fallback: 9, From: "east", To: "west", Allowed: signalbox.AckOnly,
		HoldBudget: 5 * time.Second, Incoming: []signalbox.Identity{"a", "b"}, By: ada,
	}
}

func order() *signalbox.Approval {
	return &signalbox.Approval{Service: "orders", ID: "orders-1", By: ada, Order: &signalbox.Order{
		From: "east", To: "west", Term: 7, HoldBudget: 5 * time.Second, Allowed: signalbox.AckOnly, Until: now.Add(time.Hour),
	}}
}

func approve(by string) *signalbox.Approval {
	return &signalbox.Approval{Service: "orders", ID: "orders-1", By: by}
}

// said returns the state after approvals at now.
func said(list ...*signalbox.Approval) *policy.State {
	s := &policy.State{}
	for _, a := range list {
		s.ApplyApproval(a, 7, now)
	}
	return s
}

func paused(until time.Time) *policy.State {
	s := &policy.State{}
	s.ApplyPause(&signalbox.Pause{Service: "orders", Until: until, By: bob, Reason: "migration"}, now.Add(-time.Minute))
	return s
}

func moved(from, to signalbox.DataCenter, ago time.Duration, back bool) *policy.State {
	return &policy.State{Moved: &policy.Moved{ID: "orders-0", From: from, To: to, At: now.Add(-ago), By: bob, Back: back}}
}

// TestCheckMove is the table of every rule: what blocks, what does not any more,
// and what the person at the terminal reads.
func TestCheckMove(t *testing.T) {
	frozen := policy.Rules{Freezes: []policy.Freeze{{Name: "midweek", Zone: time.UTC, Spans: must(policy.ParseSpans([]string{"wed"}, "00:00", "24:00"))}}}
	interval, two := policy.Rules{MinInterval: 10 * time.Minute}, policy.Rules{Approvals: 1}
	later := order()
	later.Order.HoldBudget = time.Second
	for _, c := range []struct {
		name   string
		rules  policy.Rules
		state  *policy.State
		change func(*signalbox.Handover)
		open   bool
		want   string // part of the error, empty for none
	}{
		{name: "no rules and nothing said"},
		{name: "paused", state: paused(now.Add(time.Hour)), want: "pause: operator/bob paused orders until 2026-11-25T13:00:00Z (in 1h0m0s): migration"},
		{name: "the pause is over", state: paused(now)},
		{name: "paused, break-glass", state: paused(now.Add(time.Hour)), change: glass(signalbox.RulePause)},
		{name: "paused, break-glass of another rule", state: paused(now.Add(time.Hour)), change: glass(signalbox.RuleFreeze), want: "pause: "},
		{name: "paused, the way back of an open handover", state: paused(now.Add(time.Hour)), open: true, change: func(h *signalbox.Handover) { h.Fallback = 0 }},
		{name: "paused, a failover that has no fallback", state: paused(now.Add(time.Hour)), change: func(h *signalbox.Handover) { h.Fallback = 0; unplanned(h) }, want: "pause: "},
		{name: "paused, an unplanned failover too", state: paused(now.Add(time.Hour)), change: unplanned, want: "pause: "},
		{name: "frozen", rules: frozen, want: "freeze: frozen (midweek) until 2026-11-26T00:00:00Z (in 12h0m0s)"},
		{name: "frozen, unplanned", rules: frozen, change: unplanned},
		{name: "frozen, break-glass", rules: frozen, change: glass(signalbox.RuleFreeze)},
		{name: "interval, nothing before", rules: interval},
		{name: "interval, too soon", rules: interval, state: moved("north", "east", 9*time.Minute, false), want: "min-interval: 10m0s have to lie between two moves; operator/bob moved it from north to east"},
		{name: "interval, long ago", rules: interval, state: moved("north", "east", 10*time.Minute, false)},
		{name: "interval, the way back once", rules: interval, state: moved("west", "east", time.Minute, false)},
		{name: "interval, the way back of the way back", rules: interval, state: moved("west", "east", time.Minute, true), want: "min-interval: "},
		{name: "standing, enough", rules: policy.Rules{MinStanding: 2}},
		{name: "standing, too few", rules: policy.Rules{MinStanding: 3}, want: "min-standing: 2 instances stand ready in west, and there have to be 3"},
		{name: "standing, a singleton lists one", rules: policy.Rules{MinStanding: 3}, change: func(h *signalbox.Handover) { h.Singleton = true }},
		{name: "standing, break-glass", rules: policy.Rules{MinStanding: 3}, change: glass(signalbox.RuleMinStanding)},
		{name: "approvals, nobody asked", rules: two, want: "approvals: 1 other person has to approve, and nobody was asked yet"},
		{name: "approvals, asked", rules: two, state: said(order()), want: "another operator than operator/ada: signalbox cutover approve orders-1"},
		{name: "approvals, approved", rules: two, state: said(order(), approve(bob))},
		{name: "approvals, one of two", rules: policy.Rules{Approvals: 2}, state: said(order(), approve(bob)), want: "approved by operator/bob; waits until"},
		{name: "approvals, two of two", rules: policy.Rules{Approvals: 2}, state: said(order(), approve(bob), approve("operator/eve"))},
		{name: "approvals, of another id", rules: two, state: said(order(), approve(bob)), change: func(h *signalbox.Handover) { h.ID = "orders-2" }, want: "nobody was asked yet"},
		{name: "approvals, of another data center", rules: two, state: said(order(), approve(bob)), change: func(h *signalbox.Handover) { h.To = "north" }, want: "was another order"},
		{name: "approvals, late proxies were not approved", rules: two, state: said(order(), approve(bob)), change: func(h *signalbox.Handover) { h.AllowLateProxies = true }, want: "was another order"},
		{name: "approvals, another budget", rules: two, state: said(later, approve(bob)), want: "was another order"},
		{name: "approvals, other evidence", rules: two, state: said(order(), approve(bob)), change: unplanned, want: "was another order"},
		{name: "approvals, by somebody else than who asked", rules: two, state: said(order(), approve(bob)), change: func(h *signalbox.Handover) { h.By = bob }, want: "was another order"},
		{name: "approvals, break-glass", rules: two, change: glass(signalbox.RuleApprovals)},
		{name: "all that block are named", rules: policy.Rules{MinStanding: 3, Approvals: 1}, state: paused(now.Add(time.Hour)), want: "migration (ask operator/bob; signalbox service resume orders ends it); approvals: "},
		{name: "break-glass without a reason", change: func(h *signalbox.Handover) { h.BreakGlass = &signalbox.BreakGlass{Overrides: signalbox.SafetyRules()} }, want: "needs a reason"},
		{name: "break-glass of no rule", change: func(h *signalbox.Handover) { h.BreakGlass = &signalbox.BreakGlass{Reason: "r"} }, want: "names no rule"},
		{name: "break-glass of what is no rule", change: glass("interlock"), want: "break-glass of rule"},
		{name: "break-glass of a way back", open: true, change: func(h *signalbox.Handover) { h.Fallback = 0; glass(signalbox.RulePause)(h) }, want: "no glass to break"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := block()
			if c.change != nil {
				c.change(h)
			}
			err := policy.CheckMove(c.rules, c.state, h, 7, c.open, now)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.want != "" && !errors.Is(err, signalbox.ErrRefused) && !errors.Is(err, signalbox.ErrInvalid) {
				t.Errorf("%v is neither refused nor invalid", err)
			}
		})
	}
}

// TestApprovalsRunOut guards that an approval counts for the moment that it was
// given for: not after its time, and not once another term is certified.
func TestApprovalsRunOut(t *testing.T) {
	s, rules := said(order(), approve(bob)), policy.Rules{Approvals: 1}
	if err := policy.CheckMove(rules, s, block(), 7, false, now.Add(59*time.Minute)); err != nil {
		t.Errorf("in time: %v", err)
	}
	if err := policy.CheckMove(rules, s, block(), 7, false, now.Add(time.Hour)); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("after its time: %v", err)
	}
	if err := policy.CheckMove(rules, s, block(), 9, false, now); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("after another handover: %v", err)
	}
	s.ApplyHandover(block(), now)
	if s.Order("orders-1") != nil {
		t.Error("the order of a handover that was begun still waits")
	}
}

func glass(rules ...signalbox.SafetyRule) func(*signalbox.Handover) {
	return func(h *signalbox.Handover) {
		h.BreakGlass = &signalbox.BreakGlass{Reason: "east burns", Overrides: rules}
	}
}

func unplanned(h *signalbox.Handover) { h.Allowed |= signalbox.EvidenceKinds(signalbox.Fence) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestVoterChecks is the table of what a voter takes into the log of pauses and
// approvals.
func TestVoterChecks(t *testing.T) {
	pause := func(change func(*signalbox.Pause)) error {
		p := &signalbox.Pause{Service: "orders", Until: now.Add(time.Hour), By: ada, Reason: "r"}
		change(p)
		return policy.CheckPause(&policy.State{}, p, now)
	}
	ask := func(s *policy.State, change func(*signalbox.Approval)) error {
		a := order()
		change(a)
		return policy.CheckApproval(s, a, "east", 7, false, now)
	}
	gives := func(s *policy.State, by string) error {
		return policy.CheckApproval(s, approve(by), "east", 7, false, now)
	}
	full := &policy.State{}
	for i := range policy.MaxWaiting {
		a := order()
		a.ID = strings.Repeat("x", i+1)
		full.ApplyApproval(a, 7, now)
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"a pause", pause(func(*signalbox.Pause) {}), nil},
		{"a pause without a reason", pause(func(p *signalbox.Pause) { p.Reason = "" }), signalbox.ErrInvalid},
		{"a pause by a gateway", pause(func(p *signalbox.Pause) { p.By = "gateway/east/east-1" }), signalbox.ErrRefused},
		{"a pause by an operator without a name", pause(func(p *signalbox.Pause) { p.By = "operator/" }), signalbox.ErrRefused},
		{"a pause that is over", pause(func(p *signalbox.Pause) { p.Until = now }), signalbox.ErrInvalid},
		{"a pause for ever", pause(func(p *signalbox.Pause) { p.Until = now.Add(signalbox.MaxPause + time.Second) }), signalbox.ErrInvalid},
		{"the end of no pause", pause(func(p *signalbox.Pause) { p.Until = time.Time{} }), signalbox.ErrConflict},
		{"the end of a pause", policy.CheckPause(paused(now.Add(time.Hour)), &signalbox.Pause{Service: "orders", By: ada}, now), nil},
		{"an order", ask(nil, func(*signalbox.Approval) {}), nil},
		{"an order by a gateway", ask(nil, func(a *signalbox.Approval) { a.By = "gateway/east/east-1" }), signalbox.ErrRefused},
		{"an order of an older term", ask(nil, func(a *signalbox.Approval) { a.Order.Term = 6 }), signalbox.ErrConflict},
		{"an order from elsewhere", ask(nil, func(a *signalbox.Approval) { a.Order.From, a.Order.To = "west", "east" }), signalbox.ErrConflict},
		{"an order to where it is", ask(nil, func(a *signalbox.Approval) { a.Order.To = "east" }), signalbox.ErrInvalid},
		{"an order that waits for ever", ask(nil, func(a *signalbox.Approval) { a.Order.Until = now.Add(signalbox.MaxApprovalWait + 1) }), signalbox.ErrInvalid},
		{"an order twice", ask(said(order()), func(*signalbox.Approval) {}), signalbox.ErrConflict},
		{"too many orders", ask(full, func(*signalbox.Approval) {}), signalbox.ErrRefused},
		{"an order while a handover is open", policy.CheckApproval(nil, order(), "east", 7, true, now), signalbox.ErrConflict},
		{"an approval", gives(said(order()), bob), nil},
		{"an approval of one's own order", gives(said(order()), ada), signalbox.ErrRefused},
		{"an approval by a gateway", gives(said(order()), "gateway/east/east-1"), signalbox.ErrRefused},
		{"an approval by Signalbox", gives(said(order()), "signalbox"), signalbox.ErrRefused},
		{"an approval twice", gives(said(order(), approve(bob)), bob), signalbox.ErrConflict},
		{"an approval of nothing", gives(nil, bob), signalbox.ErrUnknown},
		{"an approval too late", policy.CheckApproval(said(order()), approve(bob), "east", 7, false, now.Add(time.Hour)), signalbox.ErrUnknown},
		{"an approval of a service that moved", policy.CheckApproval(said(order()), approve(bob), "west", 8, false, now), signalbox.ErrUnknown},
	} {
		if !errors.Is(c.err, c.want) || c.want == nil && c.err != nil {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

// TestMoves guards what counts as a move, and which one takes another back.
func TestMoves(t *testing.T) {
	s := &policy.State{}
	move := func(from, to signalbox.DataCenter, term signalbox.Term, fallback bool) {
		h := &signalbox.Handover{ID: "x", Service: "orders", Term: term, Fallback: term + 1, From: from, To: to}
		c := &signalbox.Certificate{Service: "orders", Term: term, Block: &signalbox.DecidedBlock{Block: signalbox.Block{At: now, Requests: []signalbox.Request{{Handover: h}}}}}
		if fallback {
			c.Term++
		}
		s.ApplyOutcome(c, from)
	}
	move("east", "west", 2, true)
	if s.Moved != nil {
		t.Errorf("given up counts as a move: %+v", s.Moved)
	}
	var back []bool
	for i, dc := range []signalbox.DataCenter{"west", "east", "west", "north", "west"} {
		from := signalbox.DataCenter("east")
		if s.Moved != nil {
			from = s.Moved.To
		}
		move(from, dc, signalbox.Term(4+2*i), false)
		back = append(back, s.Moved.Back)
	}
	// There, back, there again; to the third, and back from it.
	if want := []bool{false, true, false, false, true}; !slices.Equal(back, want) {
		t.Errorf("back %v, want %v", back, want)
	}
}
