package apitest

import (
	"context"
	"fmt"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc"
)

// FailoverPlan implements api.Rescuer.
func (f *Fake) FailoverPlan(ctx context.Context, o api.FailoverOrder) (api.FailoverPlan, error) {
	p, err := f.Plan(ctx, o.Order)
	p.FallbackTerm, p.Allowed = 0, "ack+leave+attest"
	out := api.FailoverPlan{Plan: p}
	for _, m := range p.Roster {
		out.Waits = append(out.Waits, api.EvidenceWait{
			Instance: m.Instance, DataCenter: m.DataCenter, Identity: m.Identity, Silent: true, Evidence: []string{"lapse", "attest"}, AtMostMS: 3061,
		})
	}
	return out, err
}

// Failover implements api.Rescuer.
func (f *Fake) Failover(ctx context.Context, o api.FailoverOrder) (api.Handover, error) {
	return f.Switch(ctx, o.Order)
}

// Missing implements api.Rescuer.
func (f *Fake) Missing(ctx context.Context, id string) ([]api.Missing, error) {
	h, err := f.Handover(ctx, id)
	if err != nil {
		return nil, err
	}
	var out []api.Missing
	for _, a := range h.Acks {
		if a.Evidence == "" {
			out = append(out, api.Missing{
				Service: h.Service, Handover: h.ID, Instance: a.Instance, DataCenter: a.DataCenter, Identity: a.Identity, Admission: a.Admission,
				Block: fmt.Sprintf("%064x", 7), Below: h.Term, Allowed: "ack+leave+attest", Silent: true,
			})
		}
	}
	return out, nil
}

// Announce implements api.Rescuer.
func (f *Fake) Announce(_ context.Context, o api.RemovalOrder) (api.Missing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.instances {
		if i.Service == o.Service && (i.Name == o.Instance || i.Identity == o.Instance) {
			return api.Missing{
				Service: o.Service, Instance: i.Name, DataCenter: i.DataCenter, Identity: i.Identity, Admission: i.Admission,
				Block: fmt.Sprintf("%064x", 7), Below: i.Term + 1, Allowed: "attest", Silent: true,
			}, nil
		}
	}
	return api.Missing{}, fmt.Errorf("%w: no outstanding instance %q", signalbox.ErrUnknown, o.Instance)
}

// Submit implements api.Rescuer.
func (f *Fake) Submit(_ context.Context, envelope []byte) (api.Submitted, error) {
	s, err := rpc.InspectEvidence(envelope)
	return api.Submitted{Kind: s.Kind.String(), Service: string(s.Service), Identity: string(s.Identity)}, err
}

// Start implements api.Rescuer: the instance is as it was.
func (f *Fake) Start(ctx context.Context, service, instance string, _ api.Word) (api.Instance, error) {
	list, err := f.Instances(ctx, service)
	for _, i := range list {
		if i.Name == instance {
			return i, err
		}
	}
	return api.Instance{}, fmt.Errorf("%w: no instance %q", signalbox.ErrUnknown, instance)
}
