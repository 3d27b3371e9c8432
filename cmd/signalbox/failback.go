package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newFailbackCommand(std stdio) *cobra.Command {
	var order orderFlags
	var request api.FailbackRequest
	cmd := &cobra.Command{
		Use: "failback SERVICE", Short: "Move a service back to where it was before its last move", GroupID: groupDaily,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Switches a service back to the data center that it was in before its last switch or failover. It says first what\n" +
			"that side still has to do: whose agent is not back, who is not ready or has not caught up.\n\n" +
			"Exit codes: as of switch.",
		Example: "  signalbox failback orders --dry-run\n  signalbox failback orders --reason 'east is back'",
		PreRunE: func(cmd *cobra.Command, args []string) error {
			checked, err := order.request(args[0], "any")
			request.Expect, request.HoldBudgetMS, request.AllowLateProxies = checked.Expect, checked.HoldBudgetMS, checked.AllowLateProxies
			request.BreakGlass = checked.BreakGlass
			if err == nil {
				err = checkGlass(cmd, request.BreakGlass)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why; shown in the record")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "show the plan and do nothing")
	order.add(cmd)
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		key := client.NewKey()
		if request.DryRun {
			reply, err := c.Failback(ctx, key, args[0], request)
			if err != nil {
				return err
			}
			return printPlan(std, reply.Plan, output)
		}
		by, err := newSigner(cmd)
		if err != nil {
			return err
		}
		f := newFollower(std, c, args[0])
		to := ""
		return f.run(ctx, wait, output, f.whenApproved(wait.wait, func(ctx context.Context) (api.Handover, error) {
			if err := by.failback(ctx, c, key, args[0], &request); err != nil {
				return api.Handover{}, err
			}
			reply, err := c.Failback(ctx, key, args[0], request)
			if err != nil {
				return api.Handover{}, err
			}
			to = reply.Handover.To
			return *reply.Handover, nil
		}), func(h *api.Handover) int { return forwardOr(h, to, exitReverted) })
	})
	return cmd
}

// printPlan prints a plan; one that is blocked is exit code 3.
func printPlan(std stdio, plan *api.Plan, output *outputFlag) error {
	if err := output.write(std.out, plan, func(w io.Writer, wide bool) error { return planText(w, plan, wide) }); err != nil {
		return err
	}
	if !plan.Ready {
		return &exitError{code: exitRefused}
	}
	return nil
}
