package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newReadinessCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "readiness [SERVICE]", Short: "Show whether services could be moved now, and what would block", GroupID: groupDaily,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeServices,
		Long: "Shows for each service and data center whether it could be moved there now: standing instances, lag, proxies, rules;\n" +
			"and what concerns all: voters, journals, the expiry of certificates. -o wide shows every check. Gateways look at it\n" +
			"every 5 s, as metrics too. Exit code 3 when something blocks.",
		Example: "  signalbox readiness\n  signalbox readiness orders -o wide",
	}
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		service := ""
		if len(args) == 1 {
			service = args[0]
		}
		r, err := c.Readiness(ctx, service)
		if err != nil {
			return err
		}
		if err := output.write(std.out, r, func(w io.Writer, wide bool) error { return readinessText(w, &r, wide) }); err != nil {
			return err
		}
		if !r.Ready {
			return &exitError{code: exitRefused}
		}
		return nil
	})
	return cmd
}

func readinessText(w io.Writer, r *api.Readiness, wide bool) error {
	var lines, checks [][]string
	for _, s := range r.Services {
		for _, t := range s.Targets {
			lines = append(lines, []string{s.Service, s.Master, number(s.Term), of(s.Serving, s.Instances), t.DataCenter, yes(t.Ready), of(t.Standing, t.Instances), lag(t)})
			checks = append(checks, checkRows(s.Service, t.DataCenter, t.Checks, wide)...)
		}
	}
	if err := table(w, []string{"SERVICE", "MASTER", "TERM", "SERVING", "MOVE TO", "READY", "STANDING", "LAG"}, lines); err != nil {
		return err
	}
	checks = append(checkRows("all", "all", r.Checks, wide), checks...)
	if len(checks) == 0 {
		_, err := fmt.Fprintln(w, "\nNothing stands in the way.")
		return err
	}
	fmt.Fprintln(w)
	return table(w, []string{"SERVICE", "MOVE TO", "CHECK", "RESULT", "DETAIL"}, checks)
}

func lag(t api.TargetReadiness) string {
	var parts []string
	if t.LagBytes > 0 {
		parts = append(parts, number(t.LagBytes)+" B")
	}
	if t.LagMS > 0 {
		parts = append(parts, (time.Duration(t.LagMS) * time.Millisecond).String())
	}
	return strings.Join(parts, ", ")
}

// checkRows lists the checks that are not ok, or all.
func checkRows(service, to string, checks []api.Check, all bool) (lines [][]string) {
	for _, c := range checks {
		if c.OK && !all {
			continue
		}
		result, detail := checkResult(c)
		lines = append(lines, []string{service, to, c.Name, result, detail})
	}
	return lines
}

func checkResult(c api.Check) (result, detail string) {
	result, detail = "ok", c.Detail
	switch {
	case !c.OK && c.Blocking:
		result = "BLOCKS"
	case !c.OK:
		result = "warning"
	}
	if !c.OK && c.Do != "" {
		detail += " (" + c.Do + ")"
	}
	return result, detail
}
