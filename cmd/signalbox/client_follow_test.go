package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
)

// play has the fake act out a handover after each switch.
func play(fake *apitest.Fake, act func(id string)) {
	fake.Edit(func(s *apitest.State) { s.OnSwitch = func(o api.Order) { go act(o.ID) } })
}

func event(id, kind, phase, detail string, after time.Duration) api.Event {
	return api.Event{Kind: kind, Service: "orders", Handover: id, Phase: phase, Gateway: "gw-east-1", Detail: detail, At: apitest.Epoch.Add(after)}
}

// seen publishes until a verb has shown it.
func seen(t *testing.T, shown *buffer, part string, publish func()) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(shown.String(), part) {
		publish()
		select {
		case <-tick.C:
		case <-t.Context().Done():
			return
		}
	}
}

// longer does with timeouts that grow what needs one that is long enough for a busy machine, until it was.
func longer(t *testing.T, first time.Duration, try func(timeout string) (done bool)) {
	t.Helper()
	for timeout := first; !try(timeout.String()); timeout *= 3 {
		if timeout > 2*time.Minute {
			t.Fatal("no timeout is long enough")
		}
	}
}

// end closes a handover's record and tells.
func end(fake *apitest.Fake, id, outcome string, term uint64) {
	fake.Update(id, func(h *api.Handover) {
		h.Outcome, h.CertifiedTerm, h.State, h.HoldMS = outcome, term, "settled", ptr(9.412)
	})
	fake.Publish(event(id, api.EventOutcome, api.PhaseSettle, outcome, 20*time.Millisecond))
}

// A switch shows what happens while it happens and ends with a summary; -o json
// leaves one document on the output.
func TestSwitchForward(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	var stdout, stderr buffer
	play(fake, func(id string) {
		e := event(id, api.EventWaiting, api.PhaseDrain, "draining 14 requests", 5*time.Millisecond)
		e.Instance = "orders-east-2"
		seen(t, &stderr, e.Detail, func() { // its stream may not be open yet
			fake.Publish(event(id, api.EventPhase, api.PhaseHold, "2 proxies park new requests", 3*time.Millisecond))
			fake.Publish(event("other", api.EventPhase, api.PhaseHold, "not ours", 3*time.Millisecond))
			fake.Publish(e)
		})
		end(fake, id, api.OutcomeForward, 8)
	})
	code := run([]string{"switch", "orders", "--to", "west", "--reason", "because", "--bundle", alice.bundle}, stdio{strings.NewReader(""), &stdout, &stderr})
	out, progress := stdout.String(), stderr.String()
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, progress)
	}
	contains(t, out, "orders: west is master (west@8); requests were held 9.412 ms", "signalbox cutover report "+fake.Orders()[0].ID)
	contains(t, progress, "orders from east to west, term 8", "3 ms  hold      2 proxies park new requests", "5 ms  drain     orders-east-2: draining 14 requests")
	if strings.Contains(progress, "not ours") {
		t.Errorf("another handover's event is shown:\n%s", progress)
	}
}

func TestSwitchPrintsOneDocument(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	play(fake, func(id string) { end(fake, id, api.OutcomeForward, 8) })
	out, _ := alice.expect(exitOK, "switch", "orders", "--to", "west", "-o", "json")
	var h api.Handover
	if err := json.Unmarshal([]byte(out), &h); err != nil || h.Outcome != api.OutcomeForward {
		t.Errorf("%v: %s", err, out)
	}
}

// A certified fallback is exit code 5, however it came.
func TestSwitchReverted(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	play(fake, func(id string) {
		fake.Update(id, func(h *api.Handover) { h.GivenUp = "orders-east-2 could not drain in time" })
		end(fake, id, api.OutcomeFallback, 9)
	})
	out, _ := alice.expect(exitReverted, "switch", "orders", "--to", "west")
	contains(t, out, "REVERTED, east is master on (east@9)", "could not drain in time")
}

func TestSwitchSuperseded(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	play(fake, func(id string) {
		fake.Edit(func(s *apitest.State) {
			s.Handovers = append(s.Handovers, api.Handover{ID: "orders-back", Service: "orders", From: "west", To: "east", Term: 10, Outcome: api.OutcomeOpen, Started: apitest.Epoch})
		})
		fake.Update(id, func(h *api.Handover) { h.SupersededBy = "orders-back" })
		end(fake, id, api.OutcomeSuperseded, 0)
		end(fake, "orders-back", api.OutcomeForward, 10)
	})
	out, progress := alice.expect(exitReverted, "switch", "orders", "--to", "west")
	contains(t, out, "east is master (east@10)")
	contains(t, progress, "superseded by handover orders-back")
}

