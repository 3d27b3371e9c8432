package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
)

func newInstanceCommand(std stdio) *cobra.Command {
	return group("instance", "Show instances", groupDaily, newInstanceListCommand(std), newInstanceAttestCommand(std))
}

func newInstanceListCommand(std stdio) *cobra.Command {
	var service string
	cmd := &cobra.Command{Use: "list", Short: "List the instances: what they do, and whom they wait for", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&service, "service", "", "only this service's")
	output := addOutput(cmd, true)
	connect(cmd, std, func(ctx context.Context, c *client.Client, _ []string) error {
		instances, err := c.Instances(ctx, service)
		if err != nil {
			return err
		}
		return output.write(std.out, api.InstanceList{Instances: instances}, func(w io.Writer, wide bool) error {
			return instanceTable(w, instances, wide)
		})
	})
	return cmd
}

func instanceTable(w io.Writer, instances []api.Instance, wide bool) error {
	heading := []string{"INSTANCE", "SERVICE", "DATA CENTER", "STATE", "TERM", "READY", "IN FLIGHT", "HEARD", "WAITS FOR", "PROBLEM"}
	if wide {
		heading = append(heading, "IDENTITY", "INCARNATION", "FLOOR", "ADMISSION", "OUTSTANDING", "ADDRESS", "DRIVER", "VERSION")
	}
	var lines [][]string
	for _, i := range instances {
		cells := []string{i.Name, i.Service, i.DataCenter, i.State, number(i.Term), yes(i.Ready), number(i.InFlight), ago(i.SilentMS), i.WaitsFor, i.Problem}
		if wide {
			cells = append(cells, i.Identity, number(i.Incarnation), number(i.Floor), number(i.Admission), yes(i.Outstanding), i.Address, i.Driver, i.Version)
		}
		lines = append(lines, cells)
	}
	return table(w, heading, lines)
}
