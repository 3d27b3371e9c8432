package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/tests/bench/peers"
)

// rival is a peer in front of a bare site. As with the floor, the new side is promoted beforehand and nobody is asked to
// step down: that is what these switches are.
type rival struct {
	*bare
	peer peers.Peer
}

func startRival(ctx context.Context, kind peers.Kind, b *bare, of config) (*rival, error) {
	o := peers.Options{Ports: make([]int, of.envoys)}
	for _, in := range b.site.Instances() {
		if in.DataCenter == demo.East {
			o.East = append(o.East, "http://"+in.Address)
		} else {
			o.West = append(o.West, "http://"+in.Address)
		}
	}
	if err := b.promote(ctx, demo.East, b.term+1); err != nil {
		return nil, err
	}
	peer, err := kind.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	return &rival{bare: b, peer: peer}, nil
}

func (r *rival) cut(ctx context.Context, to string) (cutover, error) {
	term := r.term + 1
	c := cutover{id: strconv.FormatUint(term, 10), term: term}
	if err := r.promote(ctx, to, term); err != nil {
		return c, err
	}
	c.begin = load.Now()
	err := r.peer.Switch(ctx, to)
	c.end = load.Now()
	return c, err
}

func (r *rival) load(rate int, change ...func(*load.Config)) (*demo.Load, error) {
	return r.site.Load(rate, append(change, func(c *load.Config) {
		c.Targets = nil
		for n, url := range r.peer.Targets() {
			c.Targets = append(c.Targets, load.Target{Name: fmt.Sprintf("proxy-%d", n+1), URL: url})
		}
	})...)
}

// runPeers measures what people use today, in the first configuration.
func runPeers(ctx context.Context, o options, r *report) (err error) {
	of := o.configs[0]
	f, err := startFloor(ctx, o, of) // its Envoys idle; its instances are the peers'
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	kinds := peers.All()
	var all []*measured
	for _, kind := range kinds {
		started, err := startRival(ctx, kind, f.bare, of)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.Name, err)
		}
		defer func() { err = errors.Join(err, started.peer.Close()) }()
		all = append(all, newMeasured(kind.Name, of, started))
	}
	if err := inTurns(ctx, o, o.switches, all, noSlow); err != nil {
		return err
	}
	r.peers(all, kinds)
	return nil
}
