package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/gateway/api/report"
)

func newPlanCommand(std stdio) *cobra.Command {
	var order orderFlags
	cmd := &cobra.Command{
		Use: "plan SERVICE TO", Short: "Show what a switch would do, and what blocks it", GroupID: groupDaily,
		Args: cobra.ExactArgs(2), ValidArgsFunction: completeServices,
		Long:    "Shows what a switch would do: who has to give evidence, who would become master, every check, and how long\nrequests would be parked. Nothing is done. Exit code 3 when something blocks it.",
		Example: "  signalbox plan orders west",
	}
	order.add(cmd)
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		request, err := order.request(args[0], args[1])
		if err != nil {
			return err
		}
		return showPlan(ctx, std, c, request, output)
	})
	return cmd
}

// showPlan prints the plan; one that is blocked is exit code 3.
func showPlan(ctx context.Context, std stdio, c *client.Client, request api.SwitchRequest, output *outputFlag) error {
	plan, err := c.Plan(ctx, request)
	if err != nil {
		return err
	}
	return printPlan(std, &plan, output)
}

func planText(w io.Writer, p *api.Plan, wide bool) error {
	if p.Current == "" {
		fmt.Fprintln(w, clean(fmt.Sprintf("%s: no master yet -> %s\n", p.Service, p.To)))
	} else {
		fmt.Fprintln(w, clean(fmt.Sprintf("%s: %s -> %s, term %d (when given up: %s on, at term %d)\n", p.Service, p.Current, p.To, p.Term, p.From, p.FallbackTerm)))
	}
	var lines [][]string
	for _, c := range p.Checks {
		result, detail := checkResult(c)
		if !c.OK && (c.Name == "drivers" || c.Name == "step-down") {
			detail = "see below: what drivers name"
		}
		lines = append(lines, []string{c.Name, result, detail})
	}
	if err := table(w, []string{"CHECK", "RESULT", "DETAIL"}, lines); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nmust give evidence (%s counts): %d\n", strings.ReplaceAll(clean(p.Allowed), "+", " or "), len(p.Roster))
	if err := memberTable(w, p.Roster, wide); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nbecome master: %d\n", len(p.Incoming))
	if err := memberTable(w, p.Incoming, wide); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := namedTable(w, append(slices.Clone(p.Roster), p.Incoming...)); err != nil {
		return err
	}
	return planVerdict(w, p)
}

// namedTable lists what the drivers of those who take part name: transactions
// that run for long, for example, with their age.
func namedTable(w io.Writer, members []api.Member) error {
	var lines [][]string
	for _, m := range members {
		for _, p := range m.Problems {
			name := p.Name
			if p.Refuses {
				name += " (refuses)"
			}
			lines = append(lines, []string{m.Instance, name, p.What, p.Do})
		}
	}
	if len(lines) == 0 {
		return nil
	}
	fmt.Fprintln(w, "what drivers name:")
	if err := table(w, []string{"INSTANCE", "PROBLEM", "WHAT", "DO"}, lines); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

func memberTable(w io.Writer, members []api.Member, wide bool) error {
	if len(members) == 0 {
		return nil
	}
	heading := []string{"INSTANCE", "DATA CENTER", "STATE", "IN FLIGHT", "PROBLEM"}
	if wide {
		heading = append(heading, "IDENTITY", "ADMISSION")
	}
	var lines [][]string
	for _, m := range members {
		cells := []string{m.Instance, m.DataCenter, m.State, number(m.InFlight), m.Problem}
		if wide {
			cells = append(cells, m.Identity, number(m.Admission))
		}
		lines = append(lines, cells)
	}
	return table(w, heading, lines)
}

func planVerdict(w io.Writer, p *api.Plan) error {
	if !p.Ready {
		fmt.Fprintln(w, "Blocked:")
		for _, b := range p.Blocks {
			fmt.Fprintln(w, "  "+clean(b))
		}
		return nil
	}
	hold := "how long is not known yet"
	if p.PredictedHoldMS > 0 {
		hold = "about " + report.Milliseconds(p.PredictedHoldMS)
		if p.PredictedFrom != "" {
			hold += " (" + p.PredictedFrom + ")"
		}
	}
	_, err := fmt.Fprintln(w, clean(fmt.Sprintf("Ready. %d proxies would park requests: %s, at most %s.", p.Proxies, hold, budget(p.HoldBudgetMS))))
	return err
}
