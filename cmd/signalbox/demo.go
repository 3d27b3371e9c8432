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
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/report"
)

const (
	// maxDemoSwitches bounds one run: its load is kept in memory.
	maxDemoSwitches = 1000
	// demoSwitchWithin bounds one switch of the demo.
	demoSwitchWithin = time.Minute
	// demoWarmUp is how long the load runs before the first switch: what a
	// switch adds to the latencies is measured against it.
	demoWarmUp = 3 * time.Second
)

// demoFlags are the flags of demo.
type demoFlags struct {
	switches, rate, envoys int
	pause                  time.Duration
	keep                   bool
	dir                    string
	output                 *outputFlag
}

func newDemoCommand(std stdio) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use: "demo", Short: "Try it: two data centers on this machine, a steady load, a switch there and back", GroupID: groupSetup,
		Args: cobra.NoArgs,
		Long: "Starts two data centers on loopback as real processes (two gateways each, three instances of the example\n" +
			"service with their agents each, Envoys), puts a steady load on both, switches the service from east to west\n" +
			"and back, shows what happens while it happens, has an independent oracle judge the instances' own write\n" +
			"logs, and prints the report. It needs no root; everything it starts is gone when it ends.\n\n" +
			"Exit codes: 0 no request failed and nothing overlapped, 1 otherwise.",
		Example: "  signalbox demo\n  signalbox demo --switches 10 -o json > demo.json\n  signalbox demo --keep",
	}
	cmd.Flags().IntVar(&f.switches, "switches", 2, "how many switches, alternately to west and to east")
	cmd.Flags().IntVar(&f.rate, "rate", 2000, "requests per second in all")
	cmd.Flags().IntVar(&f.envoys, "envoys", 2, "Envoys in each data center")
	cmd.Flags().DurationVar(&f.pause, "pause", 2*time.Second, "time between two switches")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave it running until Ctrl-C, for the other commands")
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder for keys, configuration, state and logs; it stays (default a temporary one)")
	f.output = addOutput(cmd, false)
	cmd.AddCommand(newDemoPostgresCommand(std), newDemoRedisCommand(std))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		ctx, stop := signalContext(cmd.Context())
		defer stop()
		return runDemo(ctx, std, &f)
	}
	return cmd
}

func (f *demoFlags) check() error {
	switch {
	case f.switches < 0 || f.switches > maxDemoSwitches:
		return usagef("--switches %d: write 0 to %d", f.switches, maxDemoSwitches)
	case f.rate < 1 || f.rate > 50_000:
		return usagef("--rate %d: write 1 to 50000 requests per second", f.rate)
	case f.envoys < 1 || f.envoys > demo.MaxEnvoys:
		return usagef("--envoys %d: write 1 to %d", f.envoys, demo.MaxEnvoys)
	case f.pause < 0:
		return usagef("--pause %s: write a duration that is not negative", f.pause)
	}
	return nil
}

func runDemo(ctx context.Context, std stdio, f *demoFlags) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the signalbox binary: %w", err)
	}
	binaries, err := demo.FindBinaries(self)
	if err != nil {
		return withCode(exitFailure, err)
	}
	say := func(line string) { fmt.Fprintln(std.err, clean(line)) }
	site, err := demo.Start(ctx, demo.Options{Binaries: binaries, Dir: f.dir, Envoys: f.envoys, Notice: say})
	if err != nil {
		return withCode(exitFailure, err)
	}
	defer func() {
		if err != nil && f.dir == "" {
			site.Keep()
			say("the logs are kept in " + site.Dir())
		}
		err = errors.Join(err, site.Close())
	}()
	d := &demoRun{std: std, flags: f, site: site, say: say}
	result, err := d.run(ctx)
	if err != nil {
		return withCode(exitFailure, err)
	}
	if err := d.print(&result); err != nil {
		return err
	}
	if f.keep {
		d.help()
		<-ctx.Done()
	}
	if faults := result.Faults(); !result.OK {
		for _, fault := range faults {
			say("FAILED: " + fault)
		}
		return &exitError{code: exitFailure}
	}
	return nil
}

// demoRun is one run on a site that is up.
type demoRun struct {
	std       stdio
	flags     *demoFlags
	site      *demo.Site
	say       func(string)
	handovers []api.Handover
}

func (d *demoRun) run(ctx context.Context) (demo.Result, error) {
	adopting, cancel := context.WithTimeout(ctx, demo.StartWithin)
	defer cancel()
	d.say(demo.Service + ": adopting the master in " + demo.East + ", it becomes term 1")
	if err := d.site.Adopt(adopting, demo.Service, demo.East); err != nil {
		return demo.Result{}, err
	}
	load, err := d.site.Load(d.flags.rate)
	if err != nil {
		return demo.Result{}, err
	}
	err = d.switches(ctx, load)
	// What is in flight counts: judged is after the last answer.
	if err := errors.Join(err, load.Stop()); err != nil {
		return demo.Result{}, err
	}
	verdict, err := d.site.Judge(ctx, load)
	if err != nil {
		return demo.Result{}, err
	}
	return demo.Sum(d.handovers, load, &verdict), nil
}

