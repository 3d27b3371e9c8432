package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// A slow request is in flight at an instance until the test lets it go on: its body does not end before.
type slow struct {
	end    context.CancelFunc
	answer chan error
}

// slowly posts an order through an Envoy of the data center, and returns when it is in flight at an instance, where it
// stays until it is let go.
func (f *fixture) slowly(t *testing.T, dc, id string) *slow {
	t.Helper()
	var via demo.Envoy
	for _, e := range f.Envoys() {
		if e.DataCenter == dc {
			via = e
		}
	}
	// Agents tell how much is in flight once in a while.
	eventually(t, "nothing in flight in "+dc, func(context.Context) error {
		if n := f.inFlight(t, dc); n > 0 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
	body, rest := io.Pipe()
	let, end := context.WithCancel(t.Context())
	s := &slow{end: end, answer: make(chan error, 1)}
	go func() {
		_, _ = io.WriteString(rest, "{") // the request's own error says what went wrong
		<-let.Done()
		_, _ = fmt.Fprintf(rest, `"id":%q}`, id)
		_ = rest.Close()
	}()
	go func() { s.answer <- post("http://"+via.Listener+"/orders", body) }()
	t.Cleanup(func() { end(); _ = body.Close() })
	eventually(t, "the slow request to be in flight", func(context.Context) error {
		if f.inFlight(t, dc) == 0 {
			return errors.New("none")
		}
		return nil
	})
	return s
}

// letGo has the request end, and wants it answered as if nothing had been.
func (s *slow) letGo(t *testing.T) {
	t.Helper()
	s.end()
	select {
	case err := <-s.answer:
		if err != nil {
			t.Errorf("the request that hung: %v", err)
		}
	case <-within(t).Done():
		t.Error("the request that hung is not answered")
	}
}

func post(url string, body io.Reader) error {
	response, err := http.Post(url, "application/json", body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body) // for the message only
	if response.StatusCode != http.StatusCreated {
		return fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	return nil
}

func (f *fixture) inFlight(t *testing.T, dc string) (n uint64) {
	t.Helper()
	for _, s := range f.service(t).DataCenters {
		if s.DataCenter == dc {
			n = s.InFlight
		}
	}
	return n
}

// reached waits until an open handover is in one of these states.
func (f *fixture) reached(t *testing.T, id string, states ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("handover %s to be %v", id, states), func(ctx context.Context) error {
		h, err := f.API().Handover(ctx, id)
		if err == nil && !slices.Contains(states, h.State) {
			err = fmt.Errorf("it is %s (%s)", h.State, h.Outcome)
		}
		return err
	})
}

// Rule: an old instance that hangs in its drain is not waited for beyond the hold budget: the old master goes on while it
// hangs, and no request fails, neither the one that hangs nor those that were parked.
func testHangingDrain(t *testing.T, f *fixture) {
	for _, dc := range demo.DataCenters() { // the library parks stragglers, HTTP instances answer 503
		f.toMaster(t, dc)
		_, to := f.master(t)
		hangs := f.slowly(t, dc, "hangs-"+dc)
		l := f.load(t)
		h := f.order(t, api.SwitchRequest{Service: demo.Service, To: to, HoldBudgetMS: 1000})
		h, err := f.Follow(within(t), h.ID)
		must(t, err)
		if h.Outcome != api.OutcomeFallback || h.CertifiedTerm != h.FallbackTerm {
			t.Errorf("outcome %s at term %d, want the fallback %d\n%s", h.Outcome, h.CertifiedTerm, h.FallbackTerm, timeline(&h))
		}
		if h.HoldMS == nil || *h.HoldMS < 1000 {
			t.Errorf("held %v ms with a budget of 1 s", h.HoldMS)
		}
		hangs.letGo(t)
		f.steady(t, dc)
		unharmed(t, l)
	}
}

// Rule: a connected proxy that does not acknowledge the hold within 1 s makes the handover be given up before anyone
// steps down; it is named.
func testLateProxy(t *testing.T, f *fixture) {
	f.toMaster(t, demo.East)
	late := f.Envoys()[len(f.Envoys())-1]
	l := f.load(t)
	must(t, f.Stop(late.Name))
	h, err := f.Order(within(t), api.SwitchRequest{Service: demo.Service, To: demo.West})
	if err == nil {
		h, err = f.Follow(within(t), h.ID)
	}
	if cont := f.Continue(late.Name); cont != nil {
		t.Error(cont)
	}
	must(t, err)
	if h.Outcome != api.OutcomeFallback || !slices.ContainsFunc(h.LateProxies, func(id string) bool { return strings.Contains(id, late.Name) }) {
		t.Errorf("outcome %s, late %v\n%s", h.Outcome, h.LateProxies, timeline(&h))
	}
	for _, a := range h.Acks {
		if a.DrainedMS != nil || a.Evidence == "ack" {
			t.Errorf("%s stepped down: %+v", a.Instance, a)
		}
	}
	f.steady(t, demo.East)
	unharmed(t, l)
}

// Rule: the hold survives the death of every gateway in its middle; the handover ends by itself under its id.
func testAllGatewaysKilled(t *testing.T, f *fixture) {
	f.toMaster(t, demo.West)
	hangs := f.slowly(t, demo.West, "long-drain")
	l := f.load(t)
	h := f.order(t, api.SwitchRequest{Service: demo.Service, To: demo.East, HoldBudgetMS: unhurried.Milliseconds()})
	f.reached(t, h.ID, api.StateDraining)
	for _, g := range f.Gateways() {
		must(t, f.Kill(g.Name))
	}
	hangs.letGo(t)
	h, err := f.Follow(within(t), h.ID)
	must(t, err)
	if h.Outcome != api.OutcomeForward && h.Outcome != api.OutcomeFallback {
		t.Errorf("outcome %s\n%s", h.Outcome, timeline(&h))
	}
	t.Logf("ended as %s\n%s", h.Outcome, timeline(&h))
	f.steady(t, f.service(t).Master)
	unharmed(t, l)
}

// Rule: an old instance that dies for good between drained and ack cannot be answered for: a superseding handover back
// starts, and the old data center serves again without it.
func testDeadBetweenDrainedAndAck(t *testing.T, f *fixture) {
	f.toMaster(t, demo.West)
	hangs := f.slowly(t, demo.West, "elsewhere")
	victim := f.idle(t, demo.West)
	l := f.load(t)
	h := f.order(t, api.SwitchRequest{Service: demo.Service, To: demo.East, HoldBudgetMS: unhurried.Milliseconds()})
	eventually(t, victim.Name+" to have drained", func(ctx context.Context) error {
		now, err := f.API().Handover(ctx, h.ID)
		if err != nil {
			return err
		}
		for _, a := range now.Acks {
			if a.Instance == victim.Name && a.DrainedMS != nil {
				return nil
			}
		}
		return fmt.Errorf("%s: %+v", now.State, now.Acks)
	})
	// Its agent sleeps when the order to ack comes, and never wakes up.
	must(t, f.Stop(victim.Agent))
	hangs.letGo(t)
	f.reached(t, h.ID, api.StateSealing, api.StateGivingUp, "settled", api.StateSuperseded)
	must(t, f.Down(victim.Agent, syscall.SIGKILL))
	must(t, f.Down(victim.Name, syscall.SIGKILL))
	h, err := f.Follow(within(t), h.ID)
	must(t, err)
	if h.Outcome != api.OutcomeSuperseded || h.SupersededBy == "" {
		t.Fatalf("outcome %s\n%s", h.Outcome, timeline(&h))
	}
	back, err := f.Follow(within(t), h.SupersededBy)
	forward(t, back, err)
	if back.To != demo.West || back.HoldMS == nil {
		t.Errorf("the way back goes to %s, held %v", back.To, back.HoldMS)
	}
	unharmed(t, l)
	must(t, f.Up(victim.Name))
	must(t, f.Up(victim.Agent))
	f.steady(t, demo.West)
}

// idle is an instance of the data center with nothing in flight and an agent beside it.
func (f *fixture) idle(t *testing.T, dc string) demo.Instance {
	t.Helper()
	list, err := f.API().Instances(within(t), demo.Service)
	must(t, err)
	for _, in := range f.Instances() {
		if in.DataCenter != dc || in.Agent == "" {
			continue
		}
		if slices.ContainsFunc(list, func(v api.Instance) bool { return v.Name == in.Name && v.InFlight == 0 }) {
			return in
		}
	}
	t.Fatalf("no instance in %s is idle: %+v", dc, list)
	return demo.Instance{}
}
