package policy_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/policy"
)

// signed is a mandate as a voter has verified it.
func signed(verb signalbox.Verb, name string, change ...func(*signalbox.Mandate)) *signalbox.Mandate {
	m := &signalbox.Mandate{Verb: verb, Operator: name, Service: "orders", Reason: "why", At: now, Key: signalbox.Identity("key of " + name)}
	if verb == signalbox.VerbSwitch || verb == signalbox.VerbFailover || verb == signalbox.VerbApprove {
		m.ID = "h1"
	}
	if verb == signalbox.VerbSwitch || verb == signalbox.VerbFailover {
		m.From, m.To, m.Term = "east", "west", 7
	}
	for _, c := range change {
		c(m)
	}
	m.Proof = []byte(string(verb) + " by " + name)
	return m
}

func switching(change ...func(*signalbox.Handover)) *signalbox.Request {
	h := &signalbox.Handover{
		ID: "h1", Service: "orders", From: "east", To: "west", Term: 8, Allowed: signalbox.AckOnly, HoldBudget: time.Second, By: "operator/ada", Reason: "why",
	}
	for _, c := range change {
		c(h)
	}
	return &signalbox.Request{Handover: h}
}

// TestMandateIsExact guards that an operator's signature counts for exactly what
// it says: whatever a gateway changes is refused, with what to do.
func TestMandateIsExact(t *testing.T) {
	glass := &signalbox.BreakGlass{Reason: "east burns", Overrides: []signalbox.SafetyRule{signalbox.RulePause}}
	broken := func(m *signalbox.Mandate) { m.BreakGlass = glass }
	order := func(change ...func(*signalbox.Order)) *signalbox.Request {
		o := &signalbox.Order{From: "east", To: "west", Term: 7, HoldBudget: time.Second, Allowed: signalbox.AckOnly}
		for _, c := range change {
			c(o)
		}
		return &signalbox.Request{Approval: &signalbox.Approval{Service: "orders", ID: "h1", By: "operator/ada", Reason: "why", Order: o}}
	}
	until := now.Add(time.Hour)
	pause := func(until time.Time, by string) *signalbox.Request {
		return &signalbox.Request{Pause: &signalbox.Pause{Service: "orders", Until: until, By: by, Reason: "why"}}
	}
	ends := func(m *signalbox.Mandate) { m.Until = until }
	sw, fo := signalbox.VerbSwitch, signalbox.VerbFailover
	for name, c := range map[string]struct {
		m    *signalbox.Mandate
		r    *signalbox.Request
		want error
	}{
		"a switch":                {signed(sw, "ada"), switching(), nil},
		"its budget":              {signed(sw, "ada", func(m *signalbox.Mandate) { m.HoldBudget = time.Second }), switching(), nil},
		"break-glass":             {signed(sw, "ada", broken), switching(func(h *signalbox.Handover) { h.BreakGlass = glass }), nil},
		"no glass was broken":     {signed(sw, "ada", broken), switching(), nil},
		"a failover":              {signed(fo, "ada"), switching(func(h *signalbox.Handover) { h.Allowed = signalbox.AnyEvidence }), nil},
		"a failover late proxies": {signed(fo, "ada"), switching(func(h *signalbox.Handover) { h.Allowed, h.AllowLateProxies = signalbox.AnyEvidence, true }), nil},
		"an order":                {signed(sw, "ada"), order(), nil},
		"a pause":                 {signed(signalbox.VerbPause, "ada", ends), pause(until, "operator/ada"), nil},
		"its end":                 {signed(signalbox.VerbResume, "ada"), pause(time.Time{}, "operator/ada"), nil},
		"another id":              {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.ID = "h2" }), signalbox.ErrUntrusted},
		"another side":            {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.To = "south" }), signalbox.ErrUntrusted},
		"another service":         {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.Service = "tickets" }), signalbox.ErrUntrusted},
		"another person":          {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.By = "operator/bob" }), signalbox.ErrUntrusted},
		"another reason":          {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.Reason = "because" }), signalbox.ErrUntrusted},
		"late proxies":            {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.AllowLateProxies = true }), signalbox.ErrUntrusted},
		"another budget":          {signed(sw, "ada", func(m *signalbox.Mandate) { m.HoldBudget = time.Minute }), switching(), signalbox.ErrUntrusted},
		"a switch as a failover":  {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.Allowed = signalbox.AnyEvidence }), signalbox.ErrUntrusted},
		"more evidence":           {signed(fo, "ada", func(m *signalbox.Mandate) { m.Allowed = signalbox.EvidenceKinds(signalbox.Lapse) }), switching(func(h *signalbox.Handover) { h.Allowed = signalbox.AnyEvidence }), signalbox.ErrUntrusted},
		"glass that nobody broke": {signed(sw, "ada"), switching(func(h *signalbox.Handover) { h.BreakGlass = glass }), signalbox.ErrUntrusted},
		"glass of another rule": {signed(sw, "ada", broken), switching(func(h *signalbox.Handover) {
			h.BreakGlass = &signalbox.BreakGlass{Reason: glass.Reason, Overrides: []signalbox.SafetyRule{signalbox.RuleFreeze}}
		}), signalbox.ErrUntrusted},
		"an order to another side": {signed(sw, "ada"), order(func(o *signalbox.Order) { o.To = "south" }), signalbox.ErrUntrusted},
		"an order of another term": {signed(sw, "ada"), order(func(o *signalbox.Order) { o.Term = 6 }), signalbox.ErrUntrusted},
		"a longer pause":           {signed(signalbox.VerbPause, "ada", ends), pause(until.Add(1), "operator/ada"), signalbox.ErrUntrusted},
		"a pause as its end":       {signed(signalbox.VerbPause, "ada", ends), pause(time.Time{}, "operator/ada"), signalbox.ErrUntrusted},
		"another one's pause":      {signed(signalbox.VerbPause, "ada", ends), pause(until, "operator/bob"), signalbox.ErrUntrusted},
		"a pause as a switch":      {signed(signalbox.VerbPause, "ada", ends), switching(), signalbox.ErrUntrusted},
		"signed at another term":   {signed(sw, "ada", func(m *signalbox.Mandate) { m.Term = 6 }), switching(), signalbox.ErrConflict},
		"signed long ago":          {signed(sw, "ada", func(m *signalbox.Mandate) { m.At = now.Add(-policy.MaxMandateAge - 1) }), switching(), signalbox.ErrRefused},
		"signed in the future":     {signed(sw, "ada", func(m *signalbox.Mandate) { m.At = now.Add(policy.MaxMandateAhead + 1) }), switching(), signalbox.ErrRefused},
	} {
		err := policy.CheckMandate(nil, c.m, c.r, "east", 7, now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "again") {
			t.Errorf("%s does not say what to do: %v", name, err)
		}
	}
}

