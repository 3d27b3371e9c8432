package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/gateway/api/report"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

// databaseFlags are the flags that the demos of databases share.
type databaseFlags struct {
	switches int
	keep     bool
	output   *outputFlag
}

func (f *databaseFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.switches, "switches", 2, "how many switches, alternately to west and to east")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave it running until Ctrl-C, for the other commands")
	f.output = addOutput(cmd, false)
}

// options checks the flags and finds the programs.
func (f *databaseFlags) options(std stdio) (o database.Options, err error) {
	if f.switches < 0 || f.switches > maxDemoSwitches {
		return o, usagef("--switches %d: write 0 to %d", f.switches, maxDemoSwitches)
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find the signalbox binary: %w", err)
	}
	if o.Binaries, err = demo.FindBinaries(self); err != nil {
		return o, withCode(exitFailure, err)
	}
	o.Notice = func(line string) { fmt.Fprintln(std.err, clean(line)) }
	return o, nil
}

func newDemoPostgresCommand(std stdio) *cobra.Command {
	var f databaseFlags
	var stop string
	cmd := &cobra.Command{
		Use: "postgres", Short: "The same with a PostgreSQL server in each data center", Args: cobra.NoArgs,
		Long: "Starts a PostgreSQL server in east as it ran before Signalbox was there, copies a standby to west, adopts\n" +
			"the running server, and inserts rows over two connections through Envoy, one every 5 ms. Then it switches\n" +
			"there and back under that load and looks for every acknowledged row on the last master. It needs the Debian\n" +
			"package postgresql-15 (make tools). Everything it starts is gone when it ends.\n\n" +
			"Exit codes: 0 nothing acknowledged was lost, no connect failed, and at most the two sessions that were open\n" +
			"saw an error per switch; 1 otherwise.",
		Example: "  signalbox demo postgres\n  signalbox demo postgres --stop clean --switches 4",
	}
	cmd.Flags().StringVar(&stop, "stop", string(postgres.Fast), "how the old master stops: fast or clean")
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if stop != string(postgres.Fast) && stop != string(postgres.Clean) {
			return usagef("--stop %s: write fast or clean", stop)
		}
		opts, err := f.options(std)
		if err != nil {
			return err
		}
		opts.Stop = postgres.Mode(stop)
		ctx, done := signalContext(cmd.Context())
		defer done()
		return runDemoDatabase(ctx, std, &f, func(ctx context.Context) (databaseSite, string, error) {
			site, err := database.StartPostgres(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return site, "psql '" + site.DSN() + "'", nil
		})
	}
	return cmd
}

func newDemoRedisCommand(std stdio) *cobra.Command {
	var f databaseFlags
	cmd := &cobra.Command{
		Use: "redis", Short: "The same with a Redis server in each data center", Args: cobra.NoArgs,
		Long: "Starts a Redis server in east as it ran before Signalbox was there and a replica in west, adopts the running\n" +
			"server, and writes keys over two connections through Envoy, one every 5 ms. Then it switches there and back\n" +
			"under that load and looks for every acknowledged key on the last master. It needs the Debian package\n" +
			"redis-server (make tools). Everything it starts is gone when it ends.\n\n" +
			"Exit codes: 0 nothing acknowledged was lost, no connect failed, and at most the two connections that were\n" +
			"open saw an error per switch; 1 otherwise.",
		Example: "  signalbox demo redis\n  signalbox demo redis --switches 20 -o json",
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opts, err := f.options(std)
		if err != nil {
			return err
		}
		logging.Disable() // connects that fail are counted
		ctx, done := signalContext(cmd.Context())
		defer done()
		return runDemoDatabase(ctx, std, &f, func(ctx context.Context) (databaseSite, string, error) {
			site, err := database.StartRedis(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			host, port, _ := strings.Cut(site.Address(), ":")
			return site, "redis-cli -h " + host + " -p " + port + " --user app --askpass    # the password is interlock", nil
		})
	}
	return cmd
}

// databaseSite is a site of package database, of whatever kind.
type databaseSite interface {
	Run(ctx context.Context, n int, each func(database.Switch)) (database.Result, error)
	OperatorBundle() string
	Close() error
}

// runDemoDatabase runs the demo of a database. hint is the command that reaches it.
func runDemoDatabase(ctx context.Context, std stdio, f *databaseFlags, start func(context.Context) (site databaseSite, hint string, err error)) (err error) {
	say := func(line string) { fmt.Fprintln(std.err, clean(line)) }
	starting, cancel := context.WithTimeout(ctx, 2*demo.StartWithin)
	defer cancel()
	site, hint, err := start(starting)
	if err != nil {
		return withCode(exitFailure, err)
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	n := 0
	result, err := site.Run(ctx, f.switches, func(s database.Switch) {
		n++
		say(fmt.Sprintf("switch %d of %d: %s -> %s %s; write outage %.0f ms, %d statements and %d connects failed; a standby again after %.1f s",
			n, f.switches, s.From, s.To, s.Outcome, s.OutageMS, s.Failed, s.Refused, s.BackMS/1000))
	})
	if err != nil {
		return withCode(exitFailure, err)
	}
	if err := f.output.write(std.out, &result, func(w io.Writer, _ bool) error { return printDemoDatabase(w, &result) }); err != nil {
		return err
	}
	if f.keep {
		say("\nIt keeps running until Ctrl-C. In another terminal:\n\n  export SIGNALBOX_BUNDLE=" + site.OperatorBundle() +
			"\n  signalbox status\n  " + hint)
		<-ctx.Done()
	}
	if !result.OK {
		return &exitError{code: exitFailure}
	}
	return nil
}

// printDemoDatabase writes the report of the last switch and the table of all.
func printDemoDatabase(w io.Writer, r *database.Result) error {
	var lines [][]string
	for i := range r.Switches {
		s := &r.Switches[i]
		if i == len(r.Switches)-1 {
			if err := report.Terminal(w, &s.Handover); err != nil {
				return err
			}
		}
		lines = append(lines, []string{s.From + " -> " + s.To, number(s.Term), s.Outcome, demoMS(s.OutageMS), fmt.Sprint(s.Failed), fmt.Sprint(s.Refused), demoMS(s.BackMS)})
	}
	fmt.Fprintln(w, "\nAll switches of this run; times in milliseconds")
	if err := table(w, []string{"SWITCH", "TERM", "OUTCOME", "WRITE OUTAGE", "FAILED STATEMENTS", "FAILED CONNECTS", "STANDBY AGAIN"}, lines); err != nil {
		return err
	}
	how := "\n"
	if r.Stop != "" {
		how += "stop " + r.Stop + ": "
	}
	_, err := fmt.Fprintf(w, how+"median write outage %d ms; %d rows acknowledged, %d of them lost\n",
		r.MedianOutage().Round(time.Millisecond).Milliseconds(), r.Total.Acknowledged, r.Lost)
	return err
}
