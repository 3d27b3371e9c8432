package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/xds/control"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// floor is the least that a hold and a release cost: one xDS server in this process, without TLS, that points routes at
// the next term, waits until all Envoys have taken them, and releases. The new side is promoted beforehand and nobody is
// asked to step down, so both data centers would serve what reached them: the floor is fast and proves nothing.
//
// With obey the instances are stepped down and promoted in between, by their HTTP contract: the least that any switch
// costs that lets requests finish and has one master.
type floor struct {
	*bare
	obey   bool
	server *control.Server
	grpc   *grpc.Server
	acks   *acks
	state  resource.Service
}

// acks are the terms of the routes that the Envoys have.
type acks struct {
	mu     sync.Mutex
	routes map[string]uint64
	wake   chan struct{}
}

// startFloor starts a floor on loopback.
func startFloor(ctx context.Context, o options, of config) (*floor, error) {
	return startFloorAt(ctx, "127.0.0.1", demo.Options{Binaries: o.binaries, Envoys: of.envoys / 2})
}

// startFloorAt starts a floor whose Envoys reach the server at an address of this process.
func startFloorAt(ctx context.Context, host string, site demo.Options) (*floor, error) {
	a := &acks{routes: map[string]uint64{}, wake: make(chan struct{}, 1)}
	server, err := control.New(control.Options{Authorize: control.AllowAll, OnEvent: a.event, Logger: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	f := &floor{bare: &bare{}, acks: a, server: server, grpc: grpc.NewServer(control.GRPCOptions(control.Limits{})...)}
	server.Register(f.grpc)
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	go func() { _ = f.grpc.Serve(listener) }() // it ends with close
	f.state = resource.Service{Name: demo.Service, Protocol: resource.HTTP, OldestTerm: 1, HoldTimeout: time.Minute}
	if err := server.Set(f.state); err != nil {
		return nil, errors.Join(err, f.close())
	}
	site.Bare = listener.Addr().String()
	if f.site, err = demo.Start(ctx, site); err != nil {
		return nil, errors.Join(err, f.close())
	}
	if _, err := f.cut(ctx, demo.East); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// stepwise is the same floor with obey.
func (f *floor) stepwise() *floor {
	other := *f
	other.obey = true
	return &other
}

func (a *acks) event(e control.Event) {
	ack, ok := e.(control.RouteAcknowledged)
	if !ok {
		return
	}
	a.mu.Lock()
	a.routes[ack.Proxy] = ack.Term
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// await returns when n Envoys have the route of term.
func (a *acks) await(ctx context.Context, n int, term uint64) error {
	for {
		a.mu.Lock()
		have := 0
		for _, at := range a.routes {
			if at == term {
				have++
			}
		}
		a.mu.Unlock()
		if have == n {
			return nil
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d Envoys have the route of term %d: %w", have, n, term, ctx.Err())
		}
	}
}

func (f *floor) cut(ctx context.Context, to string) (cutover, error) {
	term := f.term + 1
	c := cutover{id: strconv.FormatUint(term, 10), term: term, phases: map[string]float64{}}
	endpoints, err := f.endpoints(to)
	if err != nil {
		return c, err
	}
	if !f.obey {
		if err := f.promote(ctx, to, term); err != nil {
			return c, err
		}
	}
	state := resource.Service{
		Name: f.state.Name, Protocol: f.state.Protocol, OldestTerm: 1, HoldTimeout: f.state.HoldTimeout,
		RouteTerm: term, CertifiedTerm: term - 1,
	}
	if state.Endpoints, err = f.endpoints(other(to)); err != nil {
		return c, err
	}
	c.begin = load.Now()
	last := c.begin
	lap := func(phase string) {
		now := load.Now()
		c.phases[phase], last = float64(now-last)/1e6, now
	}
	if err := f.server.Set(state); err != nil {
		return c, err
	}
	if err := f.acks.await(ctx, len(f.site.Envoys()), term); err != nil {
		return c, err
	}
	lap("hold")
	if f.obey {
		if err := f.order(ctx, other(to), "step-down", term-1); err != nil {
			return c, err
		}
		lap("drain")
		if err := f.promote(ctx, to, term); err != nil {
			return c, err
		}
		lap("promote")
	}
	state.CertifiedTerm, state.Endpoints = term, endpoints
	if err := f.server.Set(state); err != nil {
		return c, err
	}
	lap("release")
	c.end = last
	return c, nil
}

func (f *floor) load(rate int, change ...func(*load.Config)) (*demo.Load, error) {
	return f.site.Load(rate, change...)
}

func (f *floor) close() error {
	var err error
	if f.site != nil {
		err = f.site.Close()
	}
	f.grpc.Stop()
	f.server.Close()
	return err
}
