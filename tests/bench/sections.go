package main

import (
	"context"
	"errors"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
)

// runSwitches measures the floor and Signalbox in every configuration, in turns. In the first one the floor that has its
// instances obey comes as well: it tells how much of the distance is draining and promoting.
func runSwitches(ctx context.Context, o options, r *report) error {
	for n, of := range o.configs {
		if err := oneConfig(ctx, o, of, n == 0, r); err != nil {
			return err
		}
	}
	return nil
}

func oneConfig(ctx context.Context, o options, of config, stepwise bool, r *report) (err error) {
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
	floor, signalbox := newMeasured(nameFloor, of, f), newMeasured(nameSignalbox, of, w)
	all := []*measured{floor, signalbox}
	if stepwise {
		// The same site as the floor's, so its master is the floor's: an even number of switches leaves it in east.
		all = append(all, newMeasured(nameObeying, of, f.stepwise()))
	}
	if err := inTurns(ctx, o, o.switches, all, noSlow); err != nil {
		return err
	}
	r.config(all)
	return nil
}

// runSlow is Signalbox with slow requests in the load: a hold lasts as long as they do.
func runSlow(ctx context.Context, o options, r *report) (err error) {
	of := o.configs[min(1, len(o.configs)-1)]
	w, err := startWhole(ctx, o, demo.Options{Envoys: of.envoys / 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	m := newMeasured(nameSignalbox, of, w)
	var slow load.Config
	if err := inTurns(ctx, o, o.switches, []*measured{m}, func(c *load.Config) { slow = *c }); err != nil {
		return err
	}
	r.slow(m, slow)
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
