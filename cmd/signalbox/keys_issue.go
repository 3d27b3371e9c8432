package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

func newKeysIssueCommand(std stdio) *cobra.Command {
	var dc, name, out, address string
	var force, lost bool
	var validity Duration
	cmd := &cobra.Command{
		Use: "issue gateway|agent|proxy|operator", Short: "Make a bundle for one process or person",
		Long: "Makes a bundle: a directory with all that a process or a person needs to prove who it is and to\n" +
			"check others. A new gateway (it does not vote) needs --address; rotate the other bundles to tell them.",
		Example: "  signalbox keys issue agent --data-center east --name east-app-1\n" +
			"  signalbox keys issue operator --name ada --out ~/.config/signalbox",
		ValidArgs: []string{"gateway", "agent", "proxy", "operator"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
	}
	dir := keysFlag(cmd)
	cmd.Flags().StringVar(&dc, "data-center", "", "data center of the process; not for an operator")
	cmd.Flags().StringVar(&name, "name", "", "name of the process or person")
	cmd.Flags().StringVar(&out, "out", "", "directory to make (default KEYS/bundles/ROLE/DATACENTER/NAME)")
	cmd.Flags().StringVar(&address, "address", "", "HOST[:PORT] of a gateway that is new in the cluster")
	cmd.Flags().BoolVar(&force, "force", false, "replace a bundle that exists")
	cmd.Flags().BoolVar(&lost, "lost-voter-key", false, "make a voter's bundle without its key, which is lost: it follows until it is replaced with `signalbox gateway voters change`")
	validityFlag(cmd, &validity, "validity", "90d", "how long the certificate is valid")
	_ = cmd.MarkFlagRequired("name") // fails for a flag that is not there only
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		a, err := identity.Open(*dir)
		if err != nil {
			return err
		}
		p := rpc.Principal{Cluster: a.Cluster().Name, Role: rpc.Role(args[0]), DataCenter: signalbox.DataCenter(dc), Name: name}
		if err := checkIssue(p, address); err != nil {
			return err
		}
		if address != "" {
			g, err := gatewayAt(name, address)
			if err != nil {
				return err
			}
			if err := a.AddGateway(p.DataCenter, g); err != nil {
				return err
			}
		}
		if out == "" {
			out = a.BundleDir(p)
		}
		if err := a.Issue(p, out, identity.IssueOptions{Validity: time.Duration(validity), Force: force, LostVoterKey: lost, Now: time.Now()}); err != nil {
			return err
		}
		b, err := identity.Load(out)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s: %s, valid until %s\n", out, b.Self, b.NotAfter.Format(time.DateOnly))
		if b.Operator != nil {
			fmt.Fprintf(std.out, "The key for attesting counts where cluster.json names it: rotate the bundles of gateways and agents, and restart them.\n")
		}
		return nil
	}
	return cmd
}

func checkIssue(p rpc.Principal, address string) error {
	switch {
	case p.Role == rpc.RoleOperator && p.DataCenter != "":
		return usagef("an operator belongs to no data center: leave --data-center out")
	case p.Role != rpc.RoleOperator && p.DataCenter == "":
		return usagef("%s %s: --data-center is missing", p.Role, p.Name)
	case p.Role != rpc.RoleGateway && address != "":
		return usagef("--address is for a new gateway only")
	}
	return nil
}

func newKeysRotateCommand(std stdio) *cobra.Command {
	var validity Duration
	cmd := &cobra.Command{
		Use: "rotate BUNDLE...", Short: "Renew the certificate and key of bundles in place",
		Long: "Renews certificate and key, and brings what changed in the keys directory: CAs, gossip keys, the\n" +
			"list of gateways. A running process takes a new certificate by itself. A voter's key stays: to vote with a new one,\n" +
			"signalbox gateway voters change --replace.",
		Args: cobra.MinimumNArgs(1),
	}
	dir := keysFlag(cmd)
	validityFlag(cmd, &validity, "validity", "90d", "how long the certificate is valid")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		a, err := identity.Open(*dir)
		if err != nil {
			return err
		}
		for _, bundle := range args {
			if err := a.Rotate(bundle, identity.IssueOptions{Validity: time.Duration(validity), Now: time.Now()}); err != nil {
				return err
			}
			b, err := identity.Load(bundle)
			if err != nil {
				return err
			}
			fmt.Fprintf(std.out, "%s: %s, valid until %s\n", bundle, b.Self, b.NotAfter.Format(time.DateOnly))
		}
		return nil
	}
	return cmd
}

// newKeysStepCommand makes one of the three steps in which a CA or the gossip
// keys are replaced.
func newKeysStepCommand(std stdio, use, short string, ca func(*identity.Authority, time.Duration) error, gossip func(*identity.Authority) error) *cobra.Command {
	var validity Duration
	cmd := &cobra.Command{
		Use: use + " ca|gossip", Short: short,
		Long: short + ".\n\nA CA or the gossip keys are replaced in three steps: stage, activate, retire. After each of them\n" +
			"rotate every bundle (signalbox keys rotate) and see that its process runs with it.",
		ValidArgs: []string{"ca", "gossip"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
	}
	dir := keysFlag(cmd)
	if use == "stage" {
		validityFlag(cmd, &validity, "validity", "3650d", "how long a new CA is valid")
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		a, err := identity.Open(*dir)
		if err != nil {
			return err
		}
		if args[0] == "ca" {
			err = ca(a, time.Duration(validity))
		} else {
			err = gossip(a)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "%s %s: done. Next: signalbox keys rotate each bundle.\n", use, args[0])
		return nil
	}
	return cmd
}
