package main

import (
	"fmt"
	"net/url"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/signalbox-io/signalbox/rpc"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// AgentConfig is agent.yaml.
type AgentConfig struct {
	Bundle string `yaml:"bundle" required:"true" doc:"directory that signalbox keys made for this agent; relative paths count from this file's folder"`
	State  string `yaml:"state" required:"true" doc:"directory for the instances' keys and what they promised; it must survive restarts, and no image or backup may hold it"`

	Instances []InstanceConfig  `yaml:"instances" required:"true" doc:"the instances on this machine that the agent makes obey"`
	Gateways  []string          `yaml:"gateways" doc:"rpc addresses of the data center's gateways, host:port; default: those in the bundle's cluster.json"`
	Gossip    AgentGossipConfig `yaml:"gossip" doc:"the data center's gossip pool"`
	Metrics   string            `yaml:"metrics" doc:"where Prometheus asks (HTTP without TLS), host:port; default: nowhere"`
	Log       LogConfig         `yaml:"log" doc:"what is logged and how"`

	file string
}

// InstanceConfig is one instance beside the agent.
type InstanceConfig struct {
	Service string `yaml:"service" required:"true" doc:"name of the service"`
	Name    string `yaml:"name" required:"true" doc:"name of the instance, unique in the data center"`
	Address string `yaml:"address" required:"true" doc:"where proxies reach the instance, IP:port"`
	Driver  string `yaml:"driver" enum:"http,exec,postgres,redis" default:"http" doc:"how the instance is driven; a Go service may use the library instead of an agent"`
	Base    string `yaml:"base" doc:"driver http: base URL of the driver contract on the instance, as http://127.0.0.1:8081/signalbox"`

	Exec     *ExecConfig     `yaml:"exec" doc:"driver exec: the commands that drive the instance, or the program that the agent runs"`
	Postgres *PostgresConfig `yaml:"postgres" doc:"driver postgres: the server that the agent drives"`
	Redis    *RedisConfig    `yaml:"redis" doc:"driver redis: the server that the agent drives"`
}

// AgentGossipConfig is the agent's place in its data center's pool.
type AgentGossipConfig struct {
	Listen    string `yaml:"listen" default:"0.0.0.0:7946" doc:"IP:port, TCP and UDP; port 0 takes any"`
	Advertise string `yaml:"advertise" doc:"IP:port where others reach it, when that differs"`
}

// newAgentConfig holds all defaults.
func newAgentConfig() *AgentConfig {
	return &AgentConfig{
		Gossip: AgentGossipConfig{Listen: "0.0.0.0:7946"},
		Log:    LogConfig{Level: "info", Format: "json"},
	}
}

// newInstanceConfig holds the defaults of an instance.
func newInstanceConfig() InstanceConfig {
	return InstanceConfig{Driver: "http"}
}

// UnmarshalYAML decodes over the defaults.
func (i *InstanceConfig) UnmarshalYAML(node ast.Node) error {
	type plain InstanceConfig
	*i = newInstanceConfig()
	return yaml.NodeToValue(node, (*plain)(i), yaml.DisallowUnknownField())
}

// loadAgentConfig reads and checks agent.yaml; errors are usage errors with
// line and column. The bundle is read by loadBundle.
func loadAgentConfig(path string) (*AgentConfig, error) {
	c := newAgentConfig()
	c.file = path
	if err := loadYAML(path, c); err != nil {
		return nil, err
	}
	c.Bundle, c.State = resolve(path, c.Bundle), resolve(path, c.State)
	return c, nil
}

// MaxInstances is the largest number of instances of one agent.
const MaxInstances = 256

// check implements checkable.
func (c *AgentConfig) check() []problem {
	var p problems
	p.required("bundle", c.Bundle)
	p.required("state", c.State)
	if len(c.Instances) == 0 || len(c.Instances) > MaxInstances {
		p.add("instances", "%d instances: want 1 to %d", len(c.Instances), MaxInstances)
	}
	seen := map[string]string{}
	for i, in := range c.Instances {
		at := fmt.Sprintf("instances[%d]", i)
		in.check(&p, at)
		for what, value := range map[string]string{"name": in.Name, "address": in.Address, "base": in.Base} {
			if before, twice := seen[what+value]; twice && value != "" {
				p.add(at+"."+what, "%q stands twice, first in %s", value, before)
			}
			seen[what+value] = at
		}
	}
	for i, g := range c.Gateways {
		p.address(fmt.Sprintf("gateways[%d]", i), g)
	}
	p.address("gossip.listen", c.Gossip.Listen)
	if c.Gossip.Advertise != "" {
		p.address("gossip.advertise", c.Gossip.Advertise)
	}
	if c.Metrics != "" {
		p.address("metrics", c.Metrics)
	}
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "json", "console")
	return p
}

func (i *InstanceConfig) check(p *problems, at string) {
	p.required(at+".service", i.Service)
	p.name(at+".service", i.Service)
	p.required(at+".name", i.Name)
	p.name(at+".name", i.Name)
	p.oneOf(at+".driver", i.Driver, "http", "exec", "postgres", "redis")
	p.endpoint(at+".address", i.Address)
	if (i.Driver == "postgres") != (i.Postgres != nil) {
		p.add(at+".postgres", "stands exactly with driver: postgres")
	}
	if (i.Driver == "redis") != (i.Redis != nil) {
		p.add(at+".redis", "stands exactly with driver: redis")
	} else if i.Redis != nil {
		p.required(at+".redis.file", i.Redis.File)
	}
	if (i.Driver == "exec") != (i.Exec != nil) {
		p.add(at+".exec", "stands exactly with driver: exec")
	}
	if i.Exec != nil {
		i.Exec.check(p, at+".exec", *i)
	}
	if i.Driver != "http" {
		return
	}
	p.required(at+".base", i.Base)
	base, err := url.Parse(i.Base)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		p.add(at+".base", "%q: want an http:// or https:// URL without query, as http://127.0.0.1:8081/signalbox", i.Base)
	}
}

// loadBundle reads the bundle and checks the file against it. What differs is a
// usage error that points into the file.
func (c *AgentConfig) loadBundle() (*identity.Bundle, error) {
	b, err := identity.Load(c.Bundle)
	if err != nil {
		return nil, problems{{"bundle", err.Error()}}.inFile(c.file)
	}
	if b.Self.Role != rpc.RoleAgent {
		return nil, problems{{"bundle", fmt.Sprintf("it is the bundle of %s: want an agent's", b.Self)}}.inFile(c.file)
	}
	return b, nil
}

// gateways are the rpc addresses that the agent connects to.
func (c *AgentConfig) gateways(b *identity.Bundle) []string {
	if len(c.Gateways) > 0 {
		return c.Gateways
	}
	var out []string
	for _, g := range b.Gateways() {
		out = append(out, g.RPC)
	}
	return out
}
