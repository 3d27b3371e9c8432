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

func newServiceRulesCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rules SERVICE", Short: "Show a service's safety rules, and what they say now", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Shows what is configured for a service, what people said (pauses, orders that wait for approval, broken glass),\n" +
			"and what each rule says now about a move to each data center.",
	}
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		rules, err := c.Rules(ctx, args[0])
		if err != nil {
			return err
		}
		return output.write(std.out, rules, func(w io.Writer, _ bool) error { return rulesText(w, &rules) })
	})
	return cmd
}

func newServicePauseCommand(std stdio) *cobra.Command {
	length, reason := Duration(time.Hour), ""
	cmd := &cobra.Command{
		Use: "pause SERVICE --reason WHY", Short: "Keep a service where it is, for a time", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Keeps a service where it is: no switch and no failover begins until the pause ends by itself or by\n" +
			"`signalbox service resume`. A handover that is open goes on. Pausing again sets a new end. Whoever has to move it\n" +
			"all the same breaks the glass: `signalbox switch --break-glass WHY`.",
		Example: "  signalbox service pause orders --for 2h --reason 'schema migration'",
		PreRunE: func(*cobra.Command, []string) error {
			if length < Duration(time.Minute) || length > Duration(signalbox.MaxPause) {
				return usagef("--for %s: write 1m to %s; a pause ends by itself", length, Duration(signalbox.MaxPause))
			}
			if reason == "" {
				return usagef("--reason: whoever is stopped by the pause reads it")
			}
			return nil
		},
	}
	cmd.Flags().Var(&length, "for", "for how long, 1m to 30d")
	cmd.Flags().StringVar(&reason, "reason", "", "why; whoever is stopped by it reads this")
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		by, err := newSigner(cmd)
		if err != nil {
			return err
		}
		mandate, err := by.say(args[0], time.Now().Add(time.Duration(length)), reason)
		if err != nil {
			return err
		}
		rules, err := c.Pause(ctx, client.NewKey(), args[0], api.PauseRequest{ForMS: time.Duration(length).Milliseconds(), Reason: reason, Mandate: mandate})
		if err != nil {
			return err
		}
		return output.write(std.out, rules, func(w io.Writer, _ bool) error { return saidText(w, &rules) })
	})
	return cmd
}

func newServiceResumeCommand(std stdio) *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: "resume SERVICE", Short: "End a service's pause", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices}
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown in the events")
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		by, err := newSigner(cmd)
		if err != nil {
			return err
		}
		mandate, err := by.say(args[0], time.Time{}, reason)
		if err != nil {
			return err
		}
		rules, err := c.Resume(ctx, client.NewKey(), args[0], api.ReasonRequest{Reason: reason, Mandate: mandate})
		if err != nil {
			return err
		}
		return output.write(std.out, rules, func(w io.Writer, _ bool) error { return saidText(w, &rules) })
	})
	return cmd
}

// saidText says whether a service is paused.
func saidText(w io.Writer, r *api.ServiceRules) error {
	text := r.Service + ": not paused"
	if r.Pause != nil {
		text = r.Service + ": " + pauseText(r.Pause)
	}
	_, err := fmt.Fprintln(w, clean(text))
	return err
}

func pauseText(p *api.Pause) string {
	return fmt.Sprintf("paused by %s until %s: %s", p.By, moment(&p.Until), p.Reason)
}

func orderText(o *api.WaitingOrder) string {
	text := fmt.Sprintf("%s wants to move it from %s to %s", o.By, o.From, o.To)
	if o.Reason != "" {
		text += " (" + o.Reason + ")"
	}
	text += fmt.Sprintf("; %d of %d approved", len(o.Approved), o.Needed)
	for i, a := range o.Approved {
		text += map[bool]string{true: " by ", false: ", "}[i == 0] + a.By
	}
	return fmt.Sprintf("%s; waits until %s: signalbox cutover approve %s", text, moment(&o.Until), o.ID)
}

