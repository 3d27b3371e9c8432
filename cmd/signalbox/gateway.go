package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/coordinator"
	"github.com/signalbox-io/signalbox/gateway/server"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

func newGatewayCommand(std stdio) *cobra.Command {
	return group("gateway", "Run a gateway, and say which gateways vote", groupProcess, newGatewayRunCommand(std), newVotersCommand(std))
}

func newGatewayRunCommand(std stdio) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "run", Short: "Run this data center's gateway until SIGTERM", Args: cobra.NoArgs,
		Example: "  signalbox gateway run --config gateway.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runGateway(cmd.Context(), std, config)
		},
	}
	cmd.Flags().StringVar(&config, "config", "gateway.yaml", "configuration file")
	return cmd
}

func runGateway(ctx context.Context, std stdio, path string) error {
	c, err := loadGatewayConfig(path)
	if err != nil {
		return err
	}
	bundle, cluster, err := c.loadBundle()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		return err
	}
	relaxGC(gatewayGC)
	listen := c.listenOn(cluster, bundle.Self.Name)
	s, err := server.New(server.Options{
		Bundle: bundle, Cluster: cluster, State: c.State, Version: version, Logger: newLogger(std, c.Log),
		Listen:      server.Listen(listen),
		CheckVoters: func(set signalbox.VoterSet) error { return c.checkVoters(cluster, set) },
		Services:    gatewayServices(c, cluster), AgreementTimeout: time.Duration(c.Timing.AgreementTimeout),
	})
	if err != nil {
		return err
	}
	ctx, stop := signalContext(ctx)
	defer stop()
	return s.Run(ctx)
}

func gatewayServices(c *GatewayConfig, cluster *identity.Cluster) []coordinator.Service {
	var out []coordinator.Service
	for _, s := range c.Services {
		svc := coordinator.Service{
			Name: signalbox.Service(s.Name), Protocol: resource.Protocol(s.Protocol),
			HoldBudget: time.Duration(s.HoldBudget), HoldTimeout: time.Duration(s.HoldTimeout),
			ConnectTimeout: time.Duration(s.ConnectTimeout), RequestTimeout: time.Duration(s.RequestTimeout), Observe: s.Mode == "observe",
			Rules: s.Rules.rules(), Singleton: s.Singleton, Streams: s.streams(),
		}
		s.Failover.into(&svc)
		for _, on := range s.DependsOn {
			svc.DependsOn = append(svc.DependsOn, signalbox.Service(on))
		}
		if s.Listener != nil {
			svc.Listener = &resource.Listener{Address: s.Listener.Address, Port: uint32(s.Listener.Port)}
		}
		for _, dc := range s.DataCenters {
			svc.DataCenters = append(svc.DataCenters, signalbox.DataCenter(dc))
		}
		if len(svc.DataCenters) == 0 {
			for _, dc := range cluster.DataCenters {
				svc.DataCenters = append(svc.DataCenters, dc.Name)
			}
		}
		out = append(out, svc)
	}
	return out
}

// newLogger logs to standard error as the configuration says.
func newLogger(std stdio, c LogConfig) zerolog.Logger {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	w := std.err
	if c.Format == "console" {
		w = zerolog.ConsoleWriter{Out: std.err, TimeFormat: time.StampMicro}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// signalContext ends at SIGTERM or SIGINT.
func signalContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
}

// streams is the policy that the file names; it was checked.
func (s *ServiceConfig) streams() signalbox.StreamPolicy {
	policy, _ := signalbox.ParseStreamPolicy(s.Drain)
	return policy
}
