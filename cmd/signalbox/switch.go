package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// orderFlags are the flags that a switch and its plan share.
type orderFlags struct {
	expect     string
	holdBudget time.Duration
	allowLate  bool
	glass      string
}

func (f *orderFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.expect, "expect", "", "what has to be certified now, as in east@7; else nothing is moved")
	cmd.Flags().DurationVar(&f.holdBudget, "hold-budget", 0, "the longest interruption, at most 15s (default the service's own)")
	cmd.Flags().BoolVar(&f.allowLate, "allow-late-proxies", false, "go on although a connected proxy does not acknowledge the hold in time")
	addGlass(cmd, &f.glass)
}

// request checks what can be checked here, so that mistakes are named before
// anybody is asked.
func (f *orderFlags) request(service, to string) (api.SwitchRequest, error) {
	if err := checkService(service); err != nil {
		return api.SwitchRequest{}, err
	}
	if err := signalbox.CheckName("data center", to); err != nil {
		return api.SwitchRequest{}, err
	}
	if f.expect != "" {
		if _, err := signalbox.ParseExpectation(f.expect); err != nil {
			return api.SwitchRequest{}, err
		}
	}
	if f.holdBudget != 0 && (f.holdBudget < time.Millisecond || f.holdBudget > signalbox.MaxHoldBudget) {
		return api.SwitchRequest{}, usagef("--hold-budget %s: write 1ms to %s", f.holdBudget, signalbox.MaxHoldBudget)
	}
	return api.SwitchRequest{Service: service, To: to, Expect: f.expect, HoldBudgetMS: f.holdBudget.Milliseconds(), AllowLateProxies: f.allowLate, BreakGlass: f.glass}, nil
}

func newSwitchCommand(std stdio) *cobra.Command {
	var order orderFlags
	var to, reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "switch SERVICE --to DC", Short: "Move a service's mastership to another data center", GroupID: groupDaily,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Moves a service's mastership. Requests are parked for some milliseconds, none fails, and no two data centers\n" +
			"serve at once. What happens is shown while it happens; the handover goes on when this command is interrupted.\n\n" +
			"Exit codes: 0 moved, 3 refused by a rule, 4 timed out and still going, 5 reverted (the old master serves on),\n" +
			"6 another handover is open or --expect does not hold.",
		Example: "  signalbox switch orders --to west --expect east@7 --reason 'power work in hall 3'\n  signalbox switch orders --to west --dry-run",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return checkGlass(cmd, order.glass) },
	}
	cmd.Flags().StringVar(&to, "to", "", "the data center that is to become master")
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown in the record")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and do nothing")
	_ = cmd.MarkFlagRequired("to") // fails for a flag that is not there only
	order.add(cmd)
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		request, err := order.request(args[0], to)
		if err != nil {
			return err
		}
		if dryRun {
			return showPlan(ctx, std, c, request, output)
		}
		request.Reason = reason
		key := client.NewKey() // one for this run: however often the order is repeated, it happens once
		by, err := newSigner(cmd)
		if err != nil {
			return err
		}
		f := newFollower(std, c, args[0])
		return f.run(ctx, wait, output, f.whenApproved(wait.wait, func(ctx context.Context) (api.Handover, error) {
			if err := by.switching(ctx, c, key, &request); err != nil {
				return api.Handover{}, err
			}
			return c.Switch(ctx, key, request)
		}), func(h *api.Handover) int { return forwardOr(h, to, exitReverted) })
	})
	return cmd
}

// forwardOr is 0 when the handover made to master, else otherwise.
func forwardOr(h *api.Handover, to string, otherwise int) int {
	if h.Outcome == api.OutcomeForward && h.To == to {
		return exitOK
	}
	return otherwise
}
