package main

import (
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/xds/resource"
)

// GatewayConfig is gateway.yaml.
type GatewayConfig struct {
	Bundle string `yaml:"bundle" required:"true" doc:"directory that signalbox keys made for this gateway; relative paths count from this file's folder"`
	State  string `yaml:"state" required:"true" doc:"directory for the journal; it must survive restarts and be on a disk that honours fsync"`

	Cluster    string `yaml:"cluster" doc:"name of the cluster; checked against the bundle"`
	DataCenter string `yaml:"data_center" doc:"data center of this gateway; checked against the bundle"`
	Name       string `yaml:"name" doc:"name of this gateway; checked against the bundle"`
	Voter      *bool  `yaml:"voter" doc:"whether this gateway votes; checked against the bundle"`

	Listen      ListenConfig       `yaml:"listen" doc:"where this gateway listens, host:port each; default: its addresses in the bundle's cluster.json"`
	Services    []ServiceConfig    `yaml:"services" doc:"the services whose mastership this cluster moves; the same on all gateways"`
	DataCenters []DataCenterConfig `yaml:"data_centers" doc:"addresses that differ from the bundle's cluster.json; the same on all gateways"`
	Timing      TimingConfig       `yaml:"timing" doc:"bounds of a handover that are not a service's own"`
	Log         LogConfig          `yaml:"log" doc:"what is logged and how"`

	file string
}

// ListenConfig says where a gateway listens.
type ListenConfig struct {
	RPC       string `yaml:"rpc" doc:"for agents and other gateways (gRPC, mutual TLS)"`
	XDS       string `yaml:"xds" doc:"for proxies (xDS, mutual TLS)"`
	API       string `yaml:"api" doc:"for people and the command line (REST, mutual TLS)"`
	GossipLAN string `yaml:"gossip_lan" doc:"the data center's gossip pool (TCP and UDP, encrypted)"`
	GossipWAN string `yaml:"gossip_wan" doc:"the gateways' gossip pool (TCP and UDP, encrypted)"`
	Metrics   string `yaml:"metrics" doc:"Prometheus metrics (HTTP without TLS)"`
	Parking   string `yaml:"parking" doc:"where proxyless gRPC clients wait during a hold"`
}

func (l *ListenConfig) addresses() map[string]*string {
	return map[string]*string{
		"rpc": &l.RPC, "xds": &l.XDS, "api": &l.API, "gossip_lan": &l.GossipLAN, "gossip_wan": &l.GossipWAN,
		"metrics": &l.Metrics, "parking": &l.Parking,
	}
}

// ServiceConfig is one service.
type ServiceConfig struct {
	Name        string          `yaml:"name" required:"true" doc:"name of the service"`
	Protocol    string          `yaml:"protocol" enum:"http,http2,grpc,tcp" default:"http" doc:"what the service speaks with its callers"`
	Listener    *ListenerConfig `yaml:"listener" doc:"where proxies accept the service's callers; leave it out when they have listeners of their own"`
	DataCenters []string        `yaml:"data_centers" doc:"data centers that can be master; default: all"`
	HoldBudget  Duration        `yaml:"hold_budget" default:"5s" doc:"longest interruption by a handover before it is given up, at most 15s"`
	HoldTimeout Duration        `yaml:"hold_timeout" default:"30s" doc:"how long proxies park a request: at least hold_budget + timing.agreement_timeout + timing.margin; at most 60s for tcp"`
	Mode        string          `yaml:"mode" enum:"manage,observe" default:"manage" doc:"observe watches a service without ever moving it"`
	Drain       string          `yaml:"drain" enum:"wait,cut,abort" default:"wait" doc:"what becomes of streams (upgraded connections, event streams) that outlive the drain of requests: wait for them until the hold budget is used up, cut them, or abort the handover at once"`
	Singleton   bool            `yaml:"singleton" default:"false" doc:"only one instance of the master data center serves, not all: for databases, say"`

	Failover *FailoverConfig `yaml:"failover" doc:"what a failover may count beside acks and leaves"`

	Rules     *RulesConfig `yaml:"rules" doc:"safety rules: what has to hold before a handover begins"`
	DependsOn []string     `yaml:"depends_on" doc:"services that an evacuation moves before this one"`

	ConnectTimeout Duration `yaml:"connect_timeout" default:"5s" doc:"bound of one connection attempt of a proxy to an instance"`
	RequestTimeout Duration `yaml:"request_timeout" default:"0s" doc:"bound of a request from its end of stream in the proxies; 0s is none"`
}