// A timeout is exit code 4: the handover goes on, and the message says how to
// follow it.
func TestSwitchTimesOut(t *testing.T) {
	longer(t, time.Second, func(timeout string) bool {
		fake := world()
		alice := newPerson(t, apitest.Start(t, 1, fake))
		fake.Edit(func(s *apitest.State) {
			s.OnSwitch = func(o api.Order) {
				fake.Update(o.ID, func(h *api.Handover) {
					h.State, h.Waiting = api.StateDraining, []string{"orders-east-2: draining 14 requests"}
				})
			}
		})
		_, progress := alice.expect(exitTimeout, "switch", "orders", "--to", "west", "--timeout", timeout)
		if !strings.Contains(progress, "handover orders-") || !strings.Contains(progress, "draining 14 requests") {
			return false // it was over before the order was answered, or the record was read
		}
		id := fake.Orders()[0].ID
		contains(t, progress, "still going", "waiting for orders-east-2: draining 14 requests", "signalbox watch --handover "+id, "signalbox cutover give-up "+id)
		return true
	})
}

// The gateway dies while the switch is followed: the other one tells the rest,
// and nothing is shown twice.
func TestSwitchIsFollowedAcrossGateways(t *testing.T) {
	fake := world()
	c := apitest.Start(t, 2, fake)
	alice := newPerson(t, c)
	play(fake, func(id string) {
		hold := event(id, api.EventPhase, api.PhaseHold, "parked here", 3*time.Millisecond)
		fake.Publish(hold)
		fake.Update(id, func(h *api.Handover) { h.Events = append(h.Events, hold) })
		c.Gateways[0].Stop()
		fake.Update(id, func(h *api.Handover) {
			h.Events = append(h.Events, event(id, api.EventPhase, api.PhaseDrain, "drained unseen", 4*time.Millisecond))
		})
		end(fake, id, api.OutcomeForward, 8)
	})
	_, progress := alice.expect(exitOK, "switch", "orders", "--to", "west")
	contains(t, progress, "parked here", "drained unseen", "asking "+c.Gateways[1].Address)
	if n := strings.Count(progress, "parked here"); n != 1 {
		t.Errorf("shown %d times:\n%s", n, progress)
	}
	if n := len(fake.Orders()); n != 1 {
		t.Errorf("%d handovers were started", n)
	}
}

// watch --handover tells an old handover from its start and ends with its
// outcome.
func TestWatchHandover(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	fake.Update("orders-bbbbbbbbbbbb", func(h *api.Handover) {
		h.Events = []api.Event{event(h.ID, api.EventNote, api.PhaseHold, "envoy-x is late", time.Hour)}
	})
	out, progress := alice.expect(exitReverted, "watch", "--handover", "orders-bbbbbbbbbbbb")
	contains(t, progress, "envoy-x is late")
	contains(t, out, "REVERTED", "late proxies: envoy-x")
	alice.expect(exitFailure, "watch", "--handover", "nothing")
}

// watch shows how things stand, then what happens, until it is ended.
func TestWatchService(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	longer(t, time.Second, func(timeout string) bool {
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { // publishes until somebody has seen it
			defer close(done)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					fake.Publish(event("h1", api.EventNote, api.PhaseHold, "something happened", 0))
				case <-stop:
					return
				}
			}
		}()
		code, out, _ := alice.run("watch", "orders", "--timeout", timeout)
		close(stop)
		<-done
		if code != exitOK || !strings.Contains(out, "something happened") {
			return false // it was over before the gateway was connected
		}
		contains(t, out, "-- orders is steady, master east at term 7", "12:00:00.000  orders        hold      gw-east-1     something happened")
		return true
	})
}

// Giving up succeeds with the fallback, and fails when it came too late.
func TestGiveUp(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	for outcome, code := range map[string]int{api.OutcomeFallback: exitOK, api.OutcomeForward: exitFailure} {
		id := "orders-" + outcome
		fake.Edit(func(s *apitest.State) {
			s.Handovers = append(s.Handovers, api.Handover{ID: id, Service: "orders", From: "east", To: "west", Outcome: api.OutcomeOpen, Started: apitest.Epoch})
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				given := false
				fake.Update(id, func(h *api.Handover) { given = h.GivenUp != "" })
				if given {
					end(fake, id, outcome, 9)
					return
				}
			}
		}()
		alice.expect(code, "cutover", "give-up", id, "--reason", "too slow")
		<-done
	}
	alice.expect(exitRefused, "cutover", "give-up", "orders-aaaaaaaaaaaa")
	alice.expect(exitFailure, "cutover", "give-up", "nothing")
}

// Adopting is followed like a switch; a service that is managed is a conflict.
func TestAdopt(t *testing.T) {
	fake := world()
	alice := newPerson(t, apitest.Start(t, 1, fake))
	out, _ := alice.expect(exitOK, "service", "adopt", "carts", "--data-center", "east", "--wait=false")
	contains(t, out, "signalbox watch --handover carts-")
	alice.expect(exitConflict, "service", "adopt", "orders", "--data-center", "east")
}
