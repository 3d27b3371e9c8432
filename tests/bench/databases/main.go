// Command databases measures how long nobody can write while a PostgreSQL or a
// Redis service moves: Signalbox, and beside it what people use today, on one
// machine in one run. Every contender gets the same load: two connections that
// insert every 5 ms. Then the master's whole data center is killed, again and
// again, and it is measured when the other one takes writes.
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
	// MostStatements are those of the worst switch.
	MostStatements int `json:"failed_statements_of_the_worst_switch"`
	// LostStraight are those of clients that were connected straight to a server,
	// TwoMasters how long both acknowledged to them, the mean per switch; Redis only.
	LostStraight int     `json:"lost_acknowledged_rows_of_straight_clients"`
	TwoMasters   float64 `json:"two_masters_ms_per_switch"`
	// Back is the median time until the old master is ready to take over again.
	Back  float64 `json:"standby_again_median_ms"`
	Took  float64 `json:"took_s"` // starting and ending included
	Error string  `json:"error,omitempty"`
}

// options are the command's flags.
type options struct {
	signalbox                string
	switches, peers, outages int
	only, out, page          string
}

func main() {
	var o options
	flag.StringVar(&o.signalbox, "signalbox", "bin/signalbox", "the binary")
	flag.IntVar(&o.switches, "switches", 20, "switches of each contender")
	flag.IntVar(&o.peers, "peer-switches", 5, "switches of each peer; they take longer")
	flag.IntVar(&o.outages, "outages", 10, "how often the master's data center is killed, for each database")
	flag.StringVar(&o.only, "only", "", "run contenders whose name contains this (failover: only the killed data centers)")
	flag.StringVar(&o.out, "out", "", "file for the figures as JSON")
	flag.StringVar(&o.page, "page", "", "file for the figures as a page")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// result is what one run measured.
type result struct {
	Switches []figures `json:"switches"`
	Outages  []outaged `json:"outages"`
	machine  *machine
}

func measure(ctx context.Context, o options) error {
	binaries, err := demo.FindBinaries(o.signalbox)
	if err != nil {
		return err
	}
	r := result{machine: look(ctx, binaries.Envoy)}
	for _, c := range contenders(binaries) {
		if !strings.Contains(c.name, o.only) {
			continue
		}
		switches := o.switches
		if !strings.HasPrefix(c.name, "signalbox") {
			switches = o.peers
		}
		fmt.Fprintf(os.Stderr, "%s, %d switches\n", c.name, switches)
		began := time.Now()
		one, err := c.run(ctx, switches, func(s database.Switch) {
			fmt.Fprintf(os.Stderr, "  %s -> %s %s: write outage %.0f ms%s, %d statements and %d connects failed\n", s.From, s.To, s.Outcome, s.OutageMS, held(&s), s.Failed, s.Refused)
		})
		f := sum(c.name, &one, err)
		f.Took = time.Since(began).Seconds()
		r.Switches = append(r.Switches, f)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, k := range killed(binaries) {
		if !strings.Contains(k.name, o.only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s, %d times\n", k.name, o.outages)
		r.Outages = append(r.Outages, k.run(ctx, o.outages))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(r.write(o), r.print(), r.failed())
}

// failed names what could not be measured.
func (r *result) failed() error {
	var errs []error
	for _, f := range r.Switches {
		if f.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", f.Name, f.Error))
		}
	}
	for _, o := range r.Outages {
		if o.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", o.Name, o.Error))
		}
	}
	return errors.Join(errs...)
}

// write writes the files.
func (r *result) write(o options) error {
	if o.out != "" {
		raw, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.out, append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.page == "" {
		return nil
	}
	return os.WriteFile(o.page, []byte(r.text()), 0o644)
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
	var back []float64
	for _, s := range r.Switches {
		if s.Outcome != "forward" {
			f.Failed++
			continue
		}
		outages = append(outages, s.Outage)
		back = append(back, s.BackMS)
		f.MostStatements = max(f.MostStatements, s.Failed)
		f.Statements += float64(s.Failed)
		f.Connects += float64(s.Refused)
		f.TwoMasters += s.TwoMastersMS
	}
	if len(outages) == 0 {
		return f
	}
	slices.Sort(outages)
	slices.Sort(back)
	f.Back = back[len(back)/2]
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	f.Min, f.Median, f.Max = ms(outages[0]), ms(outages[len(outages)/2]), ms(outages[len(outages)-1])
	f.Statements /= float64(len(outages))
	f.Connects /= float64(len(outages))
	f.TwoMasters /= float64(len(outages))
	return f
}

func (r *result) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(r.Switches) > 0 {
		fmt.Fprintln(w, "CONTENDER\tSWITCHES\tGIVEN UP\tOUTAGE MIN\tMEDIAN\tMAX ms\tFAILED STATEMENTS\tFAILED CONNECTS\tROWS\tLOST\tLOST STRAIGHT\tTWO MASTERS ms\tTOOK s\t")
	}
	for _, f := range r.Switches {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t%d\t%d\t%d\t%.0f\t%.0f\t%s\n", f.Name, f.Switches, f.Failed, f.Min, f.Median, f.Max, f.Statements, f.Connects, f.Rows, f.Lost, f.LostStraight, f.TwoMasters, f.Took, f.Error)
	}
	if len(r.Outages) > 0 {
		fmt.Fprintln(w, "\nKILLED\tTIMES\tWRITABLE MIN\tMEDIAN\tMAX ms\tROWS\tLOST\tON THE OLD MASTER\tSTANDBY AGAIN ms\tTOOK s\t")
	}
	for _, k := range r.Outages {
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.0f\t%d\t%d\t%d\t%.0f\t%.0f\t%s\n", k.Name, len(k.Runs), k.at(0), k.at(0.5), k.at(1), k.Rows, k.Lost, k.Unfenced, k.Back, k.Took, k.Error)
	}
	return w.Flush()
}
