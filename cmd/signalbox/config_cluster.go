package main

import (
	"fmt"
	"strings"

	"github.com/signalbox-io/signalbox"
	"github.com/signalbox-io/signalbox/membership/signature"
	"github.com/signalbox-io/signalbox/rpc/identity"
)

// ClusterConfig is cluster.yaml, what keys init --spec reads.
type ClusterConfig struct {
	Cluster     string                    `yaml:"cluster" required:"true" doc:"name of the cluster"`
	Voters      []string                  `yaml:"voters" doc:"names of the gateways that vote: 1, 3 or more; default: the first gateway"`
	Signatures  string                    `yaml:"signatures" enum:"auto,ed25519-list,bls12381-multi" doc:"how voters sign: auto (default), ed25519-list or bls12381-multi; it cannot be changed later"`
	DataCenters []ClusterDataCenterConfig `yaml:"data_centers" required:"true" doc:"the data centers with their gateways"`
}

// ClusterDataCenterConfig is one data center of a new cluster.
type ClusterDataCenterConfig struct {
	Name     string                 `yaml:"name" required:"true" doc:"name of the data center"`
	Gateways []ClusterGatewayConfig `yaml:"gateways" required:"true" doc:"its gateways"`
}

// ClusterGatewayConfig is where one gateway of a new cluster is reached.
type ClusterGatewayConfig struct {
	Name         string `yaml:"name" required:"true" doc:"name of the gateway, unique in the cluster"`
	Address      string `yaml:"address" doc:"HOST or HOST:PORT; its seven ports follow each other from PORT (7400) on: rpc, xds, api, gossip_lan, gossip_wan, metrics, parking"`
	ListenConfig `yaml:",inline"`
}

func loadClusterConfig(path string) (*ClusterConfig, error) {
	c := &ClusterConfig{}
	return c, loadYAML(path, c)
}

// check implements checkable.
func (c *ClusterConfig) check() []problem {
	var p problems
	p.required("cluster", c.Cluster)
	p.name("cluster", c.Cluster)
	seen := map[string]bool{}
	for i, dc := range c.DataCenters {
		at := fmt.Sprintf("data_centers[%d]", i)
		p.required(at+".name", dc.Name)
		p.name(at+".name", dc.Name)
		if len(dc.Gateways) == 0 {
			p.add(at+".gateways", "a data center needs a gateway")
		}
		for j := range dc.Gateways {
			g := &dc.Gateways[j]
			at := fmt.Sprintf("%s.gateways[%d]", at, j)
			p.required(at+".name", g.Name)
			p.name(at+".name", g.Name)
			if seen[g.Name] {
				p.add(at+".name", "gateway %q stands twice", g.Name)
			}
			seen[g.Name] = true
			p.addresses(at, g.addresses())
			if _, err := g.gateway(); err != nil {
				p.add(at+".address", "%v", err)
			}
		}
	}
	if len(c.DataCenters) == 0 {
		p.add("data_centers", "is missing")
	}
	if _, err := signature.ForNew(c.Signatures, len(c.Voters)); err != nil {
		p.add("signatures", "%q: want %s", c.Signatures, strings.Join(signature.Names(), ", "))
	}
	for i, v := range c.Voters {
		if !seen[v] {
			p.add(fmt.Sprintf("voters[%d]", i), "%q is none of the gateways", v)
		}
	}
	return p
}

func (g *ClusterGatewayConfig) gateway() (identity.Gateway, error) {
	out := identity.Gateway{Name: g.Name}
	if g.Address != "" {
		var err error
		if out, err = gatewayAt(g.Name, g.Address); err != nil {
			return out, err
		}
	}
	to := out.Addresses()
	for what, address := range g.addresses() {
		if *address != "" {
			*to[what] = *address
		}
		if *to[what] == "" {
			return out, fmt.Errorf("want an address, or %s and all others one by one", what)
		}
	}
	return out, nil
}

// spec is what identity.Init takes; the file has been checked.
func (c *ClusterConfig) spec() identity.Spec {
	s := identity.Spec{Cluster: c.Cluster, Voters: c.Voters}
	for _, dc := range c.DataCenters {
		d := identity.DataCenter{Name: signalbox.DataCenter(dc.Name)}
		for i := range dc.Gateways {
			g, _ := dc.Gateways[i].gateway() // checked by check
			d.Gateways = append(d.Gateways, g)
		}
		s.DataCenters = append(s.DataCenters, d)
	}
	return s
}
