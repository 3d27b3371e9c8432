package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/gateway/api/report"
)

const formatHTML = "html"

func newReportCommand(std stdio) *cobra.Command {
	var certificate string
	cmd := &cobra.Command{
		Use: "report ID|SERVICE", Short: "Show the report of a handover", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Shows the one page that ends a handover: phases with times, the ack matrix, requests held and failed where\n" +
			"somebody counted them, who asked and why, and the certificate. A service's name shows its newest handover.",
		Example: "  signalbox cutover report orders\n  signalbox cutover report orders-k3j9x0qm2dab -o html > report.html",
	}
	cmd.Flags().StringVar(&certificate, "certificate", "", "save the certificate to this file, for `signalbox verify`")
	output := new(outputFlag)
	cmd.Flags().VarP(&formatValue{output, []string{formatTable, formatHTML, formatJSON, formatYAML}}, "output", "o", "output: table|html|json|yaml")
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		h, err := findHandover(ctx, c, args[0])
		if err != nil {
			return err
		}
		if certificate != "" {
			data, err := c.Certificate(ctx, h.ID)
			if err != nil {
				return err
			}
			if err := os.WriteFile(certificate, data, 0o644); err != nil {
				return fmt.Errorf("save certificate: %w", err)
			}
			fmt.Fprintf(std.err, "certificate saved to %s; check it: signalbox verify %s --keys KEYS\n", certificate, certificate)
		}
		if *output == formatHTML {
			return report.HTML(std.out, &h)
		}
		return output.write(std.out, h, func(w io.Writer, _ bool) error { return report.Terminal(w, &h) })
	})
	return cmd
}

// findHandover looks for a handover by its id, then for the newest of a service.
func findHandover(ctx context.Context, c *client.Client, name string) (api.Handover, error) {
	h, err := c.Handover(ctx, name)
	if !errors.Is(err, signalbox.ErrUnknown) {
		return h, err
	}
	list, listErr := c.Handovers(ctx, name, 1)
	if listErr != nil || len(list) == 0 {
		return api.Handover{}, err
	}
	return c.Handover(ctx, list[0].ID)
}
