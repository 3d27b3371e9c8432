package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newCutoverCommand(std stdio) *cobra.Command {
	return group("cutover", "Look at a handover, approve it, or take it back", groupDaily, newReportCommand(std), newGiveUpCommand(std), newApproveCommand(std), newRevertCommand(std))
}

func newGiveUpCommand(std stdio) *cobra.Command {
	var request api.GiveUpRequest
	cmd := &cobra.Command{
		Use: "give-up ID", Short: "Give up an open handover: the old master goes on", Args: cobra.ExactArgs(1),
		Long: "Asks the old master's instances to refuse, which certifies the fallback: the old data center serves on, and\n" +
			"what was parked goes there. Too late once the new master is certified (exit code 3): switch back then.",
	}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why; shown in the record")
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		h, err := c.Handover(ctx, args[0])
		if err != nil {
			return err
		}
		key := client.NewKey()
		return newFollower(std, c, h.Service).run(ctx, wait, output, func(ctx context.Context) (api.Handover, error) {
			return c.GiveUp(ctx, key, h.ID, request)
		}, func(end *api.Handover) int {
			if end.Outcome == api.OutcomeFallback {
				return exitOK
			}
			return exitFailure // it was certified meanwhile: the summary says who is master
		})
	})
	return cmd
}
