package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/tests/register"
)

// Rule: a planned switchover fails no request, both data centers never serve at once, and the record has the evidence
// of the whole roster.
func testSwitches(t *testing.T, f *fixture) {
	l := f.load(t)
	var handovers []api.Handover
	for range 4 {
		_, to := f.master(t)
		h := f.moved(t, api.SwitchRequest{Service: demo.Service, To: to})
		for _, a := range h.Acks {
			if a.Evidence != "ack" {
				t.Errorf("%s: %s gave %q", h.ID, a.Instance, a.Evidence)
			}
		}
		if len(h.Acks) != 3 || h.HoldMS == nil || h.Certificate == nil || len(h.Promotions) != 3 {
			t.Errorf("record %s: %d acks, hold %v, certificate %v, %d promotions", h.ID, len(h.Acks), h.HoldMS, h.Certificate != nil, len(h.Promotions))
		}
		for _, name := range api.Phases() {
			if !slices.ContainsFunc(h.Phases, func(p api.Phase) bool { return p.Name == name && p.EndMS != nil }) {
				t.Errorf("record %s has no whole phase %s: %+v", h.ID, name, h.Phases)
			}
		}
		handovers = append(handovers, h)
		f.steady(t, to)
	}
	unharmed(t, l)
	verdict, err := f.Judge(within(t), l)
	must(t, err)
	if !verdict.OK() || verdict.OverlapMs != 0 {
		t.Fatalf("the oracle: %+v", verdict)
	}
	history, err := f.Recorded(within(t), l)
	must(t, err)
	if one, known := register.Recorded(history, patience); !one && known {
		t.Error("what clients were answered is no one register of who is master")
	}
	result := demo.Sum(handovers, l, &verdict)
	for _, s := range result.Switches {
		t.Logf("%s to %s: hold %.1f ms, interruption %.1f ms, %d held, added p99 %.1f ms, phases %v", s.ID, s.To, s.HoldMS, s.InterruptionMS, s.Held, s.AddedP99MS, s.Phases)
	}
	if !result.OK || result.Requests.Held == 0 {
		t.Errorf("result: %v, %+v", result.Faults(), result.Requests)
	}
}

// Rule: the command line does the same, its JSON is one document, and the certificate that it saves verifies offline.
func testCommand(t *testing.T, f *fixture) {
	s := f.service(t)
	_, to := f.master(t)
	code, out, errs := f.command(t, "switch", demo.Service, "--to", to, "--expect", fmt.Sprintf("%s@%d", s.Master, s.Term), "--reason", "a test", "-o", "json")
	if code != 0 {
		t.Fatalf("switch: exit code %d\n%s%s", code, out, errs)
	}
	var h api.Handover
	decoder := json.NewDecoder(strings.NewReader(out))
	if err := decoder.Decode(&h); err != nil || decoder.More() || h.Outcome != api.OutcomeForward || h.Reason != "a test" {
		t.Fatalf("switch -o json: %v\n%s", err, out)
	}
	f.steady(t, to)
	file := filepath.Join(t.TempDir(), "orders.cert")
	if code, out, errs := f.command(t, "cutover", "report", h.ID, "--certificate", file); code != 0 || !strings.Contains(out, "FORWARD") {
		t.Errorf("report: exit code %d\n%s%s", code, out, errs)
	}
	keys := f.Bundle("operator", "", "demo")
	if code, out, errs := f.command(t, "verify", file, "--keys", keys); code != 0 || !strings.Contains(out, to) {
		t.Errorf("verify: exit code %d\n%s%s", code, out, errs)
	}
	spoiled, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte(strings.Replace(string(spoiled), `"`+to+`"`, `"north"`, 1)+" "), 0o600))
	spoiled[len(spoiled)/2] ^= 1
	must(t, os.WriteFile(file, spoiled, 0o600))
	if code, out, _ := f.command(t, "verify", file, "--keys", keys); code == 0 {
		t.Errorf("a spoiled certificate verifies:\n%s", out)
	}
	for _, args := range [][]string{{"status"}, {"instance", "list"}, {"proxy", "list"}, {"history"}, {"plan", demo.Service, "east"}} {
		if code, out, errs := f.command(t, args...); code != 0 || out == "" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
	}
}

// Rule: of two switches at once one wins, and the other is told which.
func testConflict(t *testing.T, f *fixture) {
	master, to := f.master(t)
	hangs := f.slowly(t, master, "conflict") // the first is still open when the other comes
	type answer struct {
		h   api.Handover
		err error
	}
	gateways := f.Gateways()
	answers := make([]answer, 2)
	done := make(chan int)
	for i, gateway := range []string{gateways[0].Name, gateways[len(gateways)-1].Name} {
		go func() {
			h, err := demo.Order(within(t), f.ClientOf(gateway), api.SwitchRequest{Service: demo.Service, To: to, Reason: gateway, HoldBudgetMS: unhurried.Milliseconds()})
			answers[i] = answer{h, err}
			done <- i
		}()
	}
	<-done
	<-done
	hangs.letGo(t)
	won, lost := answers[0], answers[1]
	if won.err != nil {
		won, lost = lost, won
	}
	if won.err != nil || lost.err == nil {
		t.Fatalf("of two switches at once: %v and %v", won.err, lost.err)
	}
	var p *api.Problem
	if !errors.Is(lost.err, signalbox.ErrConflict) || !errors.As(lost.err, &p) || p.Handover != won.h.ID {
		t.Errorf("the loser was told %v (%+v), the winner is %s", lost.err, p, won.h.ID)
	}
	h, err := f.Follow(within(t), won.h.ID)
	forward(t, h, err)
	f.steady(t, to)
	if h.Term != h.CertifiedTerm || f.service(t).Term != h.Term {
		t.Errorf("term %d is certified, the winner's is %d", f.service(t).Term, h.Term)
	}
}

// Rule: an expectation that does not hold moves nothing: exit code 6.
func testExpectation(t *testing.T, f *fixture) {
	before := f.service(t)
	master, to := f.master(t)
	for _, expect := range []string{fmt.Sprintf("%s@%d", to, before.Term), fmt.Sprintf("%s@%d", master, before.Term+1)} {
		code, out, errs := f.command(t, "switch", demo.Service, "--to", to, "--expect", expect)
		if code != 6 || !strings.Contains(errs, fmt.Sprintf("%s@%d", master, before.Term)) {
			t.Errorf("--expect %s: exit code %d\n%s%s", expect, code, out, errs)
		}
	}
	if after := f.service(t); after.Term != before.Term || after.Master != before.Master || after.Handover != "" {
		t.Errorf("moved from %+v to %+v", before, after)
	}
	list, err := f.API().Handovers(context.WithoutCancel(within(t)), demo.Service, 1)
	must(t, err)
	if len(list) == 0 || list[0].Term != before.Term {
		t.Errorf("the newest record is %+v", list)
	}
}
