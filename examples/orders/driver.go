package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/rs/zerolog"

	"github.com/signalbox-io/signalbox/examples/orders/internal/gate"
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
func newAuthority(_ context.Context, opts options, log zerolog.Logger) (authority, error) {
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
	default:
		return authority{}, fmt.Errorf("driver %q: expected http", opts.driver)
	}
}
