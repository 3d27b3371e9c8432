package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
)

// killing kills everything in the master's data center, each time in the other
// one's turn, with a voter in each of three.
type killing struct {
	name  string
	start func(context.Context) (*database.Database, error)
}

// outaged are the outages of one database.
type outaged struct {
	Name     string            `json:"name"`
	Runs     []database.Outage `json:"runs"`
	Writable []float64         `json:"writable_ms"` // sorted
	Rows     int               `json:"acknowledged_rows"`
	Lost     int               `json:"lost_acknowledged_rows"`
	// LostWithin is the oldest of them, before the kill.
	LostWithin float64 `json:"lost_within_ms"`
	// Unfenced are rows that an old master took after the kill, or that were
	// acknowledged after it and are gone.
	Unfenced int     `json:"rows_on_the_old_master"`
	Back     float64 `json:"standby_again_median_ms"`
	Took     float64 `json:"took_s"`
	Error    string  `json:"error,omitempty"`
}

func killed(binaries demo.Binaries) []killing {
	o := database.Options{Binaries: binaries, Failover: database.Lapse, LogLevel: "warn"}
	return []killing{
		{"signalbox failover postgres", func(ctx context.Context) (*database.Database, error) {
			site, err := database.StartPostgres(ctx, o)
			if err != nil {
				return nil, err
			}
			return site.Database, nil
		}},
		{"signalbox failover redis", func(ctx context.Context) (*database.Database, error) {
			site, err := database.StartRedis(ctx, o)
			if err != nil {
				return nil, err
			}
			return site.Database, nil
		}},
	}
}

func (k killing) run(ctx context.Context, n int) (all outaged) {
	began := time.Now()
	all.Name = k.name
	site, err := k.start(ctx)
	if err == nil {
		all.Runs, err = site.Outages(ctx, n, func(o database.Outage) {
			fmt.Fprintf(os.Stderr, "  %s killed: %s writable after %.0f ms; %d of %d rows lost, %d on the old master; a standby again after %.0f ms\n",
				o.From, o.To, o.WritableMS, o.Lost, o.Acknowledged, o.Unfenced, o.BackMS)
		})
		err = errors.Join(err, site.Close())
	}
	if err != nil {
		all.Error = err.Error()
	}
	var back []float64
	for i := range all.Runs {
		o := &all.Runs[i]
		all.Writable, back = append(all.Writable, o.WritableMS), append(back, o.BackMS)
		all.Rows, all.Lost, all.Unfenced = all.Rows+o.Acknowledged, all.Lost+o.Lost, all.Unfenced+o.Unfenced+o.Later
		all.LostWithin = max(all.LostWithin, o.LostWithinMS)
	}
	slices.Sort(all.Writable)
	slices.Sort(back)
	if len(back) > 0 {
		all.Back = back[len(back)/2]
	}
	all.Took = time.Since(began).Seconds()
	return all
}

// at is a quantile of the times, 0 for none.
func (k *outaged) at(q float64) float64 {
	if len(k.Writable) == 0 {
		return 0
	}
	return k.Writable[min(len(k.Writable)-1, int(q*float64(len(k.Writable))))]
}
