package main

import (
	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/membership/agent/warden"
)

// newWardenCommand is for agents, not for people: they start it themselves.
func newWardenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "warden DIR", Short: "Watch the process of an instance for its agent", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return warden.Run(args[0]) },
	}
}
