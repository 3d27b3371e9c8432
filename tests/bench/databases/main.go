// Command databases measures how long nobody can write while a PostgreSQL service
// moves: Signalbox, and beside it what people use today, on one machine in one
// run. Every contender gets the same load: two connections that insert every 5 ms.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// contender is one way of moving the service.
type contender struct {
	name string
	// run makes n switches and tells of each.
	run func(ctx context.Context, n int, each func(database.Switch)) (database.Result, error)
}

// figures are a contender's result.
type figures struct {
	Name     string  `json:"name"`
	Switches int     `json:"switches"`
	Failed   int     `json:"failed_switches"`
	Min      float64 `json:"outage_min_ms"`
	Median   float64 `json:"outage_median_ms"`
	Max      float64 `json:"outage_max_ms"`
	// Statements and Connects are means per switch.
	Statements float64 `json:"failed_statements_per_switch"`
	Connects   float64 `json:"failed_connects_per_switch"`
	Rows       int     `json:"acknowledged_rows"`
	Lost       int     `json:"lost_acknowledged_rows"`
	// LostStraight are those of clients that were connected straight to a server,
	// TwoMasters how long both acknowledged to them, the mean per switch; Redis only.
	LostStraight int     `json:"lost_acknowledged_rows_of_straight_clients"`
	TwoMasters   float64 `json:"two_masters_ms_per_switch"`
	Error        string  `json:"error,omitempty"`
}

func main() {
	signalbox := flag.String("signalbox", "bin/signalbox", "the binary")
	n := flag.Int("switches", 20, "switches of each contender")
	peers := flag.Int("peer-switches", 5, "switches of each peer; they take longer")
	only := flag.String("only", "", "run contenders whose name contains this")
	out := flag.String("out", "", "file for the figures as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, *signalbox, *n, *peers, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, signalbox string, n, peerN int, only, out string) error {
	binaries, err := demo.FindBinaries(signalbox)
	if err != nil {
		return err
	}
	var all []figures
	for _, c := range contenders(binaries) {
		if !strings.Contains(c.name, only) {
			continue
		}
		switches := n
		if !strings.HasPrefix(c.name, "signalbox") {
			switches = peerN
		}
		fmt.Fprintf(os.Stderr, "%s, %d switches\n", c.name, switches)
		r, err := c.run(ctx, switches, func(s database.Switch) {
			fmt.Fprintf(os.Stderr, "  %s -> %s %s: write outage %.0f ms%s, %d statements and %d connects failed\n", s.From, s.To, s.Outcome, s.OutageMS, held(&s), s.Failed, s.Refused)
		})
		all = append(all, sum(c.name, &r, err))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if out != "" {
		raw, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	return print(all)
}

// held says how long proxies held connections, where there are any.
func held(s *database.Switch) string {
	if s.Handover.HoldMS == nil {
		return ""
	}
	return fmt.Sprintf(" (held %.0f)", *s.Handover.HoldMS)
}

func contenders(binaries demo.Binaries) []contender {
	var all []contender
	for _, stop := range []postgres.Mode{postgres.Fast, postgres.Clean} {
		all = append(all, contender{"signalbox " + string(stop), func(ctx context.Context, n int, each func(database.Switch)) (r database.Result, err error) {
			site, err := database.StartPostgres(ctx, database.Options{Binaries: binaries, Stop: stop, LogLevel: "warn"})
			if err != nil {
				return r, err
			}
			defer func() { err = errors.Join(err, site.Close()) }()
			return site.Run(ctx, n, each)
		}})
	}
	for _, p := range peers {
		all = append(all, contender{p.name, p.run})
	}
	return append(all, redises(binaries)...)
}

func sum(name string, r *database.Result, err error) figures {
	f := figures{Name: name, Switches: len(r.Switches), Rows: r.Total.Acknowledged, Lost: r.Lost, LostStraight: r.LostStraight}
	if err != nil {
		f.Error = err.Error()
	}
	var outages []time.Duration
	for _, s := range r.Switches {
		if s.Outcome != "forward" {
			f.Failed++
			continue
		}
		outages = append(outages, s.Outage)
		f.Statements += float64(s.Failed)
		f.Connects += float64(s.Refused)
		f.TwoMasters += s.TwoMastersMS
	}
	if len(outages) == 0 {
		return f
	}
	slices.Sort(outages)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	f.Min, f.Median, f.Max = ms(outages[0]), ms(outages[len(outages)/2]), ms(outages[len(outages)-1])
	f.Statements /= float64(len(outages))
	f.Connects /= float64(len(outages))
	f.TwoMasters /= float64(len(outages))
	return f
}

func print(all []figures) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONTENDER\tSWITCHES\tGIVEN UP\tOUTAGE MIN\tMEDIAN\tMAX ms\tFAILED STATEMENTS\tFAILED CONNECTS\tROWS\tLOST\tLOST STRAIGHT\tTWO MASTERS ms\t")
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%d\t%d\t%d\t%.0f\t%s\n", f.Name, f.Switches, f.Failed, f.Min, f.Median, f.Max, f.Statements, f.Connects, f.Rows, f.Lost, f.LostStraight, f.TwoMasters, f.Error)
	}
	return w.Flush()
}
