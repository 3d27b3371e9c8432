// Package apitest runs the API over a scripted gateway: for tests of the API
// and of what speaks to it. It guarantees real TLS, real bundles and the real
// handler; behind them nothing moves but what a test says.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// Epoch is the time at which every scripted handover starts.
var Epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A Fake is what the gateways of one cluster know, shared by all of them as the
// log would be. The zero value has nothing. Safe for concurrent use.
type Fake struct {
	mu        sync.Mutex
	services  []api.Service
	instances []api.Instance
	proxies   []api.Proxy
	handovers []api.Handover // oldest first
	plan      api.Plan
	orders    []api.Order
	fail      error
	backup    []byte
	backupErr error
	onSwitch  func(api.Order)
	publish   []*api.Events
	people    People
}

// Edit changes what the gateways know, under the lock.
func (f *Fake) Edit(change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{f.services, f.instances, f.proxies, f.handovers, f.plan, f.fail, f.backup, f.backupErr, f.onSwitch}
	change(&s)
	f.services, f.instances, f.proxies, f.handovers, f.plan = s.Services, s.Instances, s.Proxies, s.Handovers, s.Plan
	f.fail, f.backup, f.backupErr, f.onSwitch = s.Fail, s.Backup, s.BackupErr, s.OnSwitch
}

// State is what a Fake knows. Fail is returned by every order; BackupErr after
// Backup was written. OnSwitch runs when a handover began, before the answer.
type State struct {
	Services  []api.Service
	Instances []api.Instance
	Proxies   []api.Proxy
	Handovers []api.Handover
	Plan      api.Plan
	Fail      error
	Backup    []byte
	BackupErr error
	OnSwitch  func(api.Order)
}

// Orders returns every order that began a handover.
func (f *Fake) Orders() []api.Order {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.orders)
}

// Publish sends an event from every gateway.
func (f *Fake) Publish(e api.Event) {
	if e.At.IsZero() {
		e.At = Epoch
	}
	for _, events := range f.publish {
		events.Publish(e)
	}
}

// Update changes a handover's record.
func (f *Fake) Update(id string, change func(*api.Handover)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.handovers {
		if f.handovers[i].ID == id {
			change(&f.handovers[i])
		}
	}
}

// Services implements api.Viewer.
func (f *Fake) Services(context.Context) ([]api.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.services), nil
}

// Instances implements api.Viewer.
func (f *Fake) Instances(_ context.Context, service string) ([]api.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if service == "" {
		return slices.Clone(f.instances), nil
	}
	if f.service(service) == nil {
		return nil, fmt.Errorf("list instances: %w: service %q is not configured here", signalbox.ErrUnknown, service)
	}
	var out []api.Instance
	for _, i := range f.instances {
		if i.Service == service {
			out = append(out, i)
		}
	}
	return out, nil
}

// Proxies implements api.Viewer.
func (f *Fake) Proxies(context.Context) ([]api.Proxy, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.proxies), nil
}

// Health implements api.Viewer: ready unless orders fail.
func (f *Fake) Health(context.Context) api.Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Health{Ready: f.fail == nil, Cluster: "demo", Gateway: "gw-east-1", DataCenter: "east", Version: "test", LogIndex: uint64(len(f.handovers))}
}

// Handovers implements api.Historian.
func (f *Fake) Handovers(_ context.Context, page api.Page) ([]api.Handover, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Handover
	seen := page.Before == ""
	for _, h := range slices.Backward(f.handovers) {
		if seen && (page.Service == "" || h.Service == page.Service) && len(out) < page.Limit {
			out = append(out, h)
		}
		seen = seen || h.ID == page.Before
	}
	return out, nil
}

// Handover implements api.Historian.
func (f *Fake) Handover(_ context.Context, id string) (api.Handover, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.handover(id); h != nil {
		return *h, nil
	}
	return api.Handover{}, fmt.Errorf("read record: %w: handover %q", signalbox.ErrUnknown, id)
}

