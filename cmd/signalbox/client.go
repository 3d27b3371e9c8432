package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// Where the verbs look when no flag says it.
const (
	envBundle   = "SIGNALBOX_BUNDLE"
	envGateways = "SIGNALBOX_GATEWAYS" // host:port, separated by commas
)

// clientCommands are the verbs that speak to the gateways' REST API.
func clientCommands(std stdio) []*cobra.Command {
	return []*cobra.Command{
		newStatusCommand(std), newPlanCommand(std), newSwitchCommand(std), newFailoverCommand(std), newFailbackCommand(std), newEvacuateCommand(std), newReadinessCommand(std), newWatchCommand(std), newHistoryCommand(std),
		newCutoverCommand(std), newServiceCommand(std), newInstanceCommand(std), newProxyCommand(std), newJournalCommand(std),
	}
}

// connection says which gateways to ask, and as whom.
type connection struct {
	std      stdio
	bundle   string
	gateways []string
}

// connect gives a verb --bundle and --gateway, and runs do with a client. Errors
// come out with what to do about them.
func connect(cmd *cobra.Command, std stdio, do func(ctx context.Context, c *client.Client, args []string) error) {
	conn := &connection{std: std}
	cmd.Flags().StringVar(&conn.bundle, "bundle", "", "an operator's bundle (default $"+envBundle+")")
	cmd.Flags().StringSliceVar(&conn.gateways, "gateway", nil, "a gateway's api address, host:port; may be repeated (default $"+envGateways+", or the bundle's cluster.json)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := conn.open()
		if err != nil {
			return err
		}
		defer c.Close()
		// Interrupted, a verb says how things stand instead of just vanishing.
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return advise(do(ctx, c, args))
	}
}

func (c *connection) open() (*client.Client, error) {
	dir := c.bundle
	if dir == "" {
		dir = os.Getenv(envBundle)
	}
	if dir == "" {
		return nil, usagef("no bundle: give --bundle DIR or set %s; `signalbox keys issue operator` makes one", envBundle)
	}
	bundle, err := identity.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{err}
	}
	if err != nil {
		return nil, err
	}
	if role := bundle.Self.Role; role != rpc.RoleOperator && role != rpc.RoleGateway {
		return nil, usagef("%s is the bundle of %s: gateways answer operators; `signalbox keys issue operator` makes a bundle for one", dir, bundle.Self)
	}
	keeper, err := bundle.Keeper()
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{
		Gateways: c.addresses(bundle), TLS: keeper.Client(rpc.RoleGateway),
		Notice: func(text string) { fmt.Fprintln(c.std.err, text) },
	})
}

// addresses are the flag's, the environment's, or all gateways of the bundle.
func (c *connection) addresses(bundle *identity.Bundle) []string {
	if len(c.gateways) > 0 {
		return c.gateways
	}
	if list := os.Getenv(envGateways); list != "" {
		return strings.Split(list, ",")
	}
	var out []string
	for _, dc := range bundle.Cluster.DataCenters {
		for _, g := range dc.Gateways {
			out = append(out, g.API)
		}
	}
	return out
}

// advise adds to an error of the API what to do about it.
func advise(err error) error {
	var p *api.Problem
	if err == nil || !errors.As(err, &p) {
		return err
	}
	var b strings.Builder
	said := false
	for _, check := range p.Checks {
		fmt.Fprintf(&b, "\n  %s: %s", check.Name, check.Detail)
		if check.Do != "" {
			said = true
			fmt.Fprintf(&b, " (%s)", check.Do)
		}
	}
	if p.Handover != "" {
		fmt.Fprintf(&b, "\n  signalbox watch --handover %s", p.Handover)
	}
	if p.Current != "" {
		fmt.Fprintf(&b, "\n  certified now: %s", p.Current)
	}
	// The usual advice of a code adds nothing to what the checks say to do.
	if p.Do != "" && !(said && p.Do == api.AdviceOf(p.Code)) {
		fmt.Fprintf(&b, "\n  %s", p.Do)
	}
	return fmt.Errorf("%w%s", err, clean(b.String()))
}

// checkService returns a usage error unless name can be a service.
func checkService(name string) error { return signalbox.CheckName("service", name) }

// completeServices offers the services' names to the shell.
func completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	conn := &connection{std: stdio{err: cmd.ErrOrStderr()}}
	conn.bundle, _ = cmd.Flags().GetString("bundle")
	conn.gateways, _ = cmd.Flags().GetStringSlice("gateway")
	c, err := conn.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	services, err := c.Services(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range services {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
