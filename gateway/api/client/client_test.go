package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/apitest"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
)

func start(t *testing.T, gateways int) (*apitest.Cluster, *apitest.Fake, *client.Client) {
	t.Helper()
	fake := &apitest.Fake{}
	fake.Edit(func(s *apitest.State) {
		s.Services = []api.Service{{Name: "orders", State: api.StateSteady, Master: "east", Term: 7}}
	})
	c := apitest.Start(t, gateways, fake)
	var addresses []string
	for _, g := range c.Gateways {
		addresses = append(addresses, g.Address)
	}
	asker, err := client.New(client.Options{
		Gateways: addresses, TLS: c.Keeper(t, c.Bundle(t, rpc.RoleOperator, "alice")).Client(rpc.RoleGateway),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asker.Close)
	return c, fake, asker
}

var west = api.SwitchRequest{Service: "orders", To: "west"}

// A gateway that is down costs nothing: the next one is asked.
func TestNextGatewayIsAsked(t *testing.T) {
	c, _, asker := start(t, 2)
	c.Gateways[0].Stop()
	services, err := asker.Services(t.Context())
	if err != nil || len(services) != 1 {
		t.Fatalf("%v, %v", services, err)
	}
	c.Gateways[1].Stop()
	_, err = asker.Services(t.Context())
	if err == nil || !strings.Contains(err.Error(), c.Gateways[0].Address) || !strings.Contains(err.Error(), "--gateway") || errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := asker.Switch(t.Context(), client.NewKey(), west); err == nil || errors.Is(err, signalbox.ErrUnavailable) {
		t.Errorf("an order that nobody got counts as uncertain: %v", err)
	}
}

// The gateway dies after the order was decided and before it answered: the
// repeated order finds the same handover, and one was started.
func TestSwitchSurvivesTheGatewaysDeath(t *testing.T) {
	c, fake, asker := start(t, 2)
	fake.Edit(func(s *apitest.State) { s.OnSwitch = func(api.Order) { c.Gateways[0].Stop() } })
	h, err := asker.Switch(t.Context(), client.NewKey(), west)
	if err != nil {
		t.Fatal(err)
	}
	if orders := fake.Orders(); len(orders) != 1 || orders[0].ID != h.ID {
		t.Errorf("handover %s, orders %+v", h.ID, orders)
	}
}

// When no gateway is left after the order was sent, the error says that it may
// have arrived.
func TestUncertainOrderSaysSo(t *testing.T) {
	c, fake, asker := start(t, 1)
	fake.Edit(func(s *apitest.State) { s.OnSwitch = func(api.Order) { c.Gateways[0].Stop() } })
	_, err := asker.Switch(t.Context(), client.NewKey(), west)
	if !errors.Is(err, signalbox.ErrUnavailable) || !strings.Contains(err.Error(), "may have arrived") {
		t.Errorf("%v", err)
	}
}

// A gateway that cannot decide sends the order to the next one; what none can
// decide comes out as the gateway's own answer.
func TestUndecidedOrderGoesElsewhere(t *testing.T) {
	_, fake, asker := start(t, 2)
	fake.Edit(func(s *apitest.State) {
		s.Fail = &api.Fault{Err: fmt.Errorf("switch: %w: 1 of 3 voters answers", signalbox.ErrUnavailable), Do: "this"}
	})
	_, err := asker.Switch(t.Context(), "k1", west)
	var p *api.Problem
	if !errors.As(err, &p) || p.Do != "this" || client.Left(asker) != 2 {
		t.Errorf("left %d gateways: %v", client.Left(asker), err)
	}
}

// A refusal keeps its kind and its advice, and no other gateway is bothered.
func TestProblemIsAnError(t *testing.T) {
	_, fake, asker := start(t, 2)
	defer func() {
		if n := client.Left(asker); n != 0 {
			t.Errorf("%d gateways were left after a refusal", n)
		}
	}()
	if _, err := asker.Switch(t.Context(), "k1", west); err != nil {
		t.Fatal(err)
	}
	_, err := asker.Switch(t.Context(), "k2", west)
	var p *api.Problem
	if !errors.Is(err, signalbox.ErrConflict) || !errors.As(err, &p) || p.Handover != fake.Orders()[0].ID || p.Do == "" {
		t.Errorf("%v", err)
	}
	if _, err := asker.Service(t.Context(), "carts"); !errors.Is(err, signalbox.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

// All pages of the history come in one list.
func TestHandoversReadsAllPages(t *testing.T) {
	_, fake, asker := start(t, 1)
	fake.Edit(func(s *apitest.State) {
		for i := range api.MaxPage + 5 {
			s.Handovers = append(s.Handovers, api.Handover{ID: fmt.Sprint(i), Service: "orders"})
		}
	})
	list, err := asker.Handovers(t.Context(), "orders", 1000)
	if err != nil || len(list) != api.MaxPage+5 {
		t.Errorf("%d, %v", len(list), err)
	}
	if list, _ = asker.Handovers(t.Context(), "", 3); len(list) != 3 {
		t.Errorf("%d for a limit of 3", len(list))
	}
}

// Half a backup is an error.
func TestBackupThatBreaksOff(t *testing.T) {
	_, fake, asker := start(t, 1)
	fake.Edit(func(s *apitest.State) { s.Backup, s.BackupErr = bytes.Repeat([]byte("x"), 1<<20), apitest.ErrBackup })
	if _, err := asker.Backup(t.Context(), &bytes.Buffer{}); err == nil {
		t.Error("half a journal was taken for a whole one")
	}
}

// Addresses are checked before anybody is asked.
func TestBadAddress(t *testing.T) {
	for _, list := range [][]string{nil, {"east"}, {":7402"}, {"https://east:7402"}} {
		if _, err := client.New(client.Options{Gateways: list}); !errors.Is(err, signalbox.ErrInvalid) {
			t.Errorf("%v: %v", list, err)
		}
	}
}

// collect follows events in the background: what it gets, in order.
func collect(t *testing.T, asker *client.Client, f client.Filter) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan string, 256)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = asker.Follow(ctx, f, func(e api.Event) error {
			if e.Kind == api.EventReset {
				e.Detail = "reset"
			}
			lines <- e.Detail
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return lines
}

func expect(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case line := <-lines:
			got = append(got, line)
		case <-t.Context().Done():
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// Events come in order and filtered, after the reset that says the stream is
// open.
func TestFollow(t *testing.T) {
	_, fake, asker := start(t, 1)
	fake.Publish(api.Event{Kind: api.EventNote, Service: "orders", Detail: "before"})
	lines := collect(t, asker, client.Filter{Service: "orders"})
	expect(t, lines, "reset")
	for i := range 3 {
		fake.Publish(api.Event{Kind: api.EventNote, Service: "carts", Detail: "other"})
		fake.Publish(api.Event{Kind: api.EventNote, Service: "orders", Detail: fmt.Sprint(i)})
	}
	expect(t, lines, "0", "1", "2")
}

// The stream's connection breaks and the same gateway goes on: with
// Last-Event-ID nothing is lost and nothing comes twice.
func TestFollowResumes(t *testing.T) {
	c, fake, asker := start(t, 1)
	lines := collect(t, asker, client.Filter{})
	expect(t, lines, "reset")
	fake.Publish(api.Event{Kind: api.EventNote, Detail: "1"})
	expect(t, lines, "1")
	c.Gateways[0].Stop()
	fake.Publish(api.Event{Kind: api.EventNote, Detail: "2"})
	c.Gateways[0].Restart(t)
	fake.Publish(api.Event{Kind: api.EventNote, Detail: "3"})
	expect(t, lines, "2", "3")
}

// Another gateway does not know the first one's ids: the reader is told to
// look anew.
func TestFollowAtAnotherGatewayResets(t *testing.T) {
	c, fake, asker := start(t, 2)
	lines := collect(t, asker, client.Filter{})
	expect(t, lines, "reset")
	fake.Publish(api.Event{Kind: api.EventNote, Detail: "1"})
	expect(t, lines, "1")
	c.Gateways[0].Stop()
	expect(t, lines, "reset")
	fake.Publish(api.Event{Kind: api.EventNote, Detail: "2"})
	expect(t, lines, "2")
}

// A reader that was away for longer than the ring remembers is told so, and
// gets what is left.
func TestFollowAfterTooLong(t *testing.T) {
	c, fake, asker := start(t, 1)
	lines := collect(t, asker, client.Filter{})
	expect(t, lines, "reset")
	fake.Publish(api.Event{Kind: api.EventNote, Detail: "first"})
	expect(t, lines, "first")
	c.Gateways[0].Stop()
	for i := range 100 { // the ring holds 64
		fake.Publish(api.Event{Kind: api.EventNote, Detail: fmt.Sprint(i)})
	}
	c.Gateways[0].Restart(t)
	expect(t, lines, "reset", "36", "37")
}

// ErrStop ends following; so does any other error, which comes out.
func TestFollowEnds(t *testing.T) {
	_, _, asker := start(t, 1)
	if err := asker.Follow(t.Context(), client.Filter{}, func(api.Event) error { return client.ErrStop }); err != nil {
		t.Error(err)
	}
	mine := errors.New("mine")
	if err := asker.Follow(t.Context(), client.Filter{}, func(api.Event) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
}
