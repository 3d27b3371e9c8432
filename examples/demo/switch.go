package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// Adopt makes a data center the service's first master and waits until it serves everywhere.
func (s *Site) Adopt(ctx context.Context, service, dc string) error {
	// An instance says that it is ready a moment before its enrolment is in the log, and a gateway runs a moment before
	// its voter has asked all others.
	var refused error
	err := Await(ctx, service+" to be adoptable", func(ctx context.Context) error {
		_, err := s.client.Adopt(ctx, client.NewKey(), service, api.AdoptRequest{DataCenter: dc, Reason: "demo"})
		if errors.Is(err, signalbox.ErrNotReady) || errors.Is(err, signalbox.ErrUnavailable) {
			return err
		}
		refused = err
		return nil
	})
	if err := errors.Join(err, refused); err != nil {
		return err
	}
	s.mu.Lock()
	s.adopted = append(s.adopted, oracle.Certified{Service: service, Term: 1, DataCenter: dc})
	s.mu.Unlock()
	return Await(ctx, service+" to be served by "+dc, func(ctx context.Context) error { return s.Steady(ctx, service, dc) })
}

// Steady returns nil when every gateway says that dc is the service's master, no handover is open, all instances of dc
// serve, all proxies have the certified term, and the next switch would pass the readiness checks.
func (s *Site) Steady(ctx context.Context, service, dc string) error {
	for _, g := range s.gateways {
		v, err := s.clients[g.Name].Service(ctx, service)
		if err != nil {
			return err
		}
		if err := s.steady(&v, dc); err != nil {
			return fmt.Errorf("as %s sees it: %w", g.Name, err)
		}
	}
	return nil
}

func (s *Site) steady(v *api.Service, dc string) error {
	service := v.Name
	if v.State != api.StateSteady || v.Master != dc {
		return fmt.Errorf("%s is %s with master %q, waiting for %v", service, v.State, v.Master, v.Waiting)
	}
	for _, site := range v.DataCenters {
		if site.DataCenter == North {
			continue // nobody runs there
		}
		if site.Master && site.Serving < s.opts.Instances {
			return fmt.Errorf("%d of %d instances serve in %s", site.Serving, s.opts.Instances, site.DataCenter)
		}
		if !site.Master && !site.Target {
			return fmt.Errorf("a switch to %s is not possible: %v", site.DataCenter, site.Problems)
		}
		if site.Synced < s.opts.Envoys {
			return fmt.Errorf("%d of %d proxies have the term in %s", site.Synced, s.opts.Envoys, site.DataCenter)
		}
	}
	return nil
}

// Switch moves the example service to a data center and returns the whole record when it is over, whatever its outcome.
func (s *Site) Switch(ctx context.Context, to string) (api.Handover, error) {
	h, err := s.Order(ctx, api.SwitchRequest{Service: Service, To: to, Reason: "demo"})
	if err != nil {
		return h, err
	}
	return s.Follow(ctx, h.ID)
}

// Order is Begin as soon as the checks let it.
func (s *Site) Order(ctx context.Context, r api.SwitchRequest) (api.Handover, error) {
	return Order(ctx, s.client, r)
}

// Order orders a switch until it is taken or refused for good. On a busy machine somebody may not have been heard of just
// now, or no gateway may answer in time: the same order, under the same key, is then given again, and taken once.
// told hears once why.
func Order(ctx context.Context, c *client.Client, r api.SwitchRequest, told ...func(error)) (h api.Handover, err error) {
	key := client.NewKey()
	var refused error
	waited := Await(ctx, "a switch of "+r.Service+" to be possible", func(ctx context.Context) error {
		h, err = c.Switch(ctx, key, r)
		var p *api.Problem
		if errors.As(err, &p) && !errors.Is(err, signalbox.ErrNotReady) && !errors.Is(err, signalbox.ErrUnavailable) {
			refused = err
			return nil
		}
		for _, tell := range told {
			if err != nil {
				tell(err)
				told = nil
			}
		}
		return err
	})
	return h, errors.Join(refused, waited)
}

// Begin orders a switch and returns when it is agreed on.
func (s *Site) Begin(ctx context.Context, r api.SwitchRequest) (api.Handover, error) {
	return s.client.Switch(ctx, client.NewKey(), r)
}

// Follow waits until a handover is over and returns its record.
func (s *Site) Follow(ctx context.Context, id string) (h api.Handover, err error) {
	pace := time.NewTicker(seeEvery)
	defer pace.Stop()
	for {
		if h, err = s.client.Handover(ctx, id); err == nil && h.Done() {
			return h, nil
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return h, fmt.Errorf("follow handover %s (%s, waiting for %v): %w", id, h.State, h.Waiting, ctx.Err())
		}
	}
}