// Plan implements api.Conductor.
func (f *Fake) Plan(_ context.Context, o api.Order) (api.Plan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(o); err != nil {
		return api.Plan{}, err
	}
	p := f.plan
	p.Service, p.To = o.Service, o.To
	return p, nil
}

// Switch implements api.Conductor.
func (f *Fake) Switch(_ context.Context, o api.Order) (api.Handover, error) {
	before := len(f.Orders())
	h, err := f.begin(o)
	f.mu.Lock()
	hook := f.onSwitch
	f.mu.Unlock()
	if err == nil && hook != nil && len(f.Orders()) > before {
		hook(o)
	}
	return h, err
}

// Adopt implements api.Conductor.
func (f *Fake) Adopt(_ context.Context, o api.Order) (api.Handover, error) {
	f.mu.Lock()
	s := f.service(o.Service)
	adopted := s != nil && s.Term > 0 && f.handover(o.ID) == nil
	f.mu.Unlock()
	if adopted {
		return api.Handover{}, fmt.Errorf("adopt %s: %w: it is at term %d already", o.Service, signalbox.ErrConflict, s.Term)
	}
	return f.begin(o)
}

// GiveUp implements api.Conductor.
func (f *Fake) GiveUp(_ context.Context, id, by, reason string) (api.Handover, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.handover(id)
	switch {
	case h == nil:
		return api.Handover{}, fmt.Errorf("give up: %w: handover %q", signalbox.ErrUnknown, id)
	case h.Done():
		return api.Handover{}, fmt.Errorf("give up %s: %w: it is over (%s)", id, signalbox.ErrRefused, h.Outcome)
	}
	h.State, h.GivenUp = api.StateGivingUp, fmt.Sprintf("%s: %s", by, reason)
	return *h, nil
}

// Backup implements api.Archivist.
func (f *Fake) Backup(_ context.Context, w io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.backup) > 0 {
		if _, err := w.Write(f.backup); err != nil {
			return err
		}
	}
	return f.backupErr
}

func (f *Fake) begin(o api.Order) (api.Handover, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.handover(o.ID); h != nil {
		return *h, nil
	}
	if err := f.check(o); err != nil {
		return api.Handover{}, err
	}
	if err := f.wait(o); err != nil {
		return api.Handover{}, err
	}
	s := f.service(o.Service)
	if s.Handover != "" {
		return api.Handover{}, &api.Fault{
			Err:      fmt.Errorf("switch %s: %w: handover %s is open", o.Service, signalbox.ErrConflict, s.Handover),
			Handover: s.Handover,
		}
	}
	h := api.Handover{
		ID: o.ID, Service: o.Service, From: s.Master, To: o.To, Term: s.Term + 1, FallbackTerm: s.Term + 2,
		Outcome: api.OutcomeOpen, State: api.StatePreparing, By: o.By, Reason: o.Reason, Allowed: "ack+leave",
		HoldBudgetMS: 5000, AllowLateProxies: o.AllowLateProxies, Started: Epoch,
	}
	s.Handover = o.ID
	f.handovers, f.orders = append(f.handovers, h), append(f.orders, o)
	return h, nil
}

func (f *Fake) check(o api.Order) error {
	if f.fail != nil {
		return f.fail
	}
	s := f.service(o.Service)
	if s == nil {
		return fmt.Errorf("switch: %w: service %q is not configured here", signalbox.ErrUnknown, o.Service)
	}
	if current := fmt.Sprintf("%s@%d", s.Master, s.Term); o.Expect != "" && o.Expect != current {
		return &api.Fault{Err: fmt.Errorf("switch %s: %w: %s is expected and %s is certified", o.Service, signalbox.ErrExpectation, o.Expect, current), Current: current}
	}
	return nil
}

func (f *Fake) service(name string) *api.Service {
	for i := range f.services {
		if f.services[i].Name == name {
			return &f.services[i]
		}
	}
	return nil
}

func (f *Fake) handover(id string) *api.Handover {
	for i := range f.handovers {
		if f.handovers[i].ID == id {
			return &f.handovers[i]
		}
	}
	return nil
}

// ErrBackup is a backup that breaks off.
var ErrBackup = errors.New("disk is gone")
