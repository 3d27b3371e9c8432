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
)

func newFailoverCommand(std stdio) *cobra.Command {
	var request api.FailoverRequest
	var holdBudget time.Duration
	var attest bool
	cmd := &cobra.Command{
		Use: "failover SERVICE --to DC", Short: "Move a service whose master cannot answer", GroupID: groupDaily,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Moves a service away from a data center that is dead, cut off or stuck. Whoever of the old side can be reached is\n" +
			"asked for its ack first. For the others the evidence counts that the service's configuration allows: a lapse of\n" +
			"their leases (signed by voters), a fence (a plugin confirmed that they are off) or an operator's attest. Silence\n" +
			"counts for nothing: without evidence for every one of them the failover waits, and says for whom. It cannot be\n" +
			"given up, because the evidence may be given already.\n\n" +
			"With --attest you take responsibility with your own key that the instances which cannot be reached are off and\n" +
			"stay off until they ask the voters again. --reason is mandatory then, and it is shown for ever.\n\n" +
			"Exit codes: 0 moved, 3 refused by a rule, 4 timed out and still going, 5 another handover superseded it,\n" +
			"6 --expect does not hold or another order came first.",
		Example: "  signalbox failover orders --to west --dry-run\n" +
			"  signalbox failover orders --to west --attest --reason 'hall 3 has no power, seen on site'",
		PreRunE: func(cmd *cobra.Command, args []string) error {
			request.Service, request.HoldBudgetMS = args[0], holdBudget.Milliseconds()
			return checkFailover(cmd, &request, holdBudget, attest)
		},
	}
	cmd.Flags().StringVar(&request.To, "to", "", "the data center that is to become master")
	cmd.Flags().StringVar(&request.Evidence, "evidence", "", "what counts beside acks and leaves: lapse, fence, attest, joined by + (default all that the service allows)")
	cmd.Flags().BoolVar(&attest, "attest", false, "attest for the instances that cannot be reached; needs --reason")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why; shown in the record, and in every attest")
	cmd.Flags().StringVar(&request.Expect, "expect", "", "what has to be certified now, as in east@7; else nothing is moved")
	cmd.Flags().DurationVar(&holdBudget, "hold-budget", 0, "how long who can be reached has for its ack, at most 15s (default the service's own)")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "show what it would wait for, and do nothing")
	addGlass(cmd, &request.BreakGlass)
	_ = cmd.MarkFlagRequired("to") // fails for a flag that is not there only
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		key := client.NewKey()
		plan, err := dryFailover(ctx, c, key, request)
		if err != nil {
			return err
		}
		if request.DryRun {
			return printFailover(std, plan, output)
		}
		for _, line := range waitsFor(plan) {
			fmt.Fprintln(std.err, clean(line))
		}
		if plan.ExpectedLoss != nil {
			fmt.Fprintln(std.err, clean("expected loss, unless the old master itself gives evidence: "+plan.ExpectedLoss.Words()))
		}
		signs, by, err := rescuers(cmd, attest)
		if err != nil {
			return err
		}
		f := newFollower(std, c, args[0])
		return f.run(ctx, wait, output, f.whenApproved(wait.wait, func(ctx context.Context) (api.Handover, error) {
			if err := signs.failover(ctx, c, key, &request, plan); err != nil {
				return api.Handover{}, err
			}
			reply, err := c.Failover(ctx, key, request)
			if err != nil {
				return api.Handover{}, err
			}
			if by == nil {
				return *reply.Handover, nil
			}
			return *reply.Handover, by.silent(ctx, std, c, reply.Handover.ID, request.Reason)
		}), func(h *api.Handover) int { return forwardOr(h, request.To, exitReverted) })
	})
	return cmd
}

// rescuers sign the order and, where that is wanted, attests.
func rescuers(cmd *cobra.Command, attest bool) (signs *signer, by *attester, err error) {
	if signs, err = newSigner(cmd); err == nil && attest {
		by, err = newAttester(cmd)
	}
	return signs, by, err
}

func checkFailover(cmd *cobra.Command, r *api.FailoverRequest, holdBudget time.Duration, attest bool) error {
	order := orderFlags{expect: r.Expect, holdBudget: holdBudget}
	if _, err := order.request(r.Service, r.To); err != nil {
		return err
	}
	if _, err := signalbox.ParseEvidenceKinds(r.Evidence); err != nil {
		return err
	}
	if attest && r.Reason == "" {
		return usagef("--attest needs --reason: it is signed with your key and shown for ever")
	}
	return checkGlass(cmd, r.BreakGlass)
}

// dryFailover plans the failover: what it will wait for is said before it begins.
func dryFailover(ctx context.Context, c *client.Client, key string, r api.FailoverRequest) (*api.FailoverPlan, error) {
	r.DryRun = true
	reply, err := c.Failover(ctx, key+"-plan", r)
	return reply.Plan, err
}

func printFailover(std stdio, p *api.FailoverPlan, output *outputFlag) error {
	err := output.write(std.out, p, func(w io.Writer, wide bool) error { return failoverText(w, p, wide) })
	if err == nil && !p.Ready {
		return &exitError{code: exitRefused}
	}
	return err
}

func failoverText(w io.Writer, p *api.FailoverPlan, wide bool) error {
	fmt.Fprintln(w, clean(fmt.Sprintf("%s: %s -> %s, term %d; it cannot be given up", p.Service, p.Current, p.To, p.Term)))
	if p.Supersedes != "" {
		fmt.Fprintln(w, clean("supersedes handover "+p.Supersedes+", which is open"))
	}
	fmt.Fprintln(w)
	var lines [][]string
	for _, c := range p.Checks {
		result, detail := checkResult(c)
		lines = append(lines, []string{c.Name, result, detail})
	}
	if err := table(w, []string{"CHECK", "RESULT", "DETAIL"}, lines); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, line := range waitsFor(p) {
		fmt.Fprintln(w, clean(line))
	}
	if p.ExpectedLoss != nil {
		fmt.Fprintln(w, clean("expected loss, unless the old master itself gives evidence: "+p.ExpectedLoss.Words()))
	}
	fmt.Fprintf(w, "\nbecome master: %d\n", len(p.Incoming))
	if err := memberTable(w, p.Incoming, wide); err != nil {
		return err
	}
	if !p.Ready {
		fmt.Fprintln(w, "\nBlocked:")
		for _, b := range p.Blocks {
			fmt.Fprintln(w, "  "+clean(b))
		}
	}
	return nil
}

// waitsFor says whom a failover waits for, for what, and how long at most.
func waitsFor(p *api.FailoverPlan) []string {
	if len(p.Waits) == 0 {
		return []string{"waits for nobody: nobody outside " + p.To + " could still serve"}
	}
	var out []string
	for _, w := range p.Waits {
		state := "answers"
		if w.Silent {
			state = "silent"
		}
		line := fmt.Sprintf("waits for %s (%s, %s): %s", w.Instance, w.DataCenter, state, strings.Join(w.Evidence, " or "))
		switch {
		case w.Nothing:
			line += "nothing: no evidence can be given for it"
		case w.AtMostMS > 0:
			line += fmt.Sprintf("; at most %s", time.Duration(w.AtMostMS)*time.Millisecond)
		case w.Silent && len(w.Evidence) == 1 && w.Evidence[0] == signalbox.Attest.String():
			line += "; until an operator takes responsibility"
		}
		out = append(out, line)
	}
	return out
}
