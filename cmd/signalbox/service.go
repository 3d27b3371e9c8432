package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newServiceCommand(std stdio) *cobra.Command {
	return group("service", "Show services, take one over, pause one", groupDaily, newServiceListCommand(std), newServiceShowCommand(std), newServiceAdoptCommand(std),
		newServiceRulesCommand(std), newServicePauseCommand(std), newServiceResumeCommand(std))
}

func newServiceListCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the services", Args: cobra.NoArgs}
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, _ []string) error {
		services, err := c.Services(ctx)
		if err != nil {
			return err
		}
		return output.write(std.out, api.ServiceList{Services: services}, func(w io.Writer, wide bool) error {
			heading := []string{"SERVICE", "PROTOCOL", "STATE", "MASTER", "TERM"}
			if wide {
				heading = append(heading, "SINCE", "HOLD BUDGET", "HANDOVER")
			}
			var lines [][]string
			for _, s := range services {
				cells := []string{s.Name, s.Protocol, s.State, s.Master, number(s.Term)}
				if wide {
					cells = append(cells, moment(s.Since), budget(s.HoldBudgetMS), s.Handover)
				}
				lines = append(lines, cells)
			}
			return table(w, heading, lines)
		})
	})
	return cmd
}

func budget(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

func newServiceShowCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{Use: "show SERVICE", Short: "Show a service and where it can move", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices}
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		s, err := c.Service(ctx, args[0])
		if err != nil {
			return err
		}
		return output.write(std.out, s, func(w io.Writer, _ bool) error { return showService(w, s) })
	})
	return cmd
}

func showService(w io.Writer, s api.Service) error {
	master := "no master"
	if s.Master != "" {
		master = "master " + signalbox.Expectation{DataCenter: signalbox.DataCenter(s.Master), Term: signalbox.Term(s.Term)}.String()
	}
	if s.Since != nil {
		master += " since " + moment(s.Since)
	}
	fmt.Fprintln(w, clean(fmt.Sprintf("%s (%s): %s, %s, hold budget %s\n", s.Name, s.Protocol, s.State, master, budget(s.HoldBudgetMS))))
	if err := statusTable(w, []api.Service{s}, true); err != nil {
		return err
	}
	peopleText(w, []api.Service{s})
	if err := openHandovers(w, []api.Service{s}); err != nil {
		return err
	}
	for _, d := range s.DataCenters {
		for _, problem := range d.Problems {
			fmt.Fprintln(w, clean(fmt.Sprintf("not to %s: %s", d.DataCenter, problem)))
		}
	}
	switch s.State {
	case api.StateObserved:
		fmt.Fprintf(w, "Watched only: nothing moves it. With mode: manage in the gateways' configuration,\n`signalbox service adopt %s --data-center DC` takes it over without interrupting it.\n", s.Name)
	case api.StateUnmanaged:
		fmt.Fprintf(w, "Not managed yet: `signalbox service adopt %s --data-center DC` says where its master runs.\n", s.Name)
	}
	return nil
}

func newServiceAdoptCommand(std stdio) *cobra.Command {
	var request api.AdoptRequest
	cmd := &cobra.Command{
		Use: "adopt SERVICE --data-center DC", Short: "Take over a service that runs, without interrupting it", Args: cobra.ExactArgs(1), ValidArgsFunction: completeServices,
		Long: "Takes over a service that runs: the instances in DC are its master now, and their term becomes 1.\n" +
			"Nothing is interrupted. From then on `signalbox switch` moves it.",
		Example: "  signalbox service adopt orders --data-center east --reason 'Signalbox manages it from today'",
	}
	cmd.Flags().StringVar(&request.DataCenter, "data-center", "", "where the master runs now")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why; shown in the record")
	_ = cmd.MarkFlagRequired("data-center") // fails for a flag that is not there only
	wait := addWait(cmd)
	output := addOutput(cmd, false)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		f := newFollower(std, c, args[0])
		return f.run(ctx, wait, output, func(ctx context.Context) (api.Handover, error) {
			return c.Adopt(ctx, client.NewKey(), args[0], request)
		}, func(h *api.Handover) int {
			return forwardOr(h, request.DataCenter, exitFailure)
		})
	})
	return cmd
}
