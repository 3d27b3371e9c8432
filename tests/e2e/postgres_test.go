package e2e

import (
	"slices"
	"testing"

	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/examples/inserts"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// TestPostgres is the interlock for a database on a whole site: real servers behind real Envoys are switched there and
// back under load, in either way of stopping. Rule: no acknowledged row is lost, no connect fails, at most the sessions
// that were open see an error, and the old master is a standby again by itself.
func TestPostgres(t *testing.T) {
	for _, stop := range []postgres.Mode{postgres.Fast, postgres.Clean} {
		t.Run(string(stop), func(t *testing.T) {
			site, err := database.StartPostgres(within(t), database.Options{Binaries: binaries, Stop: stop, HoldBudget: unhurried, Notice: func(line string) { t.Log(line) }})
			must(t, err)
			defer func() { must(t, site.Close()) }()
			r, err := site.Run(within(t), 2, func(s database.Switch) {
				t.Logf("%s -> %s %s: write outage %.0f ms, %d statements and %d connects failed", s.From, s.To, s.Outcome, s.OutageMS, s.Failed, s.Refused)
			})
			must(t, err)
			still := slices.ContainsFunc(r.Switches, func(s database.Switch) bool { return stoodStill(&s.Handover) })
			if unharmed := r.Lost == 0 && r.Total.Refused == 0 && !slices.ContainsFunc(r.Switches, func(s database.Switch) bool { return s.Failed > inserts.Writers }); !unharmed || !r.OK && !still {
				t.Errorf("%+v", r)
			}
		})
	}
}
