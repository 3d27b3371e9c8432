// Command bench measures what a switch costs: Signalbox beside its floor (the same Envoys, instances and load, hold and
// release by bare xDS pushes) and beside what people use today, in one run on one machine. It prints a Markdown table
// with ratios to the floor and keeps it under docs/benchmarks/.
//
// It guarantees that all systems of one configuration see the same load on the same number of proxies with the same
// threads, in turns, so that a machine that changes changes for all; that requests count from when they were due; and
// that what it started is gone when it ends. It does not guarantee a quiet machine: compare what stands in one table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/signalbox-io/signalbox/examples/demo"
	"github.com/signalbox-io/signalbox/tests/lab"
)

// config is a number of Envoys over both data centers and a rate over all of them.
type config struct{ envoys, rate int }

func (c config) String() string { return fmt.Sprintf("%d Envoys, %d/s", c.envoys, c.rate) }

type options struct {
	configs  []config
	switches int
	// failovers are the data centers to kill, with the order given at once; a sixth as many more are left to themselves.
	failovers int
	quick     bool
	only      map[string]bool
	out       string
	records   string
	within    time.Duration
	binaries  demo.Binaries
	command   string
	say       func(format string, args ...any)
}

func main() {
	lab.Serve()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if o.only[sectionWAN] {
		if err := lab.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// part is one section of a run.
type part struct {
	name string
	run  func(context.Context, options, *report) error
}

func parts() []part {
	return []part{
		{"switches", runSwitches}, {"slow", runSlow}, {"peers", runPeers},
		{"services", runServices}, {"steady", runSteady}, {"guard", runGuard},
		{"failover", runFailover}, {sectionWAN, runWAN},
	}
}

func parse(args []string) (options, error) {
	o := options{only: map[string]bool{}, command: "make bench"}
	if len(args) > 0 {
		o.command += " BENCH_FLAGS='" + strings.Join(args, " ") + "'"
	}
	var names, usual []string
	for _, p := range parts() {
		names = append(names, p.name)
		if p.name != sectionWAN {
			usual = append(usual, p.name)
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	configs := flags.String("configs", "", "Envoys:requests per second, over both data centers; default "+usualConfigs+", or "+wanConfig+" for "+sectionWAN)
	only := flags.String("only", strings.Join(usual, ","), "sections of the run; "+sectionWAN+" is made alone, by root")
	bin := flags.String("bin", "bin", "folder with the built signalbox and orders")
	flags.IntVar(&o.switches, "switches", 50, "switches of each system in each configuration")
	flags.IntVar(&o.failovers, "failovers", 30, "data centers to kill in the section failover")
	flags.BoolVar(&o.quick, "quick", false, "see that it works: 3 switches in the first configuration, 2 failovers, and little of the rest")
	flags.StringVar(&o.out, "out", "", "file for the result, default "+pageOf("")+", or "+pageOf(sectionWAN)+"; - for none")
	flags.StringVar(&o.records, "records", "", "file to append every cutover record to, one JSON document a line")
	flags.DurationVar(&o.within, "within", 40*time.Minute, "end with an error after this time")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.switches < 1 || o.switches > maxSwitches {
		return o, fmt.Errorf("-switches %d: write 1 to %d", o.switches, maxSwitches)
	}
	if o.failovers < 1 || o.failovers > maxSwitches {
		return o, fmt.Errorf("-failovers %d: write 1 to %d", o.failovers, maxSwitches)
	}
	for name := range strings.SplitSeq(*only, ",") {
		if !strings.Contains(","+strings.Join(names, ",")+",", ","+name+",") {
			return o, fmt.Errorf("-only %q: the sections are %s", name, strings.Join(names, ", "))
		}
		o.only[name] = true
	}
	if o.only[sectionWAN] && len(o.only) > 1 {
		return o, fmt.Errorf("-only %q: %s is made alone, for it has a page of its own", *only, sectionWAN)
	}
	if o.out == "" {
		o.out = pageOf(*only)
	}
	if *configs == "" {
		*configs = usualConfigs
		if *only == sectionWAN {
			*configs = wanConfig
		}
	}
	var err error
	if o.configs, err = readConfigs(*configs); err != nil {
		return o, err
	}
	if o.quick {
		o.configs, o.switches, o.failovers = o.configs[:1], 3, 2
	}
	path, err := filepath.Abs(filepath.Join(*bin, "signalbox"))
	if err != nil {
		return o, err
	}
	o.binaries, err = demo.FindBinaries(path)
	return o, err
}

const usualConfigs = "4:500,4:2000,8:2000,16:500"

// pageOf is the file that sections are written to.
func pageOf(only string) string {
	if only == sectionWAN {
		return filepath.Join("docs", "benchmarks", "wan.md")
	}
	return filepath.Join("docs", "benchmarks", "switchover.md")
}

// maxSwitches bounds one run: the logs of its load are kept in memory when the oracle judges.
const maxSwitches = 1000

func readConfigs(text string) (out []config, err error) {
	for one := range strings.SplitSeq(text, ",") {
		envoys, rate, ok := strings.Cut(one, ":")
		n, err1 := strconv.Atoi(envoys)
		r, err2 := strconv.Atoi(rate)
		if !ok || err1 != nil || err2 != nil || n < 2 || n%2 != 0 || n > 2*demo.MaxEnvoys || r < 1 {
			return nil, fmt.Errorf("configuration %q: write an even number of Envoys, a colon and a rate, as in 4:500", one)
		}
		out = append(out, config{n, r})
	}
	return out, nil
}

// run makes all sections and writes what they found, also when a later one failed.
func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.within)
	defer cancel()
	begin := time.Now()
	o.say = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs  "+format+"\n", append([]any{time.Since(begin).Seconds()}, args...)...)
	}
	r, err := newReport(ctx, o)
	if err != nil {
		return err
	}
	for _, p := range parts() {
		if !o.only[p.name] {
			continue
		}
		if err := p.run(ctx, o, r); err != nil {
			fmt.Print(r.finish()) // what was measured so far
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	text := r.finish()
	fmt.Print(text)
	if o.out == "-" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.out, []byte(text), 0o644)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
