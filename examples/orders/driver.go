package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/examples/orders/internal/gate"
	"github.com/signalbox-io/signalbox/membership/agent"
)

// authority is how this process obeys Signalbox: the one seam between the
// shop and whatever decides about mastership.
type authority struct {
	// wrap lets requests through to the shop while this instance is master.
	wrap func(http.Handler) http.Handler
	// term returns the term at which wrap admitted a request.
	term func(*http.Request) uint64
	// live reports just before a write whether it may still take effect;
	// nil: always.
	live func(*http.Request) bool
	// contract serves /signalbox/; nil when the driver has none.
	contract http.Handler
	// leave asks to be stepped down before an orderly stop, and waits for it;
	// nil: nobody to ask.
	leave func(context.Context) error
	// close ends the driver after the last request; nil: nothing to end.
	close func(context.Context) error
}

// newAuthority makes the driver that --driver names.
func newAuthority(opts options, log zerolog.Logger) (authority, error) {
	switch opts.driver {
	case "http":
		contract := gate.NewContract(opts.service, log)
		return authority{
			wrap:     contract.Wrap,
			term:     gate.Term,
			live:     func(*http.Request) bool { return contract.Gate.Live() },
			contract: contract.Handler(),
			leave:    contract.Leave,
		}, nil
	case "library":
		return newLibrary(opts, log)
	default:
		return authority{}, fmt.Errorf("driver %q: expected http or library", opts.driver)
	}
}

// newLibrary has the agent in this process. A service of one's own needs three
// lines, as in the documentation of agent; the rest here is for flags.
func newLibrary(opts options, log zerolog.Logger) (authority, error) {
	settings, err := agent.LoadOptions(opts.bundle)
	if err != nil {
		return authority{}, err
	}
	if opts.state != "" {
		settings.StateDir = opts.state
	}
	settings.GossipPool.Listen = opts.gossip
	settings.Log = log
	settings.Instances = []agent.Instance{{Service: signalbox.Service(opts.service), Name: opts.instance, Address: opts.listen}}
	a, err := agent.New(settings)
	if err != nil {
		return authority{}, err
	}
	ended := make(chan error, 1)
	// It ends with leave, not with the signal: leaving is its work.
	go func() { ended <- a.Run(context.Background()) }()
	return authority{
		wrap:  a.Guard,
		term:  func(r *http.Request) uint64 { return uint64(agent.TermFrom(r)) },
		live:  func(*http.Request) bool { return a.Gate(opts.instance).Live() },
		leave: a.Stop,
		close: func(ctx context.Context) error {
			select {
			case err := <-ended:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}, nil
}
