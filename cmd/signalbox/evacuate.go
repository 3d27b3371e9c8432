package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/gateway/api/report"
)

// maxParallel is how many services an evacuation moves at once at most.
const maxParallel = 16

// evacuateFlags are those of evacuate.
type evacuateFlags struct {
	to, reason, glass string
	parallel          int
	dryRun, allowLate bool
}

func newEvacuateCommand(std stdio) *cobra.Command {
	var flags evacuateFlags
	cmd := &cobra.Command{
		Use: "evacuate DC", Short: "Move all services out of a data center, in dependency order", GroupID: groupDaily, Args: cobra.ExactArgs(1),
		Long: "Moves every service whose master is in DC to another data center: what others depend on first (depends_on in the\n" +
			"gateways' configuration), several at once. When one fails, what depends on it stays and says so; the others go on.\n" +
			"Interrupted or repeated, it takes up what is left.\n\n" +
			"Exit codes: 0 all moved, 3 some were refused by a rule, 4 some timed out and are still going, 5 some were reverted,\n" +
			"6 some were in another handover.",
		Example: "  signalbox evacuate east --dry-run\n  signalbox evacuate east --reason 'power work in hall 3' --parallel 8",
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if err := signalbox.CheckName("data center", args[0]); err != nil {
				return err
			}
			if flags.parallel < 1 || flags.parallel > maxParallel {
				return usagef("--parallel %d: write 1 to %d", flags.parallel, maxParallel)
			}
			return checkGlass(cmd, flags.glass)
		},
	}
	cmd.Flags().StringVar(&flags.to, "to", "", "the data center that all go to (default: for each service the first that is ready)")
	cmd.Flags().StringVar(&flags.reason, "reason", "", "why; shown in the records")
	cmd.Flags().IntVar(&flags.parallel, "parallel", 4, "how many services are moved at once, 1 to 16")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "show the plan and do nothing")
	cmd.Flags().BoolVar(&flags.allowLate, "allow-late-proxies", false, "go on although a connected proxy does not acknowledge the hold in time")
	addGlass(cmd, &flags.glass)
	timeout := cmd.Flags().Duration("timeout", 10*time.Minute, "how long to wait for all; handovers go on afterwards")
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		plan, err := c.Evacuation(ctx, args[0], flags.to)
		if err != nil {
			return err
		}
		if flags.dryRun {
			return showEvacuation(std, &plan, output)
		}
		ctx, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		moves := newEvacuation(std, c, &plan, flags)
		if moves.by, err = newSigner(cmd); err != nil {
			return err
		}
		result := moves.run(ctx)
		if err := output.write(std.out, result, func(w io.Writer, _ bool) error { return resultText(w, result) }); err != nil {
			return err
		}
		if code := result.exitCode(); code != exitOK {
			return &exitError{code: code}
		}
		return nil
	})
	return cmd
}

// showEvacuation prints the plan; one of which a leg is blocked is exit code 3.
func showEvacuation(std stdio, plan *api.Evacuation, output *outputFlag) error {
	if err := output.write(std.out, plan, func(w io.Writer, _ bool) error { return evacuationText(w, plan) }); err != nil {
		return err
	}
	if !plan.Ready {
		return &exitError{code: exitRefused}
	}
	return nil
}

func evacuationText(w io.Writer, p *api.Evacuation) error {
	if len(p.Legs) == 0 {
		_, err := fmt.Fprintln(w, clean(p.DataCenter+": no service has its master here"))
		return err
	}
	var lines [][]string
	for _, l := range p.Legs {
		hold := ""
		if l.PredictedHoldMS > 0 {
			hold = report.Milliseconds(l.PredictedHoldMS)
		}
		lines = append(lines, []string{l.Service, l.Current, l.To, strings.Join(l.After, ","), yes(l.Ready), hold, strings.Join(l.Blocks, "; ")})
	}
	return table(w, []string{"SERVICE", "NOW", "TO", "AFTER", "READY", "HOLD", "BLOCKS"}, lines)
}

// resultText is what an evacuation ends with.
func resultText(w io.Writer, r *evacuated) error {
	if len(r.Legs) == 0 {
		_, err := fmt.Fprintln(w, clean(r.DataCenter+": no service has its master here"))
		return err
	}
	var lines [][]string
	for _, l := range r.Legs {
		lines = append(lines, []string{l.Service, l.To, l.Result, l.Handover, millis(l.HoldMS), l.Detail})
	}
	if err := table(w, []string{"SERVICE", "TO", "RESULT", "HANDOVER", "HELD", "DETAIL"}, lines); err != nil {
		return err
	}
	left := r.left()
	if len(left) == 0 {
		_, err := fmt.Fprintln(w, clean(r.DataCenter+": all services have moved"))
		return err
	}
	_, err := fmt.Fprintln(w, clean(fmt.Sprintf("%s: %d of %d services are left: %s\nMend what is named, then again: signalbox evacuate %s", r.DataCenter, len(left), len(r.Legs), strings.Join(left, ", "), r.DataCenter)))
	return err
}
