package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/examples/demo/database"
	"github.com/signalbox-io/signalbox/gateway/api/report"
	"github.com/signalbox-io/signalbox/membership/agent/driver/postgres"
)

func newDemoPostgresCommand(std stdio) *cobra.Command {
	var opts database.Options
	var stop string
	var switches int
	var keep bool
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
	cmd.Flags().IntVar(&switches, "switches", 2, "how many switches, alternately to west and to east")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it running until Ctrl-C, for the other commands")
	output := addOutput(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case stop != string(postgres.Fast) && stop != string(postgres.Clean):
			return usagef("--stop %s: write fast or clean", stop)
		case switches < 0 || switches > maxDemoSwitches:
			return usagef("--switches %d: write 0 to %d", switches, maxDemoSwitches)
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the signalbox binary: %w", err)
		}
		if opts.Binaries, err = demo.FindBinaries(self); err != nil {
			return withCode(exitFailure, err)
		}
		opts.Stop = postgres.Mode(stop)
		opts.Notice = func(line string) { fmt.Fprintln(std.err, clean(line)) }
		ctx, done := signalContext(cmd.Context())
		defer done()
		return runDemoPostgres(ctx, std, opts, switches, keep, output)
	}
	return cmd
}

func runDemoPostgres(ctx context.Context, std stdio, opts database.Options, switches int, keep bool, output *outputFlag) (err error) {
	starting, cancel := context.WithTimeout(ctx, 2*demo.StartWithin)
	defer cancel()
	site, err := database.StartPostgres(starting, opts)
	if err != nil {
		return withCode(exitFailure, err)
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	n := 0
	result, err := site.Run(ctx, switches, func(s database.Switch) {
		n++
		opts.Notice(fmt.Sprintf("switch %d of %d: %s -> %s %s; write outage %.0f ms, %d statements and %d connects failed; a standby again after %.1f s",
			n, switches, s.From, s.To, s.Outcome, s.OutageMS, s.Failed, s.Refused, s.BackMS/1000))
	})
	if err != nil {
		return withCode(exitFailure, err)
	}
	if err := output.write(std.out, &result, func(w io.Writer, _ bool) error { return printDemoPostgres(w, &result) }); err != nil {
		return err
	}
	if keep {
		opts.Notice("\nIt keeps running until Ctrl-C. In another terminal:\n\n  export SIGNALBOX_BUNDLE=" + site.OperatorBundle() +
			"\n  signalbox status\n  psql '" + site.DSN() + "'")
		<-ctx.Done()
	}
	if !result.OK {
		return &exitError{code: exitFailure}
	}
	return nil
}

// printDemoPostgres writes the report of the last switch and the table of all.
func printDemoPostgres(w io.Writer, r *database.Result) error {
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
	_, err := fmt.Fprintf(w, "\nstop %s: median write outage %d ms; %d rows acknowledged, %d of them lost\n",
		r.Stop, r.MedianOutage().Round(time.Millisecond).Milliseconds(), r.Total.Acknowledged, r.Lost)
	return err
}