// switches makes the switches, with the load running.
func (d *demoRun) switches(ctx context.Context, load *demo.Load) error {
	d.say(fmt.Sprintf("%d requests per second from both sides; the first switch in %s", d.flags.rate, demoWarmUp))
	rest := demoWarmUp
	for n := range d.flags.switches {
		if err := wait(ctx, rest); err != nil {
			return err
		}
		to := demo.West
		if n%2 == 1 {
			to = demo.East
		}
		h, err := d.one(ctx, to)
		if err != nil {
			return err
		}
		d.handovers = append(d.handovers, h)
		stats := load.Stats()
		d.say(fmt.Sprintf("switch %d of %d: %s; %d requests answered, %d failed so far\n", n+1, d.flags.switches, h.Outcome, stats.Answered, stats.Failed))
		rest = d.flags.pause
	}
	return wait(ctx, rest)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// one makes a switch and shows it while it happens.
func (d *demoRun) one(ctx context.Context, to string) (api.Handover, error) {
	ctx, cancel := context.WithTimeout(ctx, demoSwitchWithin)
	f := newFollower(stdio{in: d.std.in, out: d.std.err, err: d.std.err}, d.site.API(), demo.Service)
	defer f.listen(ctx, cancel)()
	f.opened(ctx)
	h, err := d.begin(ctx, to)
	if err != nil {
		return h, advise(err)
	}
	d.say(fmt.Sprintf("handover %s: %s", h.ID, heading(&h)))
	if h, err = f.toEnd(ctx, h); err != nil {
		return h, stillGoing(&h, err)
	}
	return h, nil
}

// begin orders a switch. Soon after the one before, an Envoy may not have said
// yet that it follows: what is not ready is waited for, and said once.
func (d *demoRun) begin(ctx context.Context, to string) (h api.Handover, err error) {
	return demo.Order(ctx, d.site.API(), api.SwitchRequest{Service: demo.Service, To: to, Reason: "signalbox demo"}, func(err error) {
		d.say("not ready yet: " + err.Error())
	})
}

// print ends a run: one document, or the table of all switches and the report
// of the last.
func (d *demoRun) print(r *demo.Result) error {
	return d.flags.output.write(d.std.out, r, func(w io.Writer, _ bool) error {
		if len(d.handovers) > 0 {
			if err := report.Terminal(w, &d.handovers[len(d.handovers)-1]); err != nil {
				return err
			}
		}
		fmt.Fprintln(w, "\nAll switches of this run; times in milliseconds")
		lines := make([][]string, 0, len(r.Switches))
		for _, s := range r.Switches {
			lines = append(lines, []string{
				s.From + " -> " + s.To, number(s.Term), s.Outcome, demoMS(s.HoldMS), demoMS(s.InterruptionMS),
				fmt.Sprint(s.Held), fmt.Sprint(s.Failed), demoMS(s.AddedP50MS), demoMS(s.AddedP99MS),
			})
		}
		if err := table(w, []string{"SWITCH", "TERM", "OUTCOME", "HOLD", "INTERRUPTION", "HELD", "FAILED", "ADDED P50", "ADDED P99"}, lines); err != nil {
			return err
		}
		q := r.Requests
		_, err := fmt.Fprintf(w, "\n%d requests, %d failed, %d held; p50 %s ms, p99 %s ms, max %s ms; overlap %s ms, %d requests with two masters\n",
			q.Total, q.Failed, q.Held, demoMS(q.P50MS), demoMS(q.P99MS), demoMS(q.MaxMS), demoMS(r.OverlapMS), r.DualMasterRequests)
		if err == nil && !d.flags.keep {
			_, err = fmt.Fprintln(w, "To look around while it runs: signalbox demo --keep")
		}
		return err
	})
}

func demoMS(v float64) string { return fmt.Sprintf("%.1f", v) }

// help says how to reach what keeps running.
func (d *demoRun) help() {
	d.say("\nIt keeps running until Ctrl-C. In another terminal:\n")
	d.say("  export SIGNALBOX_BUNDLE=" + d.site.OperatorBundle())
	for _, line := range []string{"status", "watch", "switch " + demo.Service + " --to " + demo.West, "proxy list", "instance list", "history", "cutover report " + demo.Service} {
		d.say("  signalbox " + line)
	}
	for _, e := range d.site.Envoys() {
		d.say(fmt.Sprintf("  curl -i -d '{\"id\":\"mine\"}' http://%s/orders    # through %s, a proxy of %s", e.Listener, e.Name, e.DataCenter))
	}
	d.say("\nLogs, keys, configuration and state are in " + d.site.Dir())
}
