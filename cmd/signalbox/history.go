package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newHistoryCommand(std stdio) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history [SERVICE]", Short: "List what was moved, when and by whom", GroupID: groupDaily,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeServices,
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many at most, newest first")
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		if limit < 1 {
			return usagef("--limit %d: write at least 1", limit)
		}
		service := ""
		if len(args) == 1 {
			service = args[0]
			if _, err := c.Service(ctx, service); err != nil {
				return err
			}
		}
		list, err := c.Handovers(ctx, service, limit)
		if err != nil {
			return err
		}
		return output.write(std.out, api.HandoverList{Handovers: list}, func(w io.Writer, wide bool) error { return historyTable(w, list, wide) })
	})
	return cmd
}

// outcomeText marks broken glass for ever.
func outcomeText(h *api.Handover) string {
	if h.BreakGlass != nil {
		return h.Outcome + " (BREAK-GLASS)"
	}
	return h.Outcome
}

func reasonText(h *api.Handover) string {
	if h.BreakGlass == nil {
		return h.Reason
	}
	return strings.TrimPrefix(h.Reason+"; "+glassText(h.BreakGlass), "; ")
}

func historyTable(w io.Writer, list []api.Handover, wide bool) error {
	heading := []string{"STARTED", "ID", "SERVICE", "FROM", "TO", "TERM", "OUTCOME", "HELD", "BY"}
	if wide {
		heading = append(heading, "LATE PROXIES", "GIVEN UP", "REASON")
	}
	var lines [][]string
	for _, h := range list {
		term := h.CertifiedTerm
		if term == 0 {
			term = h.Term
		}
		cells := []string{moment(&h.Started), h.ID, h.Service, h.From, h.To, number(term), outcomeText(&h), millis(h.HoldMS), h.By}
		if wide {
			cells = append(cells, number(uint64(len(h.LateProxies))), h.GivenUp, reasonText(&h))
		}
		lines = append(lines, cells)
	}
	return table(w, heading, lines)
}
