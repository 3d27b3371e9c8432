package apitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
)

// People is what a Fake knows of what people said, and looked at.
type People struct {
	Rules      map[string]api.ServiceRules
	Waiting    []api.WaitingOrder // orders that wait for approval
	Readiness  api.Readiness
	Evacuation api.Evacuation
	Homes      map[string]string
	// NeedApproval makes every switch wait for that many other people.
	NeedApproval int
}

// EditPeople changes what the gateways know of it, under the lock.
func (f *Fake) EditPeople(change func(*People)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.people)
}

// Rules implements api.Governor.
func (f *Fake) Rules(_ context.Context, service string) (api.ServiceRules, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules(service)
}

func (f *Fake) rules(service string) (api.ServiceRules, error) {
	if f.service(service) == nil {
		return api.ServiceRules{}, fmt.Errorf("show rules: %w: service %q is not configured here", signalbox.ErrUnknown, service)
	}
	r := f.people.Rules[service]
	r.Service = service
	for _, w := range f.people.Waiting {
		if w.Service == service {
			r.Waiting = append(r.Waiting, w)
		}
	}
	return r, nil
}

// Pause implements api.Governor.
func (f *Fake) Pause(_ context.Context, service string, until time.Time, word api.Word) (api.ServiceRules, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.rules(service)
	if err != nil {
		return r, err
	}
	r.Waiting = nil
	switch {
	case until.IsZero() && r.Pause == nil:
		return r, fmt.Errorf("resume %s: %w: it is not paused", service, signalbox.ErrConflict)
	case until.IsZero():
		r.Pause = nil
	default:
		r.Pause = &api.Pause{Until: until, Since: Epoch, By: word.By, Reason: word.Reason}
	}
	if f.people.Rules == nil {
		f.people.Rules = map[string]api.ServiceRules{}
	}
	f.people.Rules[service] = r
	return f.rules(service)
}

// wait has an order wait for approval where the fake is told so.
func (f *Fake) wait(o api.Order) error {
	if f.people.NeedApproval == 0 || o.BreakGlass != "" {
		return nil
	}
	i := slices.IndexFunc(f.people.Waiting, func(w api.WaitingOrder) bool { return w.ID == o.ID })
	if i < 0 {
		s := f.service(o.Service)
		f.people.Waiting = append(f.people.Waiting, api.WaitingOrder{
			ID: o.ID, Service: o.Service, From: s.Master, To: o.To, By: o.By, Reason: o.Reason, Asked: Epoch, Until: Epoch.Add(time.Hour), Needed: f.people.NeedApproval, Mandate: o.Mandate,
		})
		i = len(f.people.Waiting) - 1
		if len(o.Mandate) > 0 {
			f.people.Waiting[i].Asked = time.Now() // its certificate is of today
			s.Approvals = append(s.Approvals, o.ID)
		}
	}
	if len(f.people.Waiting[i].Approved) >= f.people.NeedApproval {
		f.people.Waiting = slices.Delete(f.people.Waiting, i, i+1)
		return nil
	}
	return &api.Fault{
		Err: fmt.Errorf("%w approvals: other people have to approve", signalbox.ErrRefused), Code: api.CodeApproval, Handover: o.ID,
		Do: "another operator: signalbox cutover approve " + o.ID,
	}
}

// Approve implements api.Governor.
func (f *Fake) Approve(_ context.Context, id string, word api.Word) (out api.ApproveReply, err error) {
	f.mu.Lock()
	i := slices.IndexFunc(f.people.Waiting, func(w api.WaitingOrder) bool { return w.ID == id })
	if i < 0 {
		f.mu.Unlock()
		return out, fmt.Errorf("%w: no order %q waits for approval", signalbox.ErrUnknown, id)
	}
	w := &f.people.Waiting[i]
	if w.By == word.By {
		f.mu.Unlock()
		return out, fmt.Errorf("%w: %s asked for it, so somebody else has to approve it", signalbox.ErrRefused, word.By)
	}
	w.Approved = append(w.Approved, api.Approved{By: word.By, Reason: word.Reason, At: Epoch})
	out.Order = *w
	whole := len(w.Approved) >= w.Needed
	f.mu.Unlock()
	if !whole {
		return out, nil
	}
	h, err := f.begin(api.Order{ID: id, Service: out.Order.Service, To: out.Order.To, By: out.Order.By, Reason: out.Order.Reason})
	out.Handover = &h
	return out, err
}

// Revert implements api.Governor.
func (f *Fake) Revert(ctx context.Context, id string, o api.Order) (api.RevertReply, error) {
	h, err := f.Handover(ctx, id)
	if err != nil {
		return api.RevertReply{}, err
	}
	if !h.Done() {
		h, err = f.GiveUp(ctx, id, o.By, o.Reason)
		return api.RevertReply{How: api.RevertGivenUp, Handover: h}, err
	}
	o.Service, o.To = h.Service, h.From
	h, err = f.begin(o)
	return api.RevertReply{How: api.RevertSwitched, Handover: h}, err
}

// Readiness implements api.Surveyor.
func (f *Fake) Readiness(context.Context, string) (api.Readiness, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.people.Readiness, nil
}

// Evacuation implements api.Surveyor.
func (f *Fake) Evacuation(_ context.Context, dc, _ string) (api.Evacuation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.people.Evacuation
	e.DataCenter, e.Legs = dc, slices.Clone(e.Legs)
	return e, nil
}

// Home implements api.Surveyor.
func (f *Fake) Home(_ context.Context, service string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	home := f.people.Homes[service]
	if home == "" {
		return "", fmt.Errorf("%w: %s never moved since it was adopted", signalbox.ErrRefused, service)
	}
	return home, nil
}
