package server

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/membership/agent"
	"github.com/signalbox-io/signalbox/membership/agent/driver"
)

// database is an instance with data: it prepares, says a position when it steps
// down, and follows the new master.
type database struct {
	*instance

	mu       sync.Mutex
	prepared []driver.Preparation
	promoted []driver.Promotion
	followed []driver.Follow
	early    bool // stepped down before anything was prepared
}

func (d *database) Prepare(_ context.Context, o driver.Preparation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prepared = append(d.prepared, o)
	return nil
}

func (d *database) StepDown(ctx context.Context, o driver.StepDown) (driver.Position, error) {
	d.mu.Lock()
	d.early = d.early || len(d.prepared) == 0
	d.mu.Unlock()
	_, err := d.instance.StepDown(ctx, o)
	return driver.Position("at " + d.name), err
}

func (d *database) Promote(ctx context.Context, o driver.Promotion) error {
	d.mu.Lock()
	d.promoted = append(d.promoted, o)
	d.mu.Unlock()
	return d.instance.Promote(ctx, o)
}

func (d *database) Follow(_ context.Context, o driver.Follow) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followed = append(d.followed, o)
	return nil
}

func (d *database) Ready(context.Context) (driver.Readiness, error) {
	return driver.Readiness{Ready: true, LagBytes: 42, Problems: []driver.Problem{{Name: "slot-missing", What: "no slot", Do: "make one"}}}, nil
}

// follows waits until the database was told to follow another at a term.
func (d *database) follows(t *testing.T, whom *database, term signalbox.Term) {
	t.Helper()
	eventually(t, d.name+" to follow "+whom.name, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.followed) == 0 {
			return false
		}
		last := d.followed[len(d.followed)-1]
		return last.Address == whom.address && last.Term == term
	})
}

// TestDatabaseComesBack: drivers prepare before anything is interrupted, the
// position goes from the old master's ack to the new one's promotion and into
// the record, and the old master follows the new one by itself, there and back.
func TestDatabaseComesBack(t *testing.T) {
	t.Parallel()
	dbs := map[string]*database{}
	s := newSite(t)
	for _, name := range gatewayNames {
		s.startGateway(name)
	}
	for _, name := range []string{"e1", "w1"} {
		s.startAgent(name, func(o *agent.Options) {
			dbs[name] = &database{instance: o.Instances[0].Driver.(*instance)}
			o.Instances[0].Driver = dbs[name]
		})
	}
	s.awaitReady(map[signalbox.DataCenter]int{east: 1, west: 1})
	s.adopt()
	there := s.order(west)
	s.ready("east-1", there)
	plan, err := s.gateways["east-1"].coordinator.Plan(t.Context(), there)
	must(t, err)
	if i := slices.IndexFunc(plan.Checks, func(c api.Check) bool { return c.Name == "drivers" }); i < 0 || plan.Checks[i].OK || plan.Checks[i].Blocking {
		t.Errorf("the plan does not warn of what the drivers name: %+v", plan.Checks)
	}
	s.begin("east-1", there)
	h := s.wantOutcome(there.ID, api.OutcomeForward, 2)
	if len(h.Acks) != 1 || h.Acks[0].Position != "at e1" {
		t.Errorf("acks %+v", h.Acks)
	}
	dbs["e1"].follows(t, dbs["w1"], 2)
	back := s.order(east)
	s.begin("west-2", back)
	s.wantOutcome(back.ID, api.OutcomeForward, 4)
	dbs["w1"].follows(t, dbs["e1"], 4)
	for name, d := range dbs {
		d.mu.Lock()
		if d.early || len(d.prepared) != 2 {
			t.Errorf("%s prepared %+v, or too late", name, d.prepared)
		}
		d.mu.Unlock()
	}
	if p := dbs["w1"].promoted; len(p) != 1 || p[0].Position.String() != "at e1" {
		t.Errorf("w1 was promoted with %+v", p)
	}
	if p := dbs["e1"].promoted; p[len(p)-1].Position.String() != "at w1" {
		t.Errorf("e1 was promoted with %+v", p)
	}
}
