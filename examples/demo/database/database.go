// Package database runs a site whose service is a real database: a server with
// its agent in each data center, and Envoys that hold and release the clients'
// connections. The demo and the benchmarks share it.
//
// It guarantees that servers, wardens and everything else it started are gone
// when Close returns.
package database

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// Service is the name of the database's service.
const Service = "ledger"

// Database is a site with a database server in each data center. East is the
// first master.
type Database struct {
	*demo.Site
	server server
	opts   Options
	stop   string // Result.Stop
	notice func(line string)
}

// server is what differs between databases.
type server interface {
	// kind is the driver's name.
	kind() string
	// open makes a place for a server in each data center.
	open() error
	// begin starts the server in east as it ran before Signalbox was there; with
	// Options.Failover it leaves the start to the agent.
	begin(ctx context.Context) error
	// yaml is the agent's entry of a data center's server.
	yaml(dc string) string
	// standby returns nil when the other data center's server streams from dc's.
	standby(ctx context.Context, dc string) error
	// store is a data center's own server, or with "" the one behind the proxies.
	store(dc string) inserts.Store
	// pid is the main process of a data center's own server, 0 when it does not run.
	pid(dc string) int
	// close ends the servers and removes what they wrote.
	close() error
}

func instance(dc string) string { return Service + "-" + dc }

func other(dc string) string {
	if dc == demo.East {
		return demo.West
	}
	return demo.East
}

// start starts the site, a server that runs in east as it did before Signalbox
// was there, and a standby in west; the service is adopted.
func (d *Database) start(ctx context.Context) (err error) {
	if err := d.server.open(); err != nil {
		return err
	}
	o := d.opts.site()
	o.Gateways, o.Empty, o.Notice = 1, true, d.notice
	o.More = []demo.MoreService{{Name: Service, Protocol: "tcp", Listen: true, Singleton: true, HoldBudget: d.opts.HoldBudget, Failover: d.opts.Failover}}
	if d.Site, err = demo.Start(ctx, o); err != nil {
		return err
	}
	d.notice("starting the server in east, as it ran before")
	if err := d.server.begin(ctx); err != nil {
		return err
	}
	for _, dc := range demo.DataCenters() {
		if err := d.AddDriven("agent-"+dc, dc, d.server.yaml(dc)); err != nil {
			return err
		}
		if _, err := d.AddEnvoy(dc, "envoy-"+dc, nil); err != nil {
			return err
		}
	}
	d.notice("adopting the running server; the other data center's becomes its standby")
	if err := demo.Await(ctx, "the running server to be known", d.known); err != nil {
		return err
	}
	if err := d.Adopt(ctx, Service, demo.East); err != nil {
		return err
	}
	return d.Settled(ctx, demo.East)
}

// Settled waits until dc serves and the other data center could be switched to.
func (d *Database) Settled(ctx context.Context, dc string) error {
	return demo.Await(ctx, Service+" to be ready for the next switch", func(ctx context.Context) error {
		v, err := d.API().Service(ctx, Service)
		if err != nil {
			return err
		}
		if v.State != api.StateSteady || v.Master != dc {
			return fmt.Errorf("%s is %s with master %q, waiting for %v", Service, v.State, v.Master, v.Waiting)
		}
		for _, site := range v.DataCenters {
			if !site.Master && !site.Target && site.DataCenter != demo.North {
				return fmt.Errorf("a switch to %s is not possible: %v", site.DataCenter, site.Problems)
			}
		}
		return d.server.standby(ctx, dc)
	})
}

// SwitchTo moves the service and returns the record when it is over.
func (d *Database) SwitchTo(ctx context.Context, to string) (api.Handover, error) {
	h, err := d.Order(ctx, api.SwitchRequest{Service: Service, To: to, Reason: "demo"})
	if err != nil {
		return h, err
	}
	return d.Follow(ctx, h.ID)
}

// Close ends everything: the agents, the servers, and then their wardens.
func (d *Database) Close() error {
	var errs []error
	var wardens []string
	if d.Site != nil {
		for _, dc := range demo.DataCenters() {
			wardens = append(wardens, d.wardenOf(dc))
			_ = d.Down("agent-"+dc, 9) // or it would start the server again
		}
	}
	errs = append(errs, d.server.close())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, dir := range wardens {
		if w, err := warden.New(dir, nil); err == nil {
			errs = append(errs, demo.Await(ctx, "the end of a warden", w.Quit))
		}
	}
	if d.Site != nil {
		errs = append(errs, d.Site.Close())
	}
	return errors.Join(errs...)
}

// wardenOf is the directory of the warden of a data center's server.
func (d *Database) wardenOf(dc string) string {
	return filepath.Join(d.StatePath("agent-"+dc), Service, instance(dc), d.server.kind(), "warden")
}

// known returns nil when the gateways know the server in east and could adopt it.
func (d *Database) known(ctx context.Context) error {
	list, err := d.API().Instances(ctx, Service)
	if err != nil {
		return err
	}
	for _, in := range list {
		if in.Name == instance(demo.East) && (in.Ready || d.opts.Failover != "") {
			return nil
		}
	}
	return fmt.Errorf("%s is not there or not ready", instance(demo.East))
}