func glassText(b *api.BrokenGlass) string {
	text := fmt.Sprintf("BREAK-GLASS by %s: %s (overrode %s)", b.By, b.Reason, strings.Join(b.Overrides, ", "))
	if b.Handover != "" {
		text += fmt.Sprintf("; handover %s, term %d", b.Handover, b.Term)
	}
	if b.At != nil {
		text += ", " + moment(b.At)
	}
	return text
}

func startedText(s *api.AttestedStart) string {
	name := s.Instance
	if name == "" {
		name = s.Identity
	}
	return fmt.Sprintf("ATTESTED START of %s at term %d by %s: %s; without a quorum of voters, %s", name, s.Term, s.By, s.Reason, moment(&s.At))
}

func rulesText(w io.Writer, r *api.ServiceRules) error {
	if err := table(w, []string{"RULE", "CONFIGURED"}, configuredRules(r)); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := saidText(w, r); err != nil {
		return err
	}
	for i := range r.Waiting {
		fmt.Fprintln(w, clean(orderText(&r.Waiting[i])))
	}
	if m := r.LastMove; m != nil {
		fmt.Fprintln(w, clean(fmt.Sprintf("last move: %s to %s by %s, %s (%s)", m.From, m.To, m.By, moment(&m.At), m.Handover)))
	}
	for i := range r.AttestedStarts {
		fmt.Fprintln(w, clean(startedText(&r.AttestedStarts[i])))
	}
	for i := range r.BreakGlass {
		fmt.Fprintln(w, clean(glassText(&r.BreakGlass[i])))
	}
	if more := r.BreakGlassTotal - len(r.BreakGlass); more > 0 {
		fmt.Fprintf(w, "and %d older ones: signalbox history\n", more)
	}
	if len(r.Now) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	var lines [][]string
	for _, n := range r.Now {
		says, detail := "ok", n.Detail
		if n.Blocks {
			says = "BLOCKS"
			if n.Do != "" {
				detail += " (" + n.Do + ")"
			}
		}
		lines = append(lines, []string{n.To, n.Rule, says, detail})
	}
	return table(w, []string{"MOVE TO", "RULE", "NOW", "DETAIL"}, lines)
}

func configuredRules(r *api.ServiceRules) (lines [][]string) {
	add := func(rule string, set bool, text string) {
		if !set {
			text = "-"
		}
		lines = append(lines, []string{rule, text})
	}
	var windows []string
	for _, f := range r.Freezes {
		text := f.Name
		switch {
		case f.Active:
			text += " (now, until " + moment(f.Until) + ")"
		case f.Next != nil:
			text += " (next " + moment(f.Next) + ")"
		}
		windows = append(windows, text)
	}
	add("freeze", len(windows) > 0, strings.Join(windows, ", "))
	add("min-interval", r.MinIntervalMS > 0, budget(r.MinIntervalMS)+" between two moves, one way back aside")
	add("approvals", r.Approvals > 0, fmt.Sprintf("%d beside who asks", r.Approvals))
	add("min-standing", r.MinStanding > 0, fmt.Sprintf("%d ready on the new side", r.MinStanding))
	add("depends-on", len(r.DependsOn) > 0, strings.Join(r.DependsOn, ", "))
	return lines
}

// peopleText says below a status what people said of services.
func peopleText(w io.Writer, services []api.Service) {
	for i := range services {
		s := &services[i]
		if s.Paused != nil {
			fmt.Fprintln(w, clean(s.Name+": "+pauseText(s.Paused)))
		}
		for _, id := range s.Approvals {
			fmt.Fprintln(w, clean(fmt.Sprintf("%s: order %s waits for approval: signalbox cutover approve %s (signalbox service rules %s shows it)", s.Name, id, id, s.Name)))
		}
		if s.AttestedStart != nil {
			fmt.Fprintln(w, clean(s.Name+": "+startedText(s.AttestedStart)))
		}
		if s.BreakGlass != nil {
			fmt.Fprintln(w, clean(s.Name+": "+glassText(s.BreakGlass)))
		}
	}
}
