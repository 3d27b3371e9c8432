package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/gateway/api/client"
	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// A site's folders.
const (
	dirKeys    = "keys"
	dirConfigs = "config"
	dirState   = "state"
	dirLogs    = "logs"
	dirWrites  = "writes"

	clusterName  = "demo"
	operatorName = "demo"
	// certificates outlive the longest demo that is left running.
	validity = 30 * 24 * time.Hour
)

// prepare makes the site's folders, keys and configuration files.
func (s *Site) prepare() error {
	if err := s.makeFolders(); err != nil {
		return err
	}
	spec := s.spec(s.opts.Voters)
	spec.Validity = validity
	keys, err := identity.Init(filepath.Join(s.dir, dirKeys), spec, time.Now())
	if err != nil {
		return err
	}
	s.keys = keys
	if _, err := s.Issue(rpc.RoleOperator, "", operatorName); err != nil {
		return err
	}
	for _, g := range s.gateways { // they are to know the operator's key
		if err := keys.Rotate(s.Bundle(rpc.RoleGateway, g.DataCenter, g.Name), identity.IssueOptions{Validity: validity, Now: time.Now()}); err != nil {
			return err
		}
	}
	if err := s.pickListeners(); err != nil {
		return err
	}
	for _, g := range s.gateways {
		if err := s.write(g.Name+".yaml", s.gatewayConfig(g)); err != nil {
			return err
		}
	}
	for _, in := range s.instances {
		name := in.Agent
		if name == "" {
			name = in.Name
		}
		bundle, err := s.Issue(rpc.RoleAgent, in.DataCenter, name)
		if err != nil {
			return err
		}
		if in.Agent == "" {
			continue
		}
		if err := s.write(in.Agent+".yaml", s.agentConfig(Service, in, bundle)); err != nil {
			return err
		}
	}
	for _, e := range s.envoys {
		if err := s.prepareEnvoy(e); err != nil {
			return err
		}
	}
	if s.client, err = s.Client(s.OperatorBundle()); err != nil {
		return err
	}
	s.clients = map[string]*client.Client{}
	for _, g := range s.gateways {
		if s.clients[g.Name], err = dial(s.OperatorBundle(), g.API); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) makeFolders() error {
	for _, d := range []string{dirConfigs, dirState, dirLogs, dirWrites} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	return nil
}

// prepareBare is prepare for a site without gateways.
func (s *Site) prepareBare() error {
	if err := s.makeFolders(); err != nil {
		return err
	}
	for _, e := range s.envoys {
		if err := s.writeBootstrap(e, []string{s.opts.Bare}, ""); err != nil {
			return err
		}
	}
	return nil
}

// Issue makes a bundle of the site's cluster and returns its folder.
func (s *Site) Issue(role rpc.Role, dc, name string) (dir string, err error) {
	p := rpc.Principal{Cluster: clusterName, Role: role, DataCenter: signalbox.DataCenter(dc), Name: name}
	dir = s.keys.BundleDir(p)
	return dir, s.keys.Issue(p, dir, identity.IssueOptions{Validity: validity, Now: time.Now()})
}

// Bundle is the folder of a bundle that was issued before.
func (s *Site) Bundle(role rpc.Role, dc, name string) string {
	return s.keys.BundleDir(rpc.Principal{Cluster: clusterName, Role: role, DataCenter: signalbox.DataCenter(dc), Name: name})
}

func (s *Site) configPath(name string) string { return filepath.Join(s.dir, dirConfigs, name) }

func (s *Site) statePath(name string) string {
	if own := s.opts.States[name]; own != "" {
		return own
	}
	return filepath.Join(s.dir, dirState, name)
}

func (s *Site) write(name, text string) error {
	if err := os.WriteFile(s.configPath(name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (s *Site) gatewayConfig(g Gateway) string {
	var b strings.Builder
	fmt.Fprintf(&b, "bundle: %q\nstate: %q\n", s.Bundle(rpc.RoleGateway, g.DataCenter, g.Name), s.statePath(g.Name))
	fmt.Fprintf(&b, "log:\n  level: %s\nservices:\n  - name: %s\n    protocol: %s\n", s.opts.LogLevel, Service, s.opts.Protocol)
	if s.opts.HoldBudget > 0 {
		fmt.Fprintf(&b, "    hold_budget: %s\n", s.opts.HoldBudget)
	}
	if s.opts.Failover != "" {
		fmt.Fprintf(&b, "    failover: %s\n", s.opts.Failover)
	}
	for n := range s.opts.Services {
		fmt.Fprintf(&b, "  - name: %s\n    protocol: http\n", ExtraService(n))
	}
	for _, m := range s.opts.More {
		fmt.Fprintf(&b, "  - name: %s\n    protocol: %s\n", m.Name, m.Protocol)
		if m.Singleton {
			fmt.Fprint(&b, "    singleton: true\n")
		}
		if m.HoldBudget > 0 {
			fmt.Fprintf(&b, "    hold_budget: %s\n", m.HoldBudget)
		}
		if m.Failover != "" {
			fmt.Fprintf(&b, "    failover: %s\n", m.Failover)
		}
		if m.Port != 0 {
			fmt.Fprintf(&b, "    listener:\n      address: 127.0.0.1\n      port: %d\n", m.Port)
		}
	}
	return b.String()
}

// ExtraService is the name of the nth service of Options.Services, counted from 0.
func ExtraService(n int) string { return fmt.Sprintf("extra-%04d", n+1) }

func (s *Site) agentConfig(service string, in Instance, bundle string) string {
	return fmt.Sprintf(`bundle: %q
state: %q
gossip:
  listen: %s
metrics: %s
log:
  level: %s
instances:
  - service: %s
    name: %s
    address: %s
    driver: http
    base: http://%s/signalbox
`, bundle, s.statePath(in.Agent), in.Gossip, in.Metrics, s.opts.LogLevel, service, in.Name, in.Address, in.Control)
}
