package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/load"
)

// TestOutage: everything in the master's data center is killed at once, one of three voters with it. The other side takes
// over by itself when the leases of the dead have lapsed, and the dead side comes back closed (rules 2, 3 and 6; design,
// section 3).
func TestOutage(t *testing.T) {
	f := start(t, demo.Options{
		North: true, Instances: 2, Envoys: 1,
		Failover: "{mode: automatic, silence: 5s, evidence: [lapse], lease_ttl: 6s}",
	})
	f.lenient = true // its Envoy dies with east
	must(t, f.Adopt(within(t), demo.Service, demo.East))
	f.steady(t, demo.East)
	l := f.load(t, f.Through(demo.West))
	killed, err := f.DownAll(demo.East)
	must(t, err)
	eventually(t, "west to answer as master", func(context.Context) error {
		window := load.Window{Begin: killed, Holds: []load.Hold{{Term: 2, Begin: killed, End: load.Now()}}}
		if s := l.Report(window).Switches[0]; s.FirstAnswered == 0 {
			return fmt.Errorf("%+v", l.Stats())
		}
		return nil
	})
	h := f.newest(t)
	words := f.certified(t, h)
	if h.By != "signalbox" || h.To != demo.West || h.CertifiedTerm != 2 || strings.Count(words, "lapse: ") != 2 {
		t.Errorf("failover %+v\n%s", h, words)
	}
	must(t, f.UpAll(demo.East))
	f.steady(t, demo.West)
	f.innocent(t)
}
