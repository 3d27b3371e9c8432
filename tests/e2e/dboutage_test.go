package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9/logging"

	"github.com/signalbox-io/signalbox/examples/demo/database"
)

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
			site, err := one.start(within(t), database.Options{Binaries: binaries, Failover: database.Lapse, Notice: func(line string) { t.Log(line) }})
			must(t, err)
			defer func() { must(t, site.Close()) }()
			all, err := site.Outages(within(t), 1, nil)
			must(t, err)
			o := all[0]
			t.Logf("writable after %.0f ms; %d of %d rows lost, acknowledged up to %.1f ms before; a standby again after %.0f ms", o.WritableMS, o.Lost, o.Acknowledged, o.LostWithinMS, o.BackMS)
			if testing.Verbose() {
				t.Logf("killed at %s\n%s", o.Killed.UTC().Format("15:04:05.000"), timeline(&o.Handover))
			}
			if !o.OK() || o.Handover.By != "signalbox" || o.Term != 2 || o.LostWithinMS > 1000 {
				t.Errorf("%+v", o)
			}
			if len(o.Handover.Acks) != 1 || !strings.Contains(o.Handover.Acks[0].Evidence, "lapse") {
				t.Errorf("evidence: %+v", o.Handover.Acks)
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
