package main

import (
	"context"
	"errors"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
)

// runSwitches measures the floor, Signalbox and the floor that has its instances obey in every configuration, in turns.
// The last one tells how much of the distance is draining and promoting.
func runSwitches(ctx context.Context, o options, r *report) error {
	for _, of := range o.configs {
		if err := oneConfig(ctx, o, of, r); err != nil {
			return err
		}
	}
	return nil
}

func oneConfig(ctx context.Context, o options, of config, r *report) (err error) {
	o.say("%s: starting", of)
	f, err := startFloor(ctx, o, of)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	w, err := startWhole(ctx, o, demo.Options{Envoys: of.envoys / 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	// The obeying floor has the same site as the floor, so its master is the floor's: an even number of switches leaves it in east.
	all := []*measured{newMeasured(nameFloor, of, f), newMeasured(nameSignalbox, of, w), newMeasured(nameObeying, of, f.stepwise())}
	if err := inTurns(ctx, o, o.switches, all, noSlow); err != nil {
		return err
	}
	r.config(all)
	return nil
}

// runSlow is Signalbox with slow requests in the load: a hold lasts as long as they do. Beside it the floor that has its
// instances obey, which waits for them too.
func runSlow(ctx context.Context, o options, r *report) (err error) {
	of := o.configs[min(1, len(o.configs)-1)]
	w, err := startWhole(ctx, o, demo.Options{Envoys: of.envoys / 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	f, err := startFloor(ctx, o, of)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	m, floor := newMeasured(nameSignalbox, of, w), newMeasured(nameObeying, of, f.stepwise())
	var slow load.Config
	if err := inTurns(ctx, o, o.switches, []*measured{m, floor}, func(c *load.Config) { slow = *c }); err != nil {
		return err
	}
	r.slow(m, floor, slow)
	return nil
}

// The numbers of services whose switches are compared.
const (
	fewServices  = 10
	manyServices = 1000
)

// runServices measures the switch of one service where few and where many are configured.
func runServices(ctx context.Context, o options, r *report) (err error) {
	of := o.configs[0]
	var all []*measured
	var sites []*demo.Site
	for _, n := range []int{fewServices, manyServices} {
		o.say("%s: starting with %d services", of, n)
		w, err := startWhole(ctx, o, demo.Options{Envoys: of.envoys / 2, Services: n - 1})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		m := newMeasured(nameSignalbox, of, w)
		m.services = n
		all, sites = append(all, m), append(sites, w.site)
	}
	if err := inTurns(ctx, o, o.switches, all, noSlow); err != nil {
		return err
	}
	gateway, err := largestGateway(sites[1])
	r.services(all[0], all[1], gateway)
	return err
}
