package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// Await asks again and again until ready says nil. When ctx ends it returns what ready said last.
func Await(ctx context.Context, what string, ready func(context.Context) error) error {
	pace := time.NewTicker(askEvery)
	defer pace.Stop()
	var last error
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		// What the end of ctx itself caused says nothing of what was missing.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), last)
		}
	}
}

// Client speaks to the site's gateways with a bundle's identity.
func (s *Site) Client(bundle string) (*client.Client, error) {
	var addresses []string
	for _, g := range s.gateways {
		addresses = append(addresses, g.API)
	}
	return dial(bundle, addresses...)
}

// ClientOf speaks to one gateway only, as the site's operator; nil when there is none of that name.
func (s *Site) ClientOf(gateway string) *client.Client { return s.clients[gateway] }

func dial(bundle string, gateways ...string) (*client.Client, error) {
	b, err := identity.Load(bundle)
	if err != nil {
		return nil, err
	}
	keeper, err := rpc.NewKeeper(b.Self.Cluster, b.Files())
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{Gateways: gateways, TLS: keeper.Client(rpc.RoleGateway)})
}

// OperatorBundle is the bundle of the site's operator, for SIGNALBOX_BUNDLE.
func (s *Site) OperatorBundle() string { return s.Bundle(rpc.RoleOperator, "", operatorName) }

// API is the client with the operator's identity.
func (s *Site) API() *client.Client { return s.client }

// awaitStarted waits until everybody is there. A process that keeps dying is named with the end of its log.
func (s *Site) awaitStarted(ctx context.Context) error {
	instances := s.instancesKnown
	if s.opts.Bare != "" {
		instances = s.instancesListen
	}
	for _, step := range []struct {
		what  string
		ready func(context.Context) error
	}{
		{"the gateways", s.gatewaysReady}, {"the instances", instances}, {"the Envoys", s.envoysReady},
	} {
		s.opts.Notice("waiting for " + step.what)
		if err := s.await(ctx, step.what, step.ready); err != nil {
			return err
		}
	}
	return nil
}

// await is Await, but ends early when a process keeps dying.
func (s *Site) await(ctx context.Context, what string, ready func(context.Context) error) error {
	const tooOften = 4
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := Await(ctx, what, func(ctx context.Context) error {
		for _, name := range s.Processes() {
			p, _ := s.process(name) // it is one of Processes
			if starts, running, last := p.state(); starts >= tooOften && !running {
				cancel(fmt.Errorf("%s was started %d times; last: %s; its log ends:\n%s", name, starts, last, p.tail()))
			}
		}
		return ready(ctx)
	})
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return err
}

func (s *Site) gatewaysReady(ctx context.Context) error {
	for _, g := range s.gateways {
		if err := s.GatewayReady(ctx, g.Name); err != nil {
			return err
		}
	}
	return nil
}

// GatewayReady returns nil when the gateway says that it is ready.
func (s *Site) GatewayReady(ctx context.Context, name string) error {
	c := s.ClientOf(name)
	if c == nil {
		return fmt.Errorf("no gateway %q in this site", name)
	}
	h, err := c.Health(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Ready {
		return nil
	}
	var missing []string
	for _, check := range h.Checks {
		if !check.OK {
			missing = append(missing, check.Name+": "+check.Detail)
		}
	}
	return fmt.Errorf("%s is not ready: %s", name, strings.Join(missing, "; "))
}

// instancesKnown: every gateway's service has heard from all instances, and they are ready.
func (s *Site) instancesKnown(ctx context.Context) error {
	list, err := s.client.Instances(ctx, Service)
	if err != nil {
		return err
	}
	ready := map[string]api.Instance{}
	for _, in := range list {
		if !ready[in.Name].Ready { // who lost its state is listed by its old key, too
			ready[in.Name] = in
		}
	}
	for _, in := range s.instances {
		switch known, ok := ready[in.Name]; {
		case !ok:
			return fmt.Errorf("%s: the gateways do not know it yet", in.Name)
		case !known.Ready:
			return fmt.Errorf("%s is %s and not ready: %s", in.Name, known.State, known.Problem)
		}
	}
	return nil
}

// instancesListen: all instances accept orders of the driver contract.
func (s *Site) instancesListen(ctx context.Context) error {
	for _, in := range s.instances {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", in.Control)
		if err != nil {
			return fmt.Errorf("%s: %w", in.Name, err)
		}
		_ = c.Close() // it was only asked whether somebody listens
	}
	return nil
}

func (s *Site) envoysReady(ctx context.Context) error {
	for _, e := range s.envoys {
		if err := s.EnvoyReady(ctx, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// EnvoyReady returns nil when the Envoy's own administration interface says that it serves.
func (s *Site) EnvoyReady(ctx context.Context, name string) error {
	for _, e := range s.envoys {
		if e.Name != name {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Admin+"/ready", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 256)) // only for the message
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s says %s", name, strings.TrimSpace(string(text)))
		}
		return nil
	}
	return fmt.Errorf("no Envoy %q in this site", name)
}
