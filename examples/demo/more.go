package demo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// What is added to a site that runs. It is restarted and ended with the others, but belongs to no list of theirs.

// AddEnvoy starts an Envoy with the complete bootstrap, whose listeners the gateways hand out. change may alter the
// bootstrap's options; nil for none.
func (s *Site) AddEnvoy(dc, name string, change func(*resource.BootstrapOptions)) (Envoy, error) {
	e := Envoy{Name: name, DataCenter: dc}
	port, err := s.takePorts(1)
	if err != nil {
		return e, err
	}
	e.Admin = s.opts.at(dc, port)
	bundle, err := s.Issue(rpc.RoleProxy, dc, name)
	if err != nil {
		return e, err
	}
	o, err := s.bootstrapOptions(e, s.xds(dc), bundle)
	if err != nil {
		return e, err
	}
	if change != nil {
		change(&o)
	}
	config, err := resource.Bootstrap(o)
	if err != nil {
		return e, err
	}
	if err := s.write(name+".json", string(config)); err != nil {
		return e, err
	}
	return e, s.run(name, s.command(dc, s.opts.Binaries.Envoy, "--config-path", s.configPath(name+".json"), "--disable-hot-restart",
		"--concurrency", "1", "--log-level", "warning"))
}

// pickListeners gives the services that want a listener a port.
func (s *Site) pickListeners() (err error) {
	s.opts.More = slices.Clone(s.opts.More)
	for i := range s.opts.More {
		if m := &s.opts.More[i]; m.Listen && m.Port == 0 {
			if m.Port, err = s.takePorts(1); err != nil {
				return err
			}
		}
	}
	return nil
}

// ListenerOf is where Envoys with the complete bootstrap (AddEnvoy) take callers of one of Options.More, host:port; ""
// for a service without a listener. Envoys of one machine share the port.
func (s *Site) ListenerOf(service string) string {
	for _, m := range s.opts.More {
		if m.Name == service && m.Port != 0 {
			return loopback(m.Port)
		}
	}
	return ""
}

// FreeGateway is an address for a gateway that somebody adds: HOST:PORT, with room for all its ports.
func (s *Site) FreeGateway(dc string) (string, error) {
	port, err := s.takePorts(identity.PortsPerGateway)
	return s.opts.at(dc, port), err
}

// AddGateway starts a gateway that is in the cluster's description, and whose bundle was issued, configured like the
// others.
func (s *Site) AddGateway(dc, name string) error {
	if err := s.write(name+".yaml", s.gatewayConfig(Gateway{DataCenter: dc, Gateway: identity.Gateway{Name: name}})); err != nil {
		return fmt.Errorf("add gateway: %w", err)
	}
	return s.run(name, s.command(dc, s.opts.Binaries.Signalbox, "gateway", "run", "--config", s.configPath(name+".yaml")))
}

// AddProcess runs any other program beside the site: an instance of somebody's own, for example.
func (s *Site) AddProcess(name, path string, args ...string) error {
	return s.run(name, s.command("", path, args...))
}

// AddAgent starts an agent beside an instance that somebody else runs. Name is the agent's; in says where the instance
// and its driver contract are. An empty bundle is made here.
func (s *Site) AddAgent(service, name, bundle string, in Instance) error {
	port, err := s.takePorts(2)
	if err != nil {
		return err
	}
	in.Agent, in.Gossip, in.Metrics = name, s.opts.at(in.DataCenter, port), s.opts.at(in.DataCenter, port+1)
	if bundle == "" {
		if bundle, err = s.Issue(rpc.RoleAgent, in.DataCenter, name); err != nil {
			return err
		}
	}
	if err := s.write(name+".yaml", s.agentConfig(service, in, bundle)); err != nil {
		return fmt.Errorf("add agent: %w", err)
	}
	return s.run(name, s.command(in.DataCenter, s.opts.Binaries.Signalbox, "agent", "run", "--config", s.configPath(name+".yaml")))
}

// AddDriven starts an agent that drives one instance by what instance says: the YAML of its entry below instances.
func (s *Site) AddDriven(name, dc, instance string) error {
	port, err := s.takePorts(2)
	if err != nil {
		return err
	}
	bundle, err := s.Issue(rpc.RoleAgent, dc, name)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("bundle: %q\nstate: %q\ngossip:\n  listen: %s\nmetrics: %s\nlog:\n  level: %s\ninstances:\n  - %s\n",
		bundle, s.StatePath(name), s.opts.at(dc, port), s.opts.at(dc, port+1), s.opts.LogLevel, strings.ReplaceAll(strings.TrimSpace(instance), "\n", "\n    "))
	if err := s.write(name+".yaml", text); err != nil {
		return fmt.Errorf("add agent: %w", err)
	}
	return s.run(name, s.command(dc, s.opts.Binaries.Signalbox, "agent", "run", "--config", s.configPath(name+".yaml")))
}

// StatePath is the state directory of one of the site's processes.
func (s *Site) StatePath(name string) string { return s.statePath(name) }

func (s *Site) takePorts(n int) (int, error) {
	return s.ports.Ports(n)
}

// FreePort takes a port of the site for somebody else's use.
func (s *Site) FreePort() (int, error) { return s.takePorts(1) }