// ListenerConfig is where proxies accept a service's callers.
type ListenerConfig struct {
	Address string `yaml:"address" default:"0.0.0.0" doc:"IP address on the proxies' machines"`
	Port    uint16 `yaml:"port" required:"true" doc:"port on the proxies' machines"`
}

// DataCenterConfig overrides addresses of a data center's gateways.
type DataCenterConfig struct {
	Name     string             `yaml:"name" required:"true" doc:"name of the data center"`
	Gateways []GatewayAddresses `yaml:"gateways" required:"true" doc:"gateways whose addresses differ"`
}

// GatewayAddresses is where others reach one gateway.
type GatewayAddresses struct {
	Name         string `yaml:"name" required:"true" doc:"name of the gateway"`
	ListenConfig `yaml:",inline"`
}

// TimingConfig holds bounds that are not a service's own.
type TimingConfig struct {
	AgreementTimeout Duration `yaml:"agreement_timeout" default:"5s" doc:"longest time that agreeing on a block may take"`
	Margin           Duration `yaml:"margin" default:"5s" doc:"what proxies hold longer than a handover and its way back may take"`
}

// LogConfig says what is logged.
type LogConfig struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" default:"info" doc:"least level that is logged"`
	Format string `yaml:"format" enum:"json,console" default:"json" doc:"json: one event per line; console: for a person at a terminal"`
}

// newGatewayConfig holds all defaults.
func newGatewayConfig() *GatewayConfig {
	return &GatewayConfig{
		Timing: TimingConfig{AgreementTimeout: Duration(5 * time.Second), Margin: Duration(5 * time.Second)},
		Log:    LogConfig{Level: "info", Format: "json"},
	}
}

// newServiceConfig holds the defaults of a service.
func newServiceConfig() ServiceConfig {
	return ServiceConfig{
		Protocol: string(resource.HTTP), Mode: "manage", Drain: "wait",
		HoldBudget: Duration(signalbox.DefaultHoldBudget), HoldTimeout: Duration(resource.DefaultHoldTimeout),
		ConnectTimeout: Duration(resource.DefaultConnectTimeout),
	}
}

// UnmarshalYAML decodes over the defaults.
func (s *ServiceConfig) UnmarshalYAML(node ast.Node) error {
	type plain ServiceConfig
	*s = newServiceConfig()
	return yaml.NodeToValue(node, (*plain)(s), yaml.DisallowUnknownField())
}

// newListenerConfig holds the defaults of a listener.
func newListenerConfig() ListenerConfig { return ListenerConfig{Address: "0.0.0.0"} }

// UnmarshalYAML decodes over the defaults.
func (l *ListenerConfig) UnmarshalYAML(node ast.Node) error {
	type plain ListenerConfig
	*l = newListenerConfig()
	return yaml.NodeToValue(node, (*plain)(l), yaml.DisallowUnknownField())
}

// loadGatewayConfig reads and checks gateway.yaml; errors are usage errors with
// line and column. The bundle is read by loadBundle.
func loadGatewayConfig(path string) (*GatewayConfig, error) {
	c := newGatewayConfig()
	c.file = path
	if err := loadYAML(path, c); err != nil {
		return nil, err
	}
	c.Bundle, c.State = resolve(path, c.Bundle), resolve(path, c.State)
	return c, nil
}