// TestMandateCountsOnce guards that nothing that was taken counts again, nor
// anything that was signed before it: a gateway cannot keep an order for later.
func TestMandateCountsOnce(t *testing.T) {
	var s policy.State
	first := signed(signalbox.VerbResume, "ada")
	resume := &signalbox.Request{Pause: &signalbox.Pause{Service: "orders", By: "operator/ada", Reason: "why"}}
	if err := policy.CheckMandate(&s, first, resume, "east", 7, now); err != nil {
		t.Fatal(err)
	}
	s.ApplyMandate(first)
	older := signed(signalbox.VerbResume, "ada", func(m *signalbox.Mandate) { m.At = now.Add(-time.Second) })
	for what, m := range map[string]*signalbox.Mandate{"the same again": first, "an older one": older} {
		if err := policy.CheckMandate(&s, m, resume, "east", 7, now.Add(time.Second)); !errors.Is(err, signalbox.ErrRefused) || !strings.Contains(err.Error(), "taken before") {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.ApplyMandate(older)
	later := signed(signalbox.VerbResume, "ada", func(m *signalbox.Mandate) { m.At = now.Add(1) })
	if err := policy.CheckMandate(&s, later, resume, "east", 7, now); err != nil {
		t.Errorf("a later one: %v", err)
	}
	bobs := &signalbox.Request{Pause: &signalbox.Pause{Service: "orders", By: "operator/bob", Reason: "why"}}
	if err := policy.CheckMandate(&s, signed(signalbox.VerbResume, "bob", func(m *signalbox.Mandate) { m.At = older.At }), bobs, "east", 7, now); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
}

// TestApprovalNamesTheOrder guards that an approval counts for the order as its
// asker signed it, and that two people are two keys.
func TestApprovalNamesTheOrder(t *testing.T) {
	ask := signed(signalbox.VerbSwitch, "ada")
	state := func() *policy.State {
		var s policy.State
		s.ApplyApproval(&signalbox.Approval{Service: "orders", ID: "h1", By: "operator/ada", Mandate: ask, Order: &signalbox.Order{Term: 7, Until: now.Add(time.Hour)}}, 7, now)
		return &s
	}
	of := func(m *signalbox.Mandate) { m.Of = sha256.Sum256(ask.Proof) }
	approval := &signalbox.Request{Approval: &signalbox.Approval{Service: "orders", ID: "h1", By: "operator/bob", Reason: "why"}}
	for name, c := range map[string]struct {
		m    *signalbox.Mandate
		want error
	}{
		"bob's":                {signed(signalbox.VerbApprove, "bob", of), nil},
		"of another order":     {signed(signalbox.VerbApprove, "bob", func(m *signalbox.Mandate) { m.Of[0] = 1 }), signalbox.ErrUntrusted},
		"of another id":        {signed(signalbox.VerbApprove, "bob", of, func(m *signalbox.Mandate) { m.ID = "h2" }), signalbox.ErrUntrusted},
		"somebody else's":      {signed(signalbox.VerbApprove, "carl", of), signalbox.ErrUntrusted},
		"with the asker's key": {signed(signalbox.VerbApprove, "bob", of, func(m *signalbox.Mandate) { m.Key = ask.Key }), signalbox.ErrRefused},
		"a switch is none":     {signed(signalbox.VerbSwitch, "bob"), signalbox.ErrUntrusted},
		"signed an hour ago":   {signed(signalbox.VerbApprove, "bob", of, func(m *signalbox.Mandate) { m.At = now.Add(-time.Hour) }), signalbox.ErrRefused},
	} {
		if err := policy.CheckMandate(state(), c.m, approval, "east", 7, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := state()
	s.ApplyApproval(&signalbox.Approval{Service: "orders", ID: "h1", By: "operator/carl", Mandate: signed(signalbox.VerbApprove, "carl", of)}, 7, now)
	again := signed(signalbox.VerbApprove, "bob", of, func(m *signalbox.Mandate) { m.Key = "key of carl" })
	if err := policy.CheckMandate(s, again, approval, "east", 7, now); !errors.Is(err, signalbox.ErrRefused) {
		t.Errorf("one key for two names: %v", err)
	}
	if s.Begun(&signalbox.Handover{ID: "h1", Mandate: ask}) == nil || s.Begun(&signalbox.Handover{ID: "h1", Mandate: again}) != nil || s.Begun(&signalbox.Handover{ID: "h1"}) != nil {
		t.Error("an order begins under its own mandate only")
	}
}
