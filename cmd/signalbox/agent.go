package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/agent"
)

func newAgentCommand(std stdio) *cobra.Command {
	return group("agent", "Run an agent beside the instances that it makes obey", groupProcess, newAgentRunCommand(std))
}

func newAgentRunCommand(std stdio) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "run", Short: "Run the agent until SIGTERM; instances go on serving without it", Args: cobra.NoArgs,
		Example: "  signalbox agent run --config agent.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAgent(cmd.Context(), std, config)
		},
	}
	cmd.Flags().StringVar(&config, "config", "agent.yaml", "configuration file")
	return cmd
}

func runAgent(ctx context.Context, std stdio, path string) error {
	c, err := loadAgentConfig(path)
	if err != nil {
		return err
	}
	bundle, err := c.loadBundle()
	if err != nil {
		return err
	}
	opts, err := agent.LoadOptions(c.Bundle)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	opts.StateDir, opts.Gateways, opts.Version = c.State, c.gateways(bundle), version
	opts.GossipPool.Listen, opts.GossipPool.Advertise = c.Gossip.Listen, c.Gossip.Advertise
	opts.Log, opts.Registerer = newLogger(std, c.Log).With().Str("agent", bundle.Self.Name).Logger(), registry
	for _, in := range c.Instances {
		d, err := c.driver(in, opts.Log)
		if err != nil {
			return fmt.Errorf("instance %s: %w", in.Name, err)
		}
		opts.Instances = append(opts.Instances, agent.Instance{
			Service: signalbox.Service(in.Service), Name: in.Name, Address: in.Address, Driver: d, DriverName: in.Driver,
		})
	}
	relaxGC(agentGC)
	a, err := agent.New(opts)
	if err != nil {
		return err
	}
	ctx, stop := signalContext(ctx)
	defer stop()
	return serveMetricsWhile(ctx, c.Metrics, registry, a.Run)
}

// serveMetricsWhile serves metrics, where there is an address, while run runs.
func serveMetricsWhile(ctx context.Context, address string, registry *prometheus.Registry, run func(context.Context) error) error {
	if address == "" {
		return run(ctx)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(l) }() // ends with Close below
	err = run(ctx)
	_ = hs.Close()
	if e := <-served; err == nil && !errors.Is(e, http.ErrServerClosed) {
		err = e
	}
	return err
}
