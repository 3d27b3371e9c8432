package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

// approvalPoll is how often an order that waits for approval is given again; it
// is the same order each time.
const approvalPoll = time.Second

// whenApproved gives an order, and gives it again while it waits for others to
// approve: they may be asleep, so it says at once whom it needs.
func (f *follower) whenApproved(wait bool, order func(context.Context) (api.Handover, error)) func(context.Context) (api.Handover, error) {
	return func(ctx context.Context) (api.Handover, error) {
		told := false
		for {
			h, err := order(ctx)
			var p *api.Problem
			if err == nil || !errors.As(err, &p) || p.Code != api.CodeApproval || !wait {
				return h, err
			}
			if !told {
				told = true
				fmt.Fprintln(f.std.err, clean(fmt.Sprintf("%s: %s\n  %s\n  waiting; it begins without this command too", f.service, p.Detail, p.Do)))
			}
			timer := time.NewTimer(approvalPoll)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return h, withCode(exitTimeout, errors.New(clean(fmt.Sprintf("%s: order %s still waits for approval, and begins with the last one\n  %s\n  follow it: signalbox watch --handover %s",
					whyEnded(ctx.Err()), p.Handover, p.Do, p.Handover))))
			}
		}
	}
}

func newApproveCommand(std stdio) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "approve ID", Short: "Approve an order of somebody else; with the last approval it begins", Args: cobra.ExactArgs(1),
		Long: "Approves the order that waits under this id, as the operator of the bundle, who must not be the one who asked.\n" +
			"With the last approval that is needed it begins, exactly as it was ordered, and is shown here. When it cannot\n" +
			"begin yet, mend what it names and approve again.",
		Example: "  signalbox service rules orders    # what waits, who asked and why\n  signalbox cutover approve orders-k3j9x0qm2dab --reason 'looked at the dashboards'",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown in the events")
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		by, err := newSigner(cmd)
		if err != nil {
			return err
		}
		mandate, of, err := by.approve(ctx, c, args[0], reason)
		if err != nil {
			return err
		}
		if of != nil {
			fmt.Fprintln(std.err, clean(mandateText(of)))
		}
		reply, err := c.Approve(ctx, client.NewKey(), args[0], api.ReasonRequest{Reason: reason, Mandate: mandate})
		if err != nil {
			return err
		}
		if reply.Handover == nil {
			return output.write(std.out, reply, func(w io.Writer, _ bool) error {
				_, err := fmt.Fprintln(w, clean(reply.Order.Service+": "+orderText(&reply.Order)))
				return err
			})
		}
		h := *reply.Handover
		return newFollower(std, c, h.Service).run(ctx, wait, output, func(context.Context) (api.Handover, error) { return h, nil },
			func(end *api.Handover) int { return forwardOr(end, h.To, exitReverted) })
	})
	return cmd
}

func newRevertCommand(std stdio) *cobra.Command {
	var request api.RevertRequest
	cmd := &cobra.Command{
		Use: "revert ID|SERVICE --reason WHY", Short: "Take a handover back: give it up, or switch back", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Takes a handover back, or a service's newest one. While it can be given up, it is: the old master serves on.\n" +
			"When it is done, the service is switched back, which checks what every switch checks.\n\n" +
			"Exit codes: 0 the data center before is master, 3 refused by a rule or too late, 4 timed out and still going,\n" +
			"5 the way back was given up itself, 6 conflict.",
		Example: "  signalbox cutover revert orders --reason 'errors after the switch'",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return checkGlass(cmd, request.BreakGlass) },
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why; shown in the record")
	cmd.Flags().BoolVar(&request.AllowLateProxies, "allow-late-proxies", false, "go on although a connected proxy does not acknowledge the hold in time")
	addGlass(cmd, &request.BreakGlass)
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		h, err := findHandover(ctx, c, args[0])
		if err != nil {
			return err
		}
		by, err := newSigner(cmd)
		if err != nil {
			return err
		}
		key := client.NewKey()
		f := newFollower(std, c, h.Service)
		return f.run(ctx, wait, output, f.whenApproved(wait.wait, func(ctx context.Context) (api.Handover, error) {
			if err := by.revert(ctx, c, key, &h, &request); err != nil {
				return api.Handover{}, err
			}
			reply, err := c.Revert(ctx, key, h.ID, request)
			return reply.Handover, err
		}), func(end *api.Handover) int {
			back := end.Outcome == api.OutcomeForward && end.To == h.From || end.Outcome == api.OutcomeFallback && end.From == h.From
			if back {
				return exitOK
			}
			return exitReverted
		})
	})
	return cmd
}

// addGlass adds --break-glass; its value is the reason.
func addGlass(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "break-glass", "", "override the safety rules that block, for this `reason`; it is shown for ever")
}

func checkGlass(cmd *cobra.Command, reason string) error {
	if cmd.Flags().Changed("break-glass") && reason == "" {
		return usagef("--break-glass: write the reason: it is shown for ever")
	}
	return nil
}
