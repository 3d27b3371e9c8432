package main

import (
	"context"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
	"github.com/signalbox-io/signalbox/tests/oracle"
)

// system is what is measured: something that moves traffic between two data centers.
type system interface {
	// cut moves the traffic once and returns when that is over and the next may come.
	cut(ctx context.Context, to string) (cutover, error)
	// load starts the load on its proxies.
	load(rate int, change ...func(*load.Config)) (*demo.Load, error)
	// judge hands what was written during these loads to the oracle.
	judge(ctx context.Context, loads []*demo.Load) (oracle.Verdict, error)
}

// cutover is one switch as its system saw it.
type cutover struct {
	id         string
	to         string
	term       uint64             // that the new master serves at
	begin, end int64              // raw CLOCK_MONOTONIC, ns: from the order to hold to the last release
	phases     map[string]float64 // ms
	problem    string             // it did not go forward
}

// other is the data center that is not dc.
func other(dc string) string {
	if dc == demo.East {
		return demo.West
	}
	return demo.East
}
