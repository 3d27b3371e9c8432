package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newStatusCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status [SERVICE]", Short: "Show who is master, and what is going on", GroupID: groupDaily,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeServices,
		Example: "  signalbox status\n  signalbox status orders -o wide",
	}
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, args []string) error {
		list := api.ServiceList{}
		if len(args) == 1 {
			s, err := c.Service(ctx, args[0])
			if err != nil {
				return err
			}
			list.Services = []api.Service{s}
		} else {
			var err error
			if list.Services, err = c.Services(ctx); err != nil {
				return err
			}
		}
		return output.write(std.out, list, func(w io.Writer, wide bool) error {
			if err := statusTable(w, list.Services, wide); err != nil {
				return err
			}
			peopleText(w, list.Services)
			if err := openHandovers(w, list.Services); err != nil {
				return err
			}
			health, err := c.Health(ctx)
			if err != nil {
				return err
			}
			return missingText(w, &health)
		})
	})
	return cmd
}

// missingText says below the table what the gateway that was asked lacks: peers, a
// log of its own, services that are configured alike.
func missingText(w io.Writer, h *api.Health) error {
	for _, check := range h.Checks {
		if check.OK {
			continue
		}
		if _, err := fmt.Fprintf(w, "gateway %s: %s; %s\n", h.Gateway, check.Detail, check.Do); err != nil {
			return err
		}
	}
	return nil
}

// statusTable has a row for each service, wide one for each data center too.
func statusTable(w io.Writer, services []api.Service, wide bool) error {
	var lines [][]string
	for _, s := range services {
		if wide {
			for _, d := range s.DataCenters {
				role := "standby"
				switch {
				case d.Master:
					role = "master"
				case s.Master == "":
					role = ""
				}
				lines = append(lines, []string{s.Name, s.State, number(s.Term), d.DataCenter, role, of(d.Serving, d.Instances), of(d.Ready, d.Instances),
					number(d.InFlight), of(d.Synced, d.Proxies), yes(d.Target), strings.Join(d.Problems, "; ")})
			}
			continue
		}
		lines = append(lines, statusRow(s))
	}
	if wide {
		return table(w, []string{"SERVICE", "STATE", "TERM", "DATA CENTER", "ROLE", "SERVING", "READY", "IN FLIGHT", "PROXIES", "TARGET", "PROBLEMS"}, lines)
	}
	return table(w, []string{"SERVICE", "STATE", "MASTER", "TERM", "SERVING", "READY", "PROXIES", "CAN MOVE TO"}, lines)
}

func statusRow(s api.Service) []string {
	var master api.ServiceSite
	var ready, instances, synced, proxies int
	var targets []string
	for _, d := range s.DataCenters {
		if d.Master {
			master = d
		}
		if d.Target {
			targets = append(targets, d.DataCenter)
		}
		ready, instances = ready+d.Ready, instances+d.Instances
		synced, proxies = synced+d.Synced, proxies+d.Proxies
	}
	return []string{s.Name, s.State, s.Master, number(s.Term), of(master.Serving, master.Instances), of(ready, instances), of(synced, proxies), strings.Join(targets, ",")}
}

// openHandovers says below the table what is going on.
func openHandovers(w io.Writer, services []api.Service) error {
	for _, s := range services {
		if s.Handover == "" {
			continue
		}
		waiting := ""
		if len(s.Waiting) > 0 {
			waiting = ", waiting for " + strings.Join(s.Waiting, "; ")
		}
		fmt.Fprintln(w, clean(fmt.Sprintf("%s: handover %s is %s%s", s.Name, s.Handover, s.State, waiting)))
	}
	return nil
}
