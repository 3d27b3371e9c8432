package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

const defaultKeysDir = "keys"

func newKeysCommand(std stdio) *cobra.Command {
	return group("keys", "Make, issue, rotate and show a cluster's keys", groupSetup,
		newKeysInitCommand(std), newKeysIssueCommand(std), newKeysRotateCommand(std), newKeysShowCommand(std),
		newKeysStepCommand(std, "stage", "Make a new CA or gossip key that is believed beside the current one",
			func(a *identity.Authority, v time.Duration) error { return a.StageCA(v, time.Now()) }, (*identity.Authority).StageGossip),
		newKeysStepCommand(std, "activate", "Use the staged CA or gossip key",
			func(a *identity.Authority, _ time.Duration) error { return a.ActivateCA() }, (*identity.Authority).ActivateGossip),
		newKeysStepCommand(std, "retire", "Believe the old CA or gossip key no longer",
			func(a *identity.Authority, _ time.Duration) error { return a.RetireCA() }, (*identity.Authority).RetireGossip),
	)
}

// keysFlag adds --keys, the keys directory.
func keysFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("keys", defaultKeysDir, "the cluster's keys directory")
}

func newKeysInitCommand(std stdio) *cobra.Command {
	var gateways, voters []string
	var cluster, spec, signatures string
	var validity, caValidity Duration
	cmd := &cobra.Command{
		Use: "init", Short: "Make a cluster's CA, keys and its gateways' bundles", Args: cobra.NoArgs,
		Long: "Makes a keys directory: the CA, the gossip keys, the cluster's public description (cluster.json),\n" +
			"and for each gateway a bundle, a directory that goes to the gateway's machine. Keep the rest where\n" +
			"no gateway can read it. Nothing that exists is overwritten.\n\n" +
			"A gateway takes seven consecutive ports from the given one on (default 7400): rpc, xds, api,\n" +
			"gossip_lan, gossip_wan, metrics, parking. With --spec they are said one by one.",
		Example: "  signalbox keys init --cluster shop --gateway east/east-1=10.1.0.5 --gateway west/west-1=10.2.0.5 --voter east-1",
	}
	dir := keysFlag(cmd)
	cmd.Flags().StringVar(&cluster, "cluster", "", "name of the cluster")
	cmd.Flags().StringArrayVar(&gateways, "gateway", nil, "`DATACENTER/NAME=HOST[:PORT]`, once for each gateway")
	cmd.Flags().StringArrayVar(&voters, "voter", nil, "name of a gateway that votes: 1, 3 or more (default the first gateway)")
	cmd.Flags().StringVar(&signatures, "signatures", signature.Auto, "how voters sign: "+strings.Join(signature.Names(), ", ")+"; it cannot be changed later")
	cmd.Flags().StringVar(&spec, "spec", "", "read cluster, gateways and voters from a `FILE` (see config init cluster)")
	validityFlag(cmd, &validity, "validity", "90d", "how long certificates are valid")
	validityFlag(cmd, &caValidity, "ca-validity", "3650d", "how long the CA is valid")
	cmd.MarkFlagsMutuallyExclusive("spec", "cluster")
	cmd.MarkFlagsMutuallyExclusive("spec", "gateway")
	cmd.MarkFlagsMutuallyExclusive("spec", "voter")
	cmd.MarkFlagsMutuallyExclusive("spec", "signatures")
	cmd.MarkFlagsOneRequired("spec", "cluster")
	cmd.RunE = func(*cobra.Command, []string) error {
		s, err := clusterSpec(spec, cluster, gateways, voters, signatures)
		if err != nil {
			return err
		}
		s.Validity, s.CAValidity = time.Duration(validity), time.Duration(caValidity)
		a, err := identity.Init(*dir, s, time.Now())
		if err != nil {
			return err
		}
		return reportInit(std, a)
	}
	return cmd
}

func clusterSpec(file, cluster string, gateways, voters []string, signatures string) (identity.Spec, error) {
	if file != "" {
		c, err := loadClusterConfig(file)
		if err != nil {
			return identity.Spec{}, err
		}
		s := c.spec()
		s.Signatures, err = signature.ForNew(c.Signatures, max(len(s.Voters), 1))
		return s, err
	}
	s := identity.Spec{Cluster: cluster, Voters: voters}
	if len(gateways) == 0 {
		return s, usagef("a cluster needs gateways: --gateway DATACENTER/NAME=HOST[:PORT], once for each")
	}
	for _, g := range gateways {
		if err := addGateway(&s, g); err != nil {
			return s, err
		}
	}
	var err error
	if s.Signatures, err = signature.ForNew(signatures, max(len(voters), 1)); err != nil {
		return s, usagef("--signatures: %v", err)
	}
	return s, nil
}

// addGateway reads DATACENTER/NAME=HOST[:PORT] into the spec.
func addGateway(s *identity.Spec, flag string) error {
	who, address, ok1 := strings.Cut(flag, "=")
	dc, name, ok2 := strings.Cut(who, "/")
	if !ok1 || !ok2 {
		return usagef("--gateway %q: want DATACENTER/NAME=HOST[:PORT], as east/east-1=10.1.0.5", flag)
	}
	g, err := gatewayAt(name, address)
	if err != nil {
		return err
	}
	for i := range s.DataCenters {
		if string(s.DataCenters[i].Name) == dc {
			s.DataCenters[i].Gateways = append(s.DataCenters[i].Gateways, g)
			return nil
		}
	}
	s.DataCenters = append(s.DataCenters, identity.DataCenter{Name: signalbox.DataCenter(dc), Gateways: []identity.Gateway{g}})
	return nil
}

// gatewayAt reads HOST or HOST:PORT.
func gatewayAt(name, address string) (identity.Gateway, error) {
	host, port := address, identity.DefaultPort
	if h, p, err := net.SplitHostPort(address); err == nil {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65536-identity.PortsPerGateway {
			return identity.Gateway{}, usagef("gateway %s: port %q: want 1 to %d", name, p, 65536-identity.PortsPerGateway)
		}
		host, port = h, n
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" {
		return identity.Gateway{}, usagef("gateway %s: address %q: want HOST or HOST:PORT", name, address)
	}
	return identity.GatewayAt(name, host, port), nil
}

func reportInit(std stdio, a *identity.Authority) error {
	c := a.Cluster()
	fmt.Fprintf(std.out, "cluster %s: %d voters, a quorum is %d, signatures %s\n", c.Name, len(c.Voters), c.Quorum(), c.Scheme())
	lines := [][]string{{"GATEWAY", "DATA CENTER", "VOTES", "RPC", "BUNDLE"}}
	for _, dc := range c.DataCenters {
		for _, g := range dc.Gateways {
			_, votes := c.Voter(g.Name)
			bundle := a.BundleDir(rpc.Principal{Cluster: c.Name, Role: rpc.RoleGateway, DataCenter: dc.Name, Name: g.Name})
			lines = append(lines, []string{g.Name, string(dc.Name), yesNo(votes), g.RPC, bundle})
		}
	}
	if err := rows(std.out, lines); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "Next: copy each bundle to its gateway's machine, and issue agents' and proxies' (signalbox keys issue --help).\n")
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// validityFlag adds a duration flag; preset is the default that 0 stands for.
func validityFlag(cmd *cobra.Command, d *Duration, name, preset, usage string) {
	cmd.Flags().Var(d, name, usage)
	cmd.Flags().Lookup(name).DefValue = preset
}
