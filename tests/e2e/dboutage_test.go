package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/examples/inserts"
)

// lapse is database.Lapse with times that a pause of a busy machine does not use up.
const lapse = "{mode: automatic, silence: 5s, evidence: [lapse], lease_ttl: 6s}"

// TestDatabaseOutage: everything in the data center of a database's master is killed at once: server, warden, agent,
// gateway (one of three voters) and Envoy. The standby takes over by itself when the lease has lapsed, the old master
// comes back as its standby, and at no time does it take a write, not even from a client connected straight to it
// (rules 2, 3 and 6). What may be missing is what had not been replicated: of Redis and of an asynchronous standby, the
// newest rows.
func TestDatabaseOutage(t *testing.T) {
	logging.Disable() // connects that fail are counted
	for _, one := range []struct {
		name  string
		start func(context.Context, database.Options) (*database.Database, error)
	}{{"postgres", startPostgres}, {"redis", startRedis}} {
		t.Run(one.name, func(t *testing.T) {
			site, err := one.start(within(t), database.Options{Binaries: binaries, Failover: lapse, Notice: func(line string) { t.Log(line) }})
			must(t, err)
			defer func() { must(t, site.Close()) }()
			all, err := site.Outages(within(t), 1, nil)
			must(t, err)
			o := all[0]
			t.Logf("writable after %.0f ms; %d of %d rows lost, acknowledged up to %.1f ms before; a standby again after %.0f ms", o.WritableMS, o.Lost, o.Acknowledged, o.LostWithinMS, o.BackMS)
			if testing.Verbose() {
				t.Logf("killed at %s\n%s", o.Killed.UTC().Format("15:04:05.000"), timeline(&o.Handover))
			}
			if !o.OK() || o.Handover.By != "signalbox" || o.Term != 2 {
				t.Errorf("%+v", o)
			}
			if len(o.Handover.Acks) != 1 || !strings.Contains(o.Handover.Acks[0].Evidence, "lapse") {
				t.Errorf("evidence: %+v", o.Handover.Acks)
			}
		})
	}
}

// TestDatabaseAgentKilled: the agent of a database's master is killed, at first alone and then with the warden, while
// the server lives on and clients are connected straight to it. Rule: it is stopped before its lease ends, so it
// acknowledges nothing once the other data center's serves (rules 2 and 6). The second server was started as a standby,
// without a lease, and so does not end with its warden: the next warden stops it.
func TestDatabaseAgentKilled(t *testing.T) {
	logging.Disable()
	for _, one := range []struct {
		name  string
		start func(context.Context, database.Options) (*database.Database, error)
	}{{"postgres", startPostgres}, {"redis", startRedis}} {
		t.Run(one.name, func(t *testing.T) {
			site, err := one.start(within(t), database.Options{Binaries: binaries, Failover: lapse, Notice: func(line string) { t.Log(line) }})
			must(t, err)
			defer func() { must(t, site.Close()) }()
			loads := map[string]*inserts.Load{demo.East: site.Straight(demo.East, 1), demo.West: site.Straight(demo.West, 2)}
			for _, l := range loads {
				defer l.Stop()
			}
			for _, step := range []struct {
				old, next string
				warden    bool
			}{{demo.East, demo.West, false}, {demo.West, demo.East, true}} {
				must(t, loads[step.old].Flows(within(t), time.Now(), 10))
				killed := time.Now()
				must(t, site.KillAgent(step.old, step.warden))
				must(t, loads[step.next].Flows(within(t), killed, 10))
				first, _ := loads[step.next].Span(killed, time.Now())
				_, last := loads[step.old].Span(killed.Add(-time.Second), time.Now())
				t.Logf("%s: the last row on the old master %s after the kill, the first on the new one %s", step.old, last.Sub(killed), first.Sub(killed))
				if !last.Before(first) || site.Runs(step.old) {
					t.Errorf("the old master took a row %s after the new one; its server runs: %t", last.Sub(first), site.Runs(step.old))
				}
				must(t, site.Up("agent-"+step.old))
				must(t, site.Settled(within(t), step.next))
			}
		})
	}
}

func startPostgres(ctx context.Context, o database.Options) (*database.Database, error) {
	site, err := database.StartPostgres(ctx, o)
	if err != nil {
		return nil, err
	}
	return site.Database, nil
}

func startRedis(ctx context.Context, o database.Options) (*database.Database, error) {
	site, err := database.StartRedis(ctx, o)
	if err != nil {
		return nil, err
	}
	return site.Database, nil
}
