package coordinator

import (
	"context"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/rpc/wire"
)

// told keeps what agents are told of a preparation.
type told struct {
	silence
	to map[signalbox.Identity]*wire.Prepare
}

func (t told) Send(id signalbox.Identity, f *wire.GatewayFrame) bool {
	if p := f.GetPrepare(); p != nil {
		t.to[id] = p
	}
	return true
}

// TestStepDownIsToldWhoComes: whoever is to step down is told who is to be promoted,
// whether its driver has something to prepare or not; nobody is waited for that has
// not, and of the incoming ones only those are told that prepare.
func TestStepDownIsToldWhoComes(t *testing.T) {
	c := alone(t, t.TempDir())
	links := told{to: map[signalbox.Identity]*wire.Prepare{}}
	c.opt.Links = links
	s := c.services["orders"]
	ids := map[string]signalbox.Identity{"e1": "00000000000000000000000000000001", "w1": "00000000000000000000000000000002"}
	for name, id := range ids {
		s.instances[id] = &instance{
			Instance: signalbox.Instance{Service: "orders", Name: name, Identity: id}, local: true, address: name + ":80", views: map[string]*view{},
		}
		s.instances[id].view("east-1")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	waited, err := c.prepare(ctx, s, api.Plan{
		Service: "orders", Term: 8, To: "west", Roster: []api.Member{{Identity: string(ids["e1"])}}, Incoming: []api.Member{{Identity: string(ids["w1"])}},
	})
	cancel()
	if ended := <-ended; err != nil || waited || ended != nil {
		t.Fatalf("waited: %v; %v, %v", waited, err, ended)
	}
	p := links.to[ids["e1"]]
	if len(links.to) != 1 || len(p.GetIncoming()) != 1 || p.GetIncoming()[0].GetName() != "w1" || p.GetIncoming()[0].GetAddress() != "w1:80" {
		t.Errorf("told: %v", links.to)
	}
}
