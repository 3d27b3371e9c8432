package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

func newBootstrapCommand(std stdio) *cobra.Command {
	return group("bootstrap", "Print the configuration that points a proxy at its gateways", groupSetup,
		newBootstrapEnvoyCommand(std), newBootstrapGRPCCommand(std))
}

// bootstrapFlags are what both kinds of proxies need.
type bootstrapFlags struct {
	bundle, filesIn string
	gateways        []string
}

func (f *bootstrapFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.bundle, "bundle", "", "the proxy's bundle; it says who the proxy is")
	cmd.Flags().StringVar(&f.filesIn, "files-in", "", "directory of the bundle on the proxy's machine, when that differs")
	cmd.Flags().StringArrayVar(&f.gateways, "gateway", nil, "xds address `HOST:PORT` of a gateway (default: those of the proxy's data center)")
	_ = cmd.MarkFlagRequired("bundle") // fails for a flag that is not there only
}

func (f *bootstrapFlags) options() (resource.BootstrapOptions, error) {
	b, err := identity.Load(f.bundle)
	if err != nil {
		return resource.BootstrapOptions{}, err
	}
	if b.Self.Role != rpc.RoleProxy {
		return resource.BootstrapOptions{}, usagef("%s is the bundle of %s: a proxy needs its own (signalbox keys issue proxy)", f.bundle, b.Self)
	}
	gateways := f.gateways
	if len(gateways) == 0 {
		for _, g := range b.Gateways() {
			gateways = append(gateways, g.XDS)
		}
	}
	dir := f.filesIn
	if dir == "" {
		if dir, err = filepath.Abs(f.bundle); err != nil {
			return resource.BootstrapOptions{}, fmt.Errorf("find bundle: %w", err)
		}
	}
	return resource.BootstrapOptions{
		Cluster: b.Self.Cluster, DataCenter: string(b.Self.DataCenter), Name: b.Self.Name, Gateways: gateways,
		CertFile: filepath.Join(dir, identity.FileCertificate), KeyFile: filepath.Join(dir, identity.FileKey),
		CAFile: filepath.Join(dir, identity.FileCA),
	}, nil
}

func newBootstrapEnvoyCommand(std stdio) *cobra.Command {
	var f bootstrapFlags
	var admin, service, protocol string
	routeOnly := false
	hold := Duration(resource.DefaultHoldTimeout)
	cmd := &cobra.Command{
		Use: "envoy", Short: "Print an Envoy's configuration", Args: cobra.NoArgs,
		Long: "Prints a complete Envoy configuration as JSON, for envoy -c. With --route-only it prints what an Envoy\n" +
			"that keeps its own listeners needs to follow one service.",
		Example: "  signalbox bootstrap envoy --bundle edge-1 > envoy.json\n" +
			"  signalbox bootstrap envoy --bundle edge-1 --route-only --service orders",
	}
	f.add(cmd)
	cmd.Flags().StringVar(&admin, "admin", "", "IP:PORT of Envoy's administration interface (default: none)")
	cmd.Flags().BoolVar(&routeOnly, "route-only", false, "only what to add to an Envoy with listeners of its own")
	cmd.Flags().StringVar(&service, "service", "", "with --route-only: the service to follow")
	cmd.Flags().StringVar(&protocol, "protocol", string(resource.HTTP), "with --route-only: http, http2, grpc or tcp")
	cmd.Flags().Var(&hold, "hold-timeout", "with --route-only: the service's hold_timeout")
	cmd.MarkFlagsRequiredTogether("route-only", "service")
	cmd.RunE = func(*cobra.Command, []string) error {
		o, err := f.options()
		if err != nil {
			return err
		}
		if o.AdminAddress, o.AdminPort, err = adminAddress(admin); err != nil {
			return err
		}
		var out []byte
		if p := resource.Protocol(protocol); p != resource.HTTP && p != resource.HTTP2 && p != resource.GRPC && p != resource.TCP {
			return usagef("--protocol %q: want http, http2, grpc or tcp", protocol)
		}
		if routeOnly {
			out, err = resource.RouteOnly(o, service, resource.Protocol(protocol), time.Duration(hold))
		} else {
			out, err = resource.Bootstrap(o)
		}
		if err != nil {
			return err
		}
		_, err = std.out.Write(out)
		return err
	}
	return cmd
}

func adminAddress(s string) (string, uint32, error) {
	if s == "" {
		return "", 0, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, usagef("--admin %q: want IP:PORT", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, usagef("--admin %q: want a port from 1 to 65535", s)
	}
	return host, uint32(n), nil
}

func newBootstrapGRPCCommand(std stdio) *cobra.Command {
	var f bootstrapFlags
	cmd := &cobra.Command{
		Use: "grpc", Short: "Print a proxyless gRPC client's configuration", Args: cobra.NoArgs,
		Long:    "Prints the bootstrap of a gRPC client with the xds resolver, for the file that GRPC_XDS_BOOTSTRAP names.",
		Example: "  signalbox bootstrap grpc --bundle client-1 > xds.json\n  GRPC_XDS_BOOTSTRAP=xds.json myclient xds:///orders",
	}
	f.add(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		o, err := f.options()
		if err != nil {
			return err
		}
		out, err := resource.BootstrapGRPC(o)
		if err != nil {
			return err
		}
		_, err = std.out.Write(out)
		return err
	}
	return cmd
}
