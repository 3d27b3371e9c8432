package rpc_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
)

// TestConsent guards that what people said comes out of the log as they said it.
func TestConsent(t *testing.T) {
	until := time.Unix(1790000000, 5)
	h := handover()
	h.BreakGlass = &signalbox.BreakGlass{Reason: "east burns", Overrides: []signalbox.SafetyRule{signalbox.RulePause, signalbox.RuleFreeze}}
	for _, r := range []signalbox.Request{
		{Pause: &signalbox.Pause{Service: "orders", Until: until, By: "operator/ada", Reason: "migration"}},
		{Pause: &signalbox.Pause{Service: "orders", By: "operator/ada"}},
		{Approval: &signalbox.Approval{Service: "orders", ID: "orders-1", By: "operator/bob", Reason: "looked at it"}},
		{Approval: &signalbox.Approval{Service: "orders", ID: "orders-1", By: "operator/ada", Order: &signalbox.Order{
			From: "east", To: "west", Term: 7, HoldBudget: time.Second, AllowLateProxies: true, Allowed: signalbox.AckOnly, Until: until,
		}}},
		{Handover: h},
	} {
		raw, err := rpc.EncodeRequest(&r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rpc.DecodeRequest(raw)
		if err != nil || got.Service() != "orders" || !reflect.DeepEqual(*got, r) {
			t.Errorf("%+v came out as %+v, %v", r, got, err)
		}
	}
}

// TestConsentBounds guards that nothing malformed of it gets into the log.
func TestConsentBounds(t *testing.T) {
	long := strings.Repeat("x", signalbox.MaxReason+1)
	approval := func(o signalbox.Order) *signalbox.Approval {
		return &signalbox.Approval{Service: "orders", ID: "orders-1", By: "operator/ada", Order: &o}
	}
	good := signalbox.Order{From: "east", To: "west", Term: 7, HoldBudget: time.Second, Until: time.Unix(1, 0)}
	same, none, slow := good, good, good
	same.To, none.Term, slow.HoldBudget = "east", 0, signalbox.MaxHoldBudget+1
	glass := func(rules ...signalbox.SafetyRule) signalbox.Request {
		h := handover()
		h.BreakGlass = &signalbox.BreakGlass{Reason: "r", Overrides: rules}
		return signalbox.Request{Handover: h}
	}
	for name, r := range map[string]signalbox.Request{
		"pause without reason":       {Pause: &signalbox.Pause{Service: "orders", Until: time.Unix(1, 0), By: "operator/ada"}},
		"pause by nobody":            {Pause: &signalbox.Pause{Service: "orders", Until: time.Unix(1, 0), Reason: "r"}},
		"pause of no service":        {Pause: &signalbox.Pause{Service: "Orders", By: "operator/ada"}},
		"pause with a long reason":   {Pause: &signalbox.Pause{Service: "orders", By: "operator/ada", Reason: long}},
		"approval of nothing":        {Approval: &signalbox.Approval{Service: "orders", By: "operator/ada"}},
		"approval of a long id":      {Approval: &signalbox.Approval{Service: "orders", ID: long, By: "operator/ada"}},
		"order to where it is":       {Approval: approval(same)},
		"order of no term":           {Approval: approval(none)},
		"order with a large budget":  {Approval: approval(slow)},
		"glass of no rule":           glass(),
		"glass of an unknown rule":   glass("interlock"),
		"glass of one rule, twice":   glass(signalbox.RulePause, signalbox.RulePause),
		"glass of too many to count": glass(make([]signalbox.SafetyRule, 100)...),
	} {
		raw, err := rpc.EncodeRequest(&r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rpc.DecodeRequest(raw); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
